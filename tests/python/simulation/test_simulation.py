"""The simulator keeps its word: independent reproducible stores, effects only along true edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalmmm.simulation import PRESETS, SimulationConfig, Truth, simulate, simulate_series

SMALL = SimulationConfig(stores=12, steps=40, archetypes=3)


def histories(data) -> np.ndarray:
    return data.values.reshape(data.n_stores, -1, data.n_nodes)


def hill_of_adstock(series: np.ndarray, decay: float, slope: float, half: float) -> list[float]:
    """Adstock then Hill, one float64 step after another, from a typical level of 1."""
    carried, responses = 1.0, []
    for value in series.tolist():
        carried = decay * carried + (1.0 - decay) * value
        responses.append(carried**slope / (carried**slope + half**slope))
    return responses


def test_same_seed_gives_the_same_panel_and_another_seed_another():
    first, _ = simulate_series(SMALL, seed=3)
    again, _ = simulate_series(SMALL, seed=3)
    other, _ = simulate_series(SMALL, seed=4)
    assert np.array_equal(first.values, again.values)
    assert not np.array_equal(first.values, other.values)


EVERYTHING = {"cycle": 3, "break_at": 0.5, "lag": (1, 4), "demand_on_spend": 0.4}


@pytest.mark.parametrize("more", [{}, EVERYTHING])
@pytest.mark.parametrize("archetypes", [3, 0])
def test_a_store_is_the_same_however_many_are_asked_for(archetypes, more):
    law = SMALL.changed(archetypes=archetypes, steps=12, **more)
    few, few_truth = simulate_series(law, stores=5)
    many, many_truth = simulate_series(law, stores=600)  # more than one chunk
    assert np.array_equal(histories(few), histories(many)[:5])
    assert np.array_equal(few_truth.effects, many_truth.effects[:5])
    assert list(few_truth.stores) == list(many_truth.stores[:5])


def test_no_two_series_of_a_panel_are_alike():
    data, _ = simulate_series("paper-small")
    flat = histories(data).swapaxes(1, 2).reshape(-1, data.grid.size)
    shape = flat / flat.mean(1, keepdims=True)  # a copy on another scale would count as alike
    assert len(np.unique(shape.round(4), axis=0)) == len(flat)
    nearness = np.corrcoef(shape[data.n_nodes - 1 :: data.n_nodes])  # targets of all stores
    assert np.abs(nearness[np.triu_indices(len(nearness), 1)]).max() < 0.99


@pytest.mark.parametrize("preset", ["airmmm", "paper-small", "paper-large"])
def test_series_are_finite_channels_non_negative_and_outcomes_positive(preset):
    data, truth = simulate_series(preset, stores=40)
    values = histories(data)
    channels = truth.config.channels
    assert np.isfinite(values).all()
    assert (values[..., :channels] >= 0).all()
    assert (values[..., channels:] > 0).all()
    assert (values[..., :channels] == 0).any(), "some channels are silent between campaigns"
    assert (values.max(1) > 0).all(), "no channel is silent throughout"


def test_densest_graphs_stay_stable_over_a_long_run():
    everything = {name: 1.0 for name in vars(SMALL) if "_to_" in name}
    data, _ = simulate_series(SMALL, steps=3000, stores=3, **everything)
    first, last = histories(data)[:, :500].mean(1), histories(data)[:, -500:].mean(1)
    assert np.isfinite(data.values).all()
    assert (last < 10 * first).all()


def test_presets_have_the_documented_shapes():
    shapes = {
        name: (law.stores, law.steps, law.n_nodes, law.context)
        for name, law in PRESETS.items()
        if not law.same_step
    }
    assert shapes == {
        "airmmm": (50, 670, 13, 5),
        "paper-small": (300, 100, 8, 2),
        "paper-large": (1000, 200, 20, 2),
        "marketplace": (100_000, 180, 16, 2),
    }
    panel, truth = simulate("airmmm")
    assert panel.nodes == [f"x{k}" for k in range(11)] + ["pv", "gmv"]
    assert list(panel.context_names) == [f"context{k}" for k in range(5)]
    assert panel.n_stores == 50
    assert panel.data.freq == "D"
    assert list(panel.stores) == list(truth.stores) == sorted(truth.stores)


def test_archetypes_are_shared_by_groups_of_stores_or_every_store_has_its_own_graph():
    _, shared = simulate_series(SMALL, stores=60)
    for number in range(3):
        group = shared.edges[shared.archetype == number]
        assert len(group) > 1
        assert (group == group[0]).all()
    assert len(np.unique(shared.edges, axis=0)) == 3
    _, own = simulate_series(SMALL, stores=60, archetypes=0)
    assert len(np.unique(own.edges, axis=0)) == 60


def test_graphs_hold_only_the_kinds_of_edges_that_are_named_and_reach_the_target():
    _, truth = simulate_series("paper-large", stores=200)
    channels = truth.config.channels
    edges = truth.edges
    assert not edges[:, np.arange(20), np.arange(20)].any()
    assert not edges[:, channels:-1, :-1].any(), "mediators drive the target only"
    assert not edges[:, -1, channels:].any(), "the target drives channels only"
    assert edges[..., -1].any(1).all(), "every target has a parent"
    assert 0.1 <= edges.sum() / (200 * 20 * 19) <= 0.25
    assert np.array_equal(edges, truth.effects > 0)


def test_a_shock_to_spend_reaches_exactly_the_children_one_step_later():
    """Spend doubled at one step: the next step differs only where the truth has an edge."""
    _, truth = simulate_series(SMALL, seed=1, sparse=0.0)
    shock = np.ones(SMALL.steps)
    shock[20] = 2.0
    before = truth.history()
    for i, channel in enumerate(truth.channels):
        changed = truth.history(spend={channel: shock}) != before
        assert not changed[:, :20].any()
        assert changed[:, 20, i].all()
        assert not np.delete(changed[:, 20], i, axis=1).any(), "effects take a step"
        others = np.arange(SMALL.n_nodes) != i
        assert np.array_equal(changed[:, 21][:, others], truth.edges[:, i][:, others])


def test_a_shock_arrives_after_the_lag_of_each_pair_and_not_before():
    law = SMALL.changed(sparse=0.0, lag=(2, 9), decay=(0.0, 0.0), own_memory=(0.0, 0.0))
    _, truth = simulate_series(law, seed=1)
    assert len(np.unique(truth.lags)) > 3
    assert (truth.lags >= 2).all()
    assert (truth.lags <= 9).all()
    shock = np.ones(law.steps)
    shock[20] = 2.0
    before = truth.history()
    seen = 0
    for i, channel in enumerate(truth.channels):
        changed = truth.history(spend={channel: shock}) != before
        for j in np.flatnonzero(np.arange(law.n_nodes) != i):
            children = changed[truth.edges[:, i, j], :, j]
            direct = 20 + int(truth.lags[i, j])
            assert children[:, direct].all()
            seen += len(children)
        assert not np.delete(changed, i, axis=2)[:, :22].any()
    assert seen > 50


def test_every_graph_holds_its_cycle_of_channels():
    _, truth = simulate_series(
        SMALL, stores=60, archetypes=0, cycle=3, channel_to_channel=0.0, target_to_channel=0.0
    )
    channels = truth.edges[:, :6, :6].astype(int)
    assert (channels.sum((1, 2)) == 3).all()
    assert (np.trace(channels @ channels @ channels, axis1=1, axis2=2) == 3).all()
    assert len(np.unique(channels, axis=0)) > 20, "not the same cycle everywhere"


@pytest.mark.parametrize("archetypes", [3, 0])
def test_a_break_changes_the_graph_that_shocks_follow(archetypes):
    law = SMALL.changed(sparse=0.0, break_at=0.5, archetypes=archetypes)
    _, truth = simulate_series(law, seed=1)
    earlier = truth.earlier_edges()
    assert (earlier != truth.edges).any((1, 2)).all()
    before = truth.history()
    others = ~np.eye(law.n_nodes, dtype=bool)
    for at, graph in ((10, earlier), (18, earlier), (19, truth.edges), (30, truth.edges)):
        shock = np.ones(law.steps)
        shock[at] = 2.0
        for i, channel in enumerate(truth.channels):
            changed = truth.history(spend={channel: shock})[:, at + 1] != before[:, at + 1]
            assert np.array_equal(changed[:, others[i]], graph[:, i][:, others[i]])


def test_without_a_break_the_earlier_graph_is_the_graph():
    _, truth = simulate_series(SMALL)
    assert np.array_equal(truth.earlier_edges(), truth.edges)


def test_demand_moves_spend_and_outcomes_together_and_no_edge():
    # effects switched off, so that whatever moves together does so because of demand
    off = {name: 0.0 for name in vars(SMALL) if name.startswith("effect_o")}
    law = SMALL.changed(steps=400, sparse=0.0, weekly=0.0, yearly=0.0, trend=0.0, **off)
    plain, plain_truth = simulate_series(law)
    moved, moved_truth = simulate_series(law, demand_on_spend=0.5, demand_on_outcome=0.3)
    assert np.array_equal(plain_truth.edges, moved_truth.edges)

    def together(data) -> np.ndarray:
        x = histories(data)
        # spend follows the demand that raised the target a step before
        pairs = [np.corrcoef(store[1:, 0], store[:-1, -1])[0, 1] for store in x]
        return np.array(pairs)

    assert np.abs(together(plain)).mean() < 0.15
    assert together(moved).mean() > 0.3
    np.testing.assert_array_equal(
        moved_truth.history(noise=True).astype(np.float32), histories(moved)
    )


def test_a_channel_without_a_path_to_the_target_contributes_nothing():
    _, truth = simulate_series(SMALL, stores=40, seed=2)
    reaches = truth.edges.astype(int)
    for _ in range(SMALL.n_nodes):
        reaches = np.minimum(reaches + reaches @ reaches, 1)
    path = reaches[:, : SMALL.channels, -1].astype(bool)
    contribution = truth.contributions()
    assert not path.all()
    assert (contribution.swapaxes(1, 2)[~path] == 0).all()
    assert (contribution.swapaxes(1, 2)[path].sum(1) > 0).all()


def test_responses_equal_an_independent_loop_of_adstock_and_hill():
    data, truth = simulate_series(SMALL)
    relative = histories(data) / truth.levels[:, None]
    responses = truth.responses()
    for store, node in [(0, 0), (5, 3), (7, 6), (11, 7)]:
        expected = hill_of_adstock(
            relative[store, :, node].astype(float),
            float(truth.decay[node]),
            float(truth.slope[store, node]),
            float(truth.half_saturation[store, node]),
        )
        np.testing.assert_allclose(responses[store, :, node], expected, rtol=2e-5)


def test_target_differences_follow_from_the_stated_effects():
    """The joint effect of all channels on the target is the sum over edges of effect x response."""
    law = SMALL.changed(
        channel_to_channel=0.0, channel_to_mediator=0.0, target_to_channel=0.0, sparse=0.0
    )
    _, truth = simulate_series(law, own_memory=(0.0, 0.0))
    off = dict.fromkeys(truth.channels, 0.0)
    level = truth.levels[:, None]
    with_spend, without = truth.history() / level, truth.history(spend=off) / level
    gain = with_spend[..., -1] - without[..., -1]
    for store in range(4):
        expected = np.zeros(SMALL.steps - 1)
        for i in range(SMALL.channels):
            shape = (truth.decay[i], truth.slope[store, i], truth.half_saturation[store, i])
            on, idle = (
                np.array(hill_of_adstock(h[store, :, i], *map(float, shape)))[:-1]
                for h in (with_spend, without)
            )
            expected += truth.effects[store, i, -1] * (on - idle)
        np.testing.assert_allclose(gain[store, 1:], expected, rtol=1e-4, atol=1e-6)


def test_contributions_add_up_where_channels_act_side_by_side():
    side_by_side = {"channel_to_channel": 0.0, "channel_to_mediator": 0.0, "target_to_channel": 0.0}
    _, truth = simulate_series(SMALL, **side_by_side)
    joint = truth.history() - truth.history(spend=dict.fromkeys(truth.channels, 0.0))
    np.testing.assert_allclose(
        truth.contributions().sum(-1), joint[..., -1], rtol=1e-4, atol=1e-4 * joint.max()
    )


def test_contributions_start_a_step_after_the_window_and_never_exceed_the_target():
    _, truth = simulate_series("paper-small", stores=20)
    contribution = truth.contributions()
    assert (contribution[:, 0] == 0).all()
    assert (contribution >= 0).all()
    assert (contribution.max(-1) < truth.history()[..., -1]).all()


def test_marginal_return_predicts_what_a_little_more_spend_brings():
    _, truth = simulate_series(SMALL, seed=5)
    marginal = truth.marginal_returns()
    base = truth.history()
    more = truth.history(spend={"x0": 1.01})
    extra_spend = 0.01 * _exogenous_spend(truth, 0)
    extra_target = (more - base)[..., -1].sum(1)
    np.testing.assert_allclose(extra_target, marginal[:, 0] * extra_spend, rtol=0.02, atol=1e-3)


def _exogenous_spend(truth: Truth, channel: int) -> np.ndarray:
    """Total spend that falls away when the channel's own spend is switched off."""
    name = truth.channels[channel]
    return (truth.history() - truth.history(spend={name: 0.0}))[..., channel].sum(1)


def test_context_moves_saturation_and_can_be_switched_off():
    _, moved = simulate_series(SMALL)
    _, fixed = simulate_series(SMALL, context_strength=0.0)
    assert moved.half_saturation.std(0).min() > 0.05
    assert (fixed.half_saturation == fixed.half_saturation[0]).all()
    assert (fixed.slope == fixed.slope[0]).all()


def test_a_plan_without_what_others_induce_is_all_that_is_spent():
    data, truth = simulate_series("airmmm", seed=3, stores=2, steps=60)
    channels = len(truth.channels)
    plan = np.stack([data.values[s : s + 60, :channels] for s in data.offsets[:-1]]).astype(float)
    whole = truth.history_under(plan, induced=False)
    np.testing.assert_allclose(whole[..., :channels], plan)
    assert (truth.history_under(plan)[..., :channels].sum() > plan.sum()).all()


def test_panel_equals_the_noisy_history_of_its_truth():
    data, truth = simulate_series(SMALL)
    np.testing.assert_array_equal(truth.history(noise=True).astype(np.float32), histories(data))


def test_asking_for_some_stores_gives_their_rows_of_the_whole():
    _, truth = simulate_series(SMALL, stores=600, steps=10)
    chosen = [truth.stores[k] for k in (599, 3, 520)]
    rows = [599, 3, 520]
    assert np.array_equal(truth.contributions(chosen), truth.contributions()[rows])
    assert np.array_equal(truth.select(chosen).edges, truth.edges[rows])
    assert np.array_equal(truth.select(chosen).contributions(), truth.contributions()[rows])


def test_frames_name_stores_series_and_dates():
    _, truth = simulate_series(SMALL)
    edges = truth.edges_frame()
    assert list(edges.columns) == ["store", "source", "target", "edge", "effect"]
    assert len(edges) == 12 * 8 * 7
    row = edges[(edges.store == truth.stores[4]) & (edges.source == "x2") & (edges.target == "gmv")]
    assert row.edge.item() == truth.edges[4, 2, 7]
    assert row.effect.item() == truth.effects[4, 2, 7]
    parts = truth.contributions_frame([truth.stores[4]])
    assert list(parts.columns) == ["store", "date", "channel", "contribution"]
    last = parts[(parts.channel == "x2") & (parts.date == truth.config.dates[-1])]
    assert last.contribution.item() == truth.contributions()[4, -1, 2]


def test_truth_survives_saving_and_loading(tmp_path):
    _, truth = simulate_series(SMALL, seed=9, **EVERYTHING)
    loaded = Truth.load(truth.save(tmp_path / "truth"))
    assert loaded.config == truth.config
    assert list(loaded.nodes) == list(truth.nodes)
    assert np.array_equal(loaded.edges, truth.edges)
    assert np.array_equal(loaded.half_saturation, truth.half_saturation)
    assert np.array_equal(loaded.contributions(), truth.contributions())
    assert sorted(p.name for p in (tmp_path / "truth").iterdir()) == ["truth.json", "truth.npz"]


def test_a_truth_of_another_format_is_refused(tmp_path):
    _, truth = simulate_series(SMALL)
    header = truth.save(tmp_path) / "truth.json"
    header.write_text(header.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(ValueError, match="format 99"):
        Truth.load(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "paper"}, "unknown preset 'paper'"),
        ({"preset": "airmmm", "colour": 3}, "unknown setting colour"),
        ({"preset": "airmmm", "stores": 0}, "stores is 0"),
        ({"preset": "airmmm", "freq": "H"}, "freq is 'H'"),
        ({"preset": "airmmm", "cycle": 12}, "cycle is 12"),
        ({"preset": "airmmm", "break_at": 1.0}, "break_at is 1.0"),
        ({"preset": "airmmm", "break_at": 0.5, "archetypes": 1}, "needs another graph"),
        ({"preset": "airmmm", "lag": (0, 3)}, "lag is"),
        ({"preset": "airmmm", "freq": "W-MON"}, "begin on a Monday"),
    ],
)
def test_impossible_requests_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        simulate(**arguments)


def test_weekly_panels_step_by_mondays():
    data, _ = simulate_series(SMALL, freq="W-MON")
    assert (np.diff(data.grid) == np.timedelta64(7, "D")).all()
    assert all(date.weekday() == 0 for date in data.grid.tolist())


@settings(max_examples=15, deadline=None)
@given(
    channels=st.integers(1, 5),
    mediators=st.integers(0, 3),
    context=st.integers(0, 3),
    archetypes=st.integers(0, 4),
    steps=st.integers(2, 12),
    seed=st.integers(0, 2**31),
)
def test_any_shape_draws_finite_stores_with_consistent_truth(
    channels, mediators, context, archetypes, steps, seed
):
    data, truth = simulate_series(
        SMALL.changed(
            stores=3,
            steps=steps,
            channels=channels,
            mediators=mediators,
            context=context,
            archetypes=archetypes,
        ),
        seed=seed,
    )
    n = channels + mediators + 1
    assert histories(data).shape == (3, steps, n)
    assert data.context.shape == (3, context)
    assert data.roles[-1] == "target"
    assert len(set(truth.nodes)) == n
    assert np.isfinite(data.values).all()
    assert truth.edges[..., -1].any(1).all()
