"""Laws for pretraining: reproducible panels whose graphs are those that moved the series."""

from __future__ import annotations

import numpy as np
import pytest

from causalmmm.simulation.laws import HELD_OUT, TRAINING, draw_law
from causalmmm.simulation.laws import marketing as marketing_laws
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
    assert len(data.grid) == data.lengths[0] >= 40
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
