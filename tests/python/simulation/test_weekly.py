"""Weekly laws: effects within a step by role order, and counterfactuals known path by path."""

from __future__ import annotations

import dataclasses
import json
from math import exp

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from causalmmm.cli import app
from causalmmm.simulation import PRESETS, SimulationConfig, Truth, simulate, simulate_series
from causalmmm.simulation.draw import draw_chunk, draw_shared
from causalmmm.simulation.process import SATURATIONS, Stores, run

WEEKLY = PRESETS["weekly-mmm"].changed(stores=5, steps=40)
WEEKLY_NAMES = ("weekly-mmm", "weekly-national", "weekly-wide", "weekly-foreign")


def histories(data) -> np.ndarray:
    return data.values.reshape(data.n_stores, -1, data.n_nodes)


# Values of draws as revision 071e459 made them: seed 7, 3 stores, 60 steps. Numbers rather than a
# hash, because the last bit of exp and log depends on the processor.
EARLIER = [
    ("airmmm", {}, (128.115295, 12683.5371, 7035.61963, 4675709.75, 1054097.83, 36.8160126)),
    ("paper-small", {}, (104.165627, 2691.31128, 2104.31958, 1236888.27, 85314.1126, 19.7072298)),
    (
        "paper-small",
        {"cycle": 3, "break_at": 0.5, "lag": (1, 4), "demand_on_spend": 0.4},
        (236.152664, 5171.3877, 2243.12988, 1488201.47, 127424.928, 29.0259908),
    ),
]


@pytest.mark.parametrize(("preset", "changes", "expected"), EARLIER)
def test_daily_presets_draw_what_they_drew_before_the_weekly_ones(preset, changes, expected):
    data, truth = simulate_series(preset, seed=7, stores=3, steps=60, **changes)
    x = histories(data).astype(float)
    contribution, effects = (a.astype(float) for a in (truth.contributions(), truth.effects))
    found = (x[0, 0, 0], x[1, 30, -1], x[2, 59, -2], x.sum(), contribution.sum(), effects.sum())
    np.testing.assert_allclose(found, expected, rtol=2e-7)
    assert data.controls.shape == (180, 0)
    assert (truth.lags >= 1).all()


def test_a_truth_saved_before_the_weekly_laws_is_read(tmp_path):
    _, truth = simulate_series("paper-small", seed=4, stores=3, steps=20)
    header = truth.save(tmp_path) / "truth.json"
    saved = json.loads(header.read_text())
    for name in (
        *("mediator_to_mediator", "routes", "shared_campaigns", "saturation", "carryover"),
        *("weibull_shape", "weibull_steps", "carry_in", "same_step", "controls", "control_effect"),
        *("control_memory", "multiplicative", "level_shift", "level_shift_at"),
        *("level_shift_stores", "level_shift_flag", "level_spread"),
    ):
        del saved["config"][name]
    header.write_text(json.dumps(saved))
    loaded = Truth.load(tmp_path)
    assert loaded.config == truth.config
    assert np.array_equal(loaded.contributions(), truth.contributions())


@pytest.mark.parametrize("name", WEEKLY_NAMES)
def test_a_weekly_truth_survives_saving_and_loading(tmp_path, name):
    _, truth = simulate_series(name, seed=2, stores=1, steps=30)
    loaded = Truth.load(truth.save(tmp_path))
    assert loaded.config == truth.config
    assert np.array_equal(loaded.lags, truth.lags)
    for method in ("contributions", "direct_contributions", "control_effects", "responses"):
        assert np.array_equal(getattr(loaded, method)(), getattr(truth, method)())


def test_weekly_presets_have_the_documented_shapes_and_share_of_media():
    shapes = {}
    for name in WEEKLY_NAMES:
        panel, truth = simulate(name)
        law = truth.config
        shapes[name] = (panel.n_stores, law.steps, law.channels, law.mediators)
        some = truth.stores[:2].tolist()
        frame = truth.paths_frame(some)
        media = frame.loc[frame.channel == "all channels", "total"].sum()
        assert 0.15 < media / histories(panel.data)[: len(some), :, -1].sum() < 0.45
        assert panel.data.freq == "W-MON"
        assert panel.schema.known_controls == ["control0", "control1"]
    assert shapes == {
        "weekly-mmm": (8, 156, 8, 1),
        "weekly-national": (1, 104, 4, 1),
        "weekly-wide": (50, 208, 30, 2),
        "weekly-foreign": (8, 156, 8, 1),
    }


def test_channels_are_flighted_or_always_on_and_stores_differ_in_size():
    data, truth = simulate_series("weekly-mmm", stores=40)
    silent = (histories(data)[..., :8] == 0).mean(1)
    assert ((silent > 0).all(0) | (silent == 0).all(0)).all()
    assert (silent > 0).all(0).sum() == 4
    assert np.log(truth.levels[:, -1]).std() > 0.3


def tiny_store() -> Stores:
    """One store of x -> pv -> gmv and x -> gmv over two steps, in round numbers."""
    nothing = np.zeros((1, 0))
    effects = np.zeros((1, 3, 3))
    effects[0, 0] = [0.0, 0.5, 0.3]
    effects[0, 1, 2] = 0.4
    return Stores(
        exogenous=np.array([[[2.0, 1.0, 1.0]], [[0.0, 1.0, 1.0]]]),
        active=np.ones((2, 1, 3)),
        noise=np.zeros((2, 1, 3)),
        effects=effects,
        earlier_effects=effects,
        turn=0,
        lag=np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1]]),
        decay=np.array([0.5, 0.0, 0.0]),
        own_memory=np.zeros(3),
        kernel=None,
        carry_in=np.array([0.0, 1.0, 1.0]),
        slope=np.ones((1, 3)),
        half_saturation=np.ones((1, 3)),
        saturation="hill",
        levels=np.ones((1, 3)),
        floor=np.zeros(3),
        archetype=np.zeros(1, dtype=np.int64),
        context=nothing,
        controls=np.zeros((2, 1, 0)),
        control_effects=nothing,
        channels=1,
    )


def test_a_step_of_a_tiny_store_computed_by_hand():
    # x = 2, 0 with decay 1/2 from nothing: carried 1, 1/2, so responses 1/2, 1/3.
    # pv = 1 + 1/2 * (1/2, 1/3) = 5/4, 7/6; its responses 5/9, 7/13.
    # gmv = 1 + 3/10 * (1/2, 1/3) + 4/10 * (5/9, 7/13).
    whole = run(tiny_store(), noise=False)[:, 0]
    np.testing.assert_allclose(whole[:, 0], [2, 0])
    np.testing.assert_allclose(whole[:, 1], [5 / 4, 7 / 6])
    np.testing.assert_allclose(whole[:, 2], [1 + 3 / 20 + 2 / 9, 1 + 1 / 10 + 14 / 65])
    # Without x: pv stays 1, responds 1/2, and gmv = 1 + 4/10 * 1/2. With pv held: 3/10 of x's.
    off = np.array([0.0, 1.0, 1.0])
    without = run(tiny_store(), noise=False, multiplier=off)[:, 0]
    np.testing.assert_allclose(without, [[0, 1, 1.2], [0, 1, 1.2]])
    held = run(tiny_store(), noise=False, multiplier=off, held=whole[:, None])[:, 0]
    np.testing.assert_allclose(whole[:, 2] - held[:, 2], [3 / 20, 1 / 10])


EVERY_PAIR = {
    name: 1.0
    for name in vars(SimulationConfig())
    if "_to_" in name and not name.startswith("effect")
}


def test_nothing_acts_within_a_step_against_the_order_of_roles():
    law = WEEKLY.changed(routes=(), mediators=3, sparse=0.0, **EVERY_PAIR)
    shared = draw_shared(law, 1)
    drawn = draw_chunk(law, shared, 1, 0, law.stores)
    n, before = law.n_nodes, run(drawn, noise=False)
    rank = np.array([0] * 8 + [1, 2, 3, 4])
    for i in range(n):
        shock = np.ones((law.steps, 1, n))
        shock[20, 0, i] = 1.5
        changed = run(drawn, noise=False, multiplier=shock) != before
        assert not changed[:20].any()
        later = rank > rank[i]
        assert changed[20][:, later].all(), "effects arrive within the step"
        assert not np.delete(changed[20][:, ~later], [np.sum(~later[:i])], axis=1).any()
        others = np.arange(n) != i
        driven = shared.graphs[0][i] & ~later
        assert changed[21][:, others & driven].all(), "all other effects take a step"


def test_lags_are_zero_exactly_where_roles_order_a_pair():
    _, truth = simulate_series("weekly-wide", stores=1, steps=10)
    lag, rank = truth.lags, np.array([0] * 30 + [1, 2, 3])
    assert np.array_equal(lag == 0, rank[:, None] < rank[None, :])
    assert np.array_equal(lag[lag > 0], np.ones((lag > 0).sum()))


def test_an_absent_edge_has_no_influence_within_the_step():
    _, truth = simulate_series(WEEKLY.changed(sparse=0.0), seed=3)
    shock = np.ones(WEEKLY.steps)
    shock[20] = 2.0
    before = truth.history()
    for i, channel in enumerate(truth.channels):
        changed = (truth.history(spend={channel: shock}) != before)[:, 20]
        through = truth.edges[:, i, 8] & truth.edges[:, 8, 9]
        assert np.array_equal(changed[:, 8], truth.edges[:, i, 8])
        assert np.array_equal(changed[:, 9], truth.edges[:, i, 9] | through)
        assert not np.delete(changed[:, :8], i, axis=1).any()


def test_channels_act_directly_through_the_mediator_or_both():
    _, truth = simulate_series("weekly-mmm", seed=1)
    direct, mediated = truth.edges[0, :8, -1], truth.edges[0, :8, 8]
    assert (direct & ~mediated).sum() == 4
    assert (mediated & ~direct).sum() == 2
    assert (direct & mediated).sum() == 2
    assert truth.edges[:, 8, 9].all()
    assert not truth.edges[:, :, :8].any(), "nothing drives spend"
    frame = truth.paths_frame()
    for i, name in enumerate(truth.channels):
        rows = frame[frame.channel == name]
        assert ((rows.direct > 0) == direct[i]).all()
        assert ((rows.indirect > 1e-9 * rows.total) == mediated[i]).all()


def test_direct_indirect_and_interaction_add_up_to_the_joint_counterfactual():
    _, truth = simulate_series(WEEKLY, seed=1)
    frame = truth.paths_frame([truth.stores[3], truth.stores[0]])
    assert list(frame.columns) == ["store", "channel", "direct", "indirect", "total"]
    assert list(frame.channel[:10]) == [*truth.channels, "interaction", "all channels"]
    np.testing.assert_allclose(frame.direct + frame.indirect, frame.total)
    off = dict.fromkeys(truth.channels, 0.0)
    joint = (truth.history() - truth.history(spend=off))[..., -1].sum(1)
    for store, number in ((truth.stores[3], 3), (truth.stores[0], 0)):
        rows = frame[frame.store == store].set_index("channel")
        np.testing.assert_allclose(rows.total["all channels"], joint[number])
        np.testing.assert_allclose(rows.total[:-1].sum(), rows.total["all channels"])
        np.testing.assert_allclose(rows.direct[:-1].sum(), rows.direct["all channels"])
        totals = truth.contributions([store])[0].sum(0)
        np.testing.assert_allclose(rows.total[list(truth.channels)], totals, rtol=1e-5)
        directs = truth.direct_contributions([store])[0].sum(0)
        np.testing.assert_allclose(rows.direct[list(truth.channels)], directs, rtol=1e-5)
    assert frame[frame.channel == "interaction"].total.abs().min() > 0


def test_contributions_begin_with_the_window_and_are_those_of_a_plain_regression():
    """A direct channel contributes effect x response of its own spend, from the first week on."""
    data, truth = simulate_series(WEEKLY, seed=1)
    responses, parts = truth.responses(), truth.contributions()
    only = truth.edges[0, :8, -1] & ~truth.edges[0, :8, 8]
    gain = truth.effects[:, :8, -1] * truth.levels[:, -1:]
    expected = gain[:, None] * responses[..., :8]
    np.testing.assert_allclose(parts[..., only], expected[..., only], rtol=1e-4, atol=1e-3)
    always = (histories(data)[:, 0, :8] > 0).all(0)
    assert (parts[:, 0][:, always] > 0).all()


def test_controls_raise_the_target_by_what_the_truth_says():
    with_controls, truth = simulate_series(WEEKLY, seed=1)
    _, without = simulate_series(WEEKLY, seed=1, control_effect=0.0)
    columns = with_controls.controls.reshape(5, 40, 2).astype(float)
    expected = (columns * truth.control_effects()[:, None]).sum(-1)
    added = (truth.history() - without.history())[..., -1]
    np.testing.assert_allclose(added, expected, rtol=1e-4, atol=1e-2)
    assert (truth.control_effects() > 0).all()
    assert set(np.unique(columns[..., 1])) == {0.0, 1.0}


@pytest.mark.parametrize("flag", [False, True])
@pytest.mark.parametrize("stores", [0, 1])
def test_a_level_shift_moves_the_baseline_from_its_step_on(stores, flag):
    shift = {"level_shift": -0.2, "level_shift_at": 0.4, "level_shift_stores": stores}
    data, truth = simulate_series(WEEKLY, seed=1, level_shift_flag=flag, **shift)
    _, flat = simulate_series(WEEKLY, seed=1)
    change = (truth.history() - flat.history())[..., -1]
    hit = slice(0, stores or None)
    assert (change[:, :16] == 0).all()
    assert (change[hit, 16:] < 0).all()
    np.testing.assert_allclose(change[hit, 16:], change[hit, 16:17].repeat(24, 1))
    assert stores == 0 or (change[stores:] == 0).all()
    assert np.array_equal(truth.contributions().sum(1) > 0, flat.contributions().sum(1) > 0)
    np.testing.assert_allclose(
        truth.contributions(), flat.contributions(), atol=1e-6 * truth.levels.max()
    )
    if flag:
        shown = data.controls.reshape(5, 40, 3)[..., 2]
        assert np.array_equal(shown == 1, change < 0)
        assert truth.config.control_names == ("control0", "control1", "shift")


def test_demand_moves_spend_within_the_step():
    off = {"effect_on_target": 0.0, "effect_on_mediator": 0.0, "yearly": 0.0, "trend": 0.0}
    law = WEEKLY.changed(steps=600, sparse=0.0, controls=0, **off, demand_memory=0.0)
    data, _ = simulate_series(law, demand_on_spend=0.6, demand_on_outcome=0.2)
    x = histories(data)
    at_once = [np.corrcoef(store[:, 0], store[:, -1])[0, 1] for store in x]
    a_step_later = [np.corrcoef(store[1:, 0], store[:-1, -1])[0, 1] for store in x]
    assert np.mean(at_once) > 0.3
    assert np.abs(np.mean(a_step_later)) < 0.2


def test_foreign_responses_equal_a_loop_of_weibull_weights_and_logarithm():
    data, truth = simulate_series("weekly-foreign", seed=1, stores=2, steps=30)
    kernel = draw_shared(truth.config, 1).kernel
    assert kernel is not None
    np.testing.assert_allclose(kernel.sum(0), 1.0)
    assert not (np.diff(kernel, axis=0) < 0).all(), "no geometric decay"
    relative = histories(data).astype(float) / truth.levels[:, None]
    responses = truth.responses()
    for store, node in ((0, 0), (1, 5)):
        half = float(truth.half_saturation[store, node])
        for t in (0, 3, 29):
            carried = sum(
                kernel[k, node] * relative[store, t - k, node] for k in range(13) if k <= t
            )
            expected = 0.5 * np.log2(1.0 + carried / half)
            np.testing.assert_allclose(responses[store, t, node], expected, rtol=1e-4)


def test_multiplicative_season_scales_effects_too():
    plain = {"sparse": 0.0, "trend": 0.0, "controls": 0, "spend_noise": (0.0, 0.0)}
    law = WEEKLY.changed(steps=104, campaign_lift=0.0, **plain)
    _, truth = simulate_series(law, multiplicative=True, yearly=0.3)
    drawn = draw_chunk(truth.config, draw_shared(truth.config, 0), 0, 0, 5)
    target = drawn.active[..., -1]
    np.testing.assert_allclose(
        drawn.exogenous[..., -1] / target, (drawn.exogenous[..., -1] / target)[:1].repeat(104, 0)
    )
    assert target.std() > 0.1


@pytest.mark.parametrize("name", list(SATURATIONS))
def test_every_saturation_is_nothing_at_nothing_and_half_at_half(name):
    saturate = SATURATIONS[name]
    half = np.array([0.5, 1.0, 2.0])
    slope = np.array([0.8, 1.0, 2.5])
    np.testing.assert_allclose(saturate(half, slope, half), 0.5)
    assert (saturate(np.zeros(3), slope, half) == 0).all()
    if name == "logistic":
        expected = (1 - exp(-2 * np.log(3))) / (1 + exp(-2 * np.log(3)))
        np.testing.assert_allclose(saturate(2 * half, slope, half), expected)


@pytest.mark.parametrize("law", ["weekly-mmm", "weekly-foreign"])
def test_a_weekly_store_is_the_same_however_many_are_asked_for(law):
    more = {"steps": 12, "level_shift": 0.3, "level_shift_flag": True, "demand_on_spend": 0.2}
    few, few_truth = simulate_series(law, stores=3, **more)
    many, many_truth = simulate_series(law, stores=600, **more)
    assert np.array_equal(histories(few), histories(many)[:3])
    assert np.array_equal(few.controls, many.controls[: len(few.controls)])
    some = list(few_truth.stores[1:])
    assert np.array_equal(few_truth.contributions(some), many_truth.contributions(some))


def test_panel_equals_the_noisy_history_of_its_truth():
    for name in ("weekly-mmm", "weekly-foreign"):
        data, truth = simulate_series(name, stores=3)
        history = truth.history(noise=True).astype(np.float32)
        np.testing.assert_array_equal(history, histories(data))


def test_the_command_writes_controls_and_says_that_they_are_known(tmp_path):
    out = tmp_path / "sim"
    done = CliRunner().invoke(
        app, ["simulate", "--preset", "weekly-mmm", "--steps", "30", "-o", str(out), "--quiet"]
    )
    assert done.exit_code == 0, done.output
    table = pd.read_csv(out / "panel.csv")
    panel, _ = simulate("weekly-mmm", steps=30)
    assert {"control0", "control1"} <= set(table.columns)
    np.testing.assert_allclose(table["control0"], panel.data.controls[:, 0], rtol=1e-5)
    assert "future_known: true" in (out / "causalmmm.yml").read_text()
    assert dataclasses.asdict(Truth.load(out / "truth").config)["same_step"] is True


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"routes": (0.5, 0.5)}, "routes is"),
        ({"routes": (0.9, 0.2, 0.1)}, "at most 1 together"),
        ({"mediators": 0}, "without a mediator"),
        ({"saturation": "tanh"}, "saturation is 'tanh'"),
        ({"carryover": "delayed"}, "carryover is 'delayed'"),
        ({"controls": -1}, "controls must not"),
        ({"level_shift_at": 1.5}, "level_shift_at is 1.5"),
    ],
)
def test_impossible_weekly_laws_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        simulate_series("weekly-mmm", **changes)
