"""Laws for pretraining: reproducible panels whose graphs are those that moved the series."""

from __future__ import annotations

import numpy as np
import pytest

from causalmmm.simulation.laws import HELD_OUT, TRAINING, draw_law
from causalmmm.simulation.laws import flow_systems as flow_laws
from causalmmm.simulation.laws import marketing as marketing_laws
from causalmmm.simulation.laws.flaws import _as_it_is, _Process, _stable
from causalmmm.simulation.laws.foreign import _BURN, _run

EVERY = [*TRAINING, *HELD_OUT]


@pytest.mark.parametrize("name", EVERY)
def test_a_law_is_drawn_alike_from_a_seed_and_is_a_proper_panel(name: str) -> None:
    first, again, other = (draw_law(name, seed, 3) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first.data.values, again.data.values)
    np.testing.assert_array_equal(first.edges, again.edges)
    assert first.data.values.shape != other.data.values.shape or not np.array_equal(
        first.data.values, other.data.values
    )
    data, nodes = first.data, first.data.n_nodes
    assert data.n_stores == 3
    assert np.isfinite(data.values).all()
    assert len(data.grid) == data.lengths[0] >= 22
    assert first.edges.shape == (3, nodes, nodes)
    assert not first.edges.diagonal(axis1=1, axis2=2).any()
    assert data.roles[-1] == "target"
    assert not first.positive[:, [role == "channel" for role in data.roles]].any()


def test_a_law_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown law 'weather'; choose from daily"):
        draw_law("weather", 0, 2)


def test_shares_of_training_sum_to_one_and_no_family_is_trained_on_and_held_out() -> None:
    assert sum(share for _, share in TRAINING.values()) == pytest.approx(1.0)
    assert not set(TRAINING) & set(HELD_OUT)


def test_the_held_out_saturation_is_in_no_training_setting() -> None:
    rng = np.random.default_rng(0)
    drawn = [marketing_laws._weekly(rng, channels=(2, 10)) for _ in range(60)]
    drawn += [marketing_laws._settings(rng, same_step=False, channels=(2, 12)) for _ in range(60)]
    assert {settings["saturation"] for settings in drawn} == {"hill", "log"}
    assert {settings["carryover"] for settings in drawn} == {"geometric", "weibull"}


def test_weekly_laws_have_shifts_reactive_spend_controls_pauses_and_any_length() -> None:
    rng = np.random.default_rng(1)
    weeks = [marketing_laws._weekly(rng, channels=(2, 10)) for _ in range(80)]
    for name in ("level_shift", "demand_on_spend", "controls", "multiplicative", "sparse"):
        present = [bool(settings[name]) for settings in weeks]
        assert any(present), name
    assert min(settings["steps"] for settings in weeks) < 60
    assert max(settings["steps"] for settings in weeks) > 200
    assert all(settings["same_step"] for settings in weeks)


def test_autoregressions_follow_their_recursion_also_within_the_step() -> None:
    rng = np.random.default_rng(2)
    weights = rng.uniform(-0.4, 0.4, (1, 3, 3, 3))
    rank = np.array([0, 0, 1])
    weights[0, 0] = 0.0
    weights[0, 0, :2, 2] = (0.5, -0.3)  # the first two act on the third within the step
    noise = rng.standard_normal((1, _BURN + 6, 3))
    memory = np.array([0.2, 0.0, 0.5])
    shape = [np.tanh, np.sin, np.tanh]
    x = np.zeros((_BURN + 6, 3))
    for t in range(len(x)):
        for j in range(3):
            value = noise[0, t, j] + (memory[j] * x[t - 1, j] if t else 0.0)
            for lag in (0, 1, 2):
                for i in range(3):
                    if t >= lag:
                        value += weights[0, lag, i, j] * shape[i](x[t - lag, i])
            x[t, j] = value
    np.testing.assert_allclose(_run(weights, shape, memory, noise, rank)[0], x[_BURN:])


def test_edges_of_a_foreign_law_show_in_a_regression_on_the_past() -> None:
    """Published law: lags of true parents explain their receivers far better than other series."""
    draw = draw_law("published", 0, 4)
    x = draw.data.values.reshape(4, 100, 8).astype(float)
    x -= x.mean(1, keepdims=True)
    gains: dict[bool, list[float]] = {True: [], False: []}
    for s in range(4):
        past = np.concatenate([x[s, 7 - k : 100 - k] for k in range(1, 8)], axis=1)
        for j in range(8):
            whole = _rss(past, x[s, 7:, j])
            for i in set(range(8)) - {j}:
                without = np.delete(past, [i + 8 * k for k in range(7)], axis=1)
                gains[bool(draw.edges[s, i, j])].append(_rss(without, x[s, 7:, j]) / whole)
    assert np.median(gains[True]) > 2.0 * np.median(gains[False])


def _rss(columns: np.ndarray, outcome: np.ndarray) -> float:
    left = outcome - columns @ np.linalg.lstsq(columns, outcome, rcond=None)[0]
    return float(left @ left)


def test_months_are_sums_of_whole_weeks_and_lengths_are_those_of_marketers() -> None:
    draw = draw_law("monthly", 3, 2)
    data = draw.data
    assert data.freq == "MS"
    months = data.grid.astype("datetime64[M]")
    assert (np.diff(months).astype(int) == 1).all()
    assert (data.grid == months.astype("datetime64[D]")).all()
    rng = np.random.default_rng(3)
    weeks = marketing_laws.simulate_series(
        marketing_laws.SimulationConfig(name="law", stores=1, **marketing_laws._weekly(rng, (3, 3)))
    )[0]
    summed = marketing_laws._by_month(weeks)
    inside = np.isin(weeks.grid.astype("datetime64[M]"), summed.grid.astype("datetime64[M]"))
    np.testing.assert_allclose(summed.values.sum(0), weeks.values[inside].sum(0), rtol=1e-4)


def test_flawed_autoregressions_follow_their_recursion_within_the_step_too() -> None:
    rng = np.random.default_rng(5)
    edges = np.zeros((1, 3, 3), bool)
    edges[0, 0, 1] = edges[0, 1, 2] = True
    at_once = np.zeros((1, 3, 3))
    at_once[0, 0, 1] = 0.7
    lagged = _stable(rng, edges, at_once, 2)
    noise = rng.standard_normal((1, 60 + 8, 3))
    x, lags = np.zeros((68, 3)), lagged.shape[2]
    for t in range(68):
        phase = 0 if t < 60 + 4 else 1
        x[t] = noise[0, t]
        for lag in range(1, min(lags, t) + 1):
            x[t] += x[t - lag] @ lagged[phase, 0, lag - 1]
        x[t, 1] += 0.7 * x[t, 0]
    found = _Process(lagged, at_once, _as_it_is).run(noise)
    np.testing.assert_allclose(found[0], x[60:], rtol=1e-9)


def test_autoregressions_with_flaws_are_stable() -> None:
    rng = np.random.default_rng(6)
    for _ in range(20):
        edges = rng.random((2, 6, 6)) < 0.3
        edges[:, np.arange(6), np.arange(6)] = False
        at_once = np.triu(rng.uniform(-0.5, 0.5, (2, 6, 6)), 1)
        lagged = _stable(rng, edges, at_once, 1)[0]
        for weights, now in zip(lagged, at_once, strict=True):
            lags = len(weights)
            companion = np.eye(6 * lags, k=6)
            companion[:, :6] = weights.reshape(-1, 6) @ np.linalg.inv(np.eye(6) - now)
            assert np.abs(np.linalg.eigvals(companion)).max() < 0.98
        assert not (lagged != 0).any((0, 1))[~(edges.any(0) | np.eye(6, dtype=bool))].any()


def test_triads_make_no_energy_of_their_own() -> None:
    """Without forcing, damping and noise a turbulent flow keeps its sum of squares."""
    for seed in range(5):
        edges, slope, _, _ = flow_laws._triads(np.random.default_rng(seed), 2, 6)
        x = np.random.default_rng(seed).standard_normal((2, 6))
        at_rest, moved = slope(0.0 * x, x)[0], slope(x, x)[0]
        doubled = slope(2 * x, x)[0]
        # products alone: what is linear and constant cancels in f(2x) - 2 f(x) + f(0)
        products = (doubled - 2 * moved + at_rest) / 2
        np.testing.assert_allclose((x * products).sum(1), 0.0, atol=1e-9)
        assert edges.shape == (2, 6, 6)
        assert not edges[:, np.arange(6), np.arange(6)].any()
