"""Scenarios are the laws they are named for, with exact truth, the same whoever draws them."""

from __future__ import annotations

import numpy as np
import pytest
from bench.lib.scenarios import SCENARIOS, draw, published_law


def series(dataset) -> np.ndarray:
    panel = dataset.panel
    return panel.data.values.reshape(panel.n_stores, -1, len(panel.nodes)).astype(float)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_is_drawn_again_from_its_seed(name):
    first, again, other = (draw(name, seed, stores=6) for seed in (1, 1, 2))
    assert np.array_equal(series(first), series(again))
    assert np.array_equal(first.edges, again.edges)
    assert not np.array_equal(series(first), series(other))
    assert np.isfinite(series(first)).all()
    assert first.edges.shape == (6, len(first.panel.nodes), len(first.panel.nodes))
    assert not first.edges[:, np.arange(8), np.arange(8)].any()
    assert first.edges[..., -1].any(1).all(), "every target has a parent"
    assert set(first.declared) <= {"signed"}, "a user knows no lags and no graph"


@pytest.mark.parametrize("name", sorted(set(SCENARIOS) - {"missing", "published-law"}))
def test_truth_reproduces_the_panel(name):
    dataset = draw(name, 0, stores=5)
    history = dataset.truth.history(noise=True).astype(np.float32)
    np.testing.assert_array_equal(history, series(dataset).astype(np.float32))


def test_usual_sizes_are_small_enough_for_a_night():
    for name, scenario in SCENARIOS.items():
        law = scenario.law
        stores, steps = series(draw(name, 0)).shape[:2] if law is None else (law.stores, law.steps)
        assert stores == (1000 if name in ("paper-large", "paper-small-1000") else 300)
        assert 100 <= steps <= 200, scenario


def test_missing_days_are_filled_on_a_straight_line_between_their_neighbours():
    whole, gappy = series(draw("paper-small", 0, stores=40)), series(draw("missing", 0, stores=40))
    changed = (whole != gappy).any(-1)
    assert 0.03 < changed.mean() < 0.07
    alone = changed[:, 1:-1] & ~changed[:, :-2] & ~changed[:, 2:]
    assert alone.sum() > 50
    middle = (whole[:, :-2] + whole[:, 2:]) / 2
    np.testing.assert_allclose(gappy[:, 1:-1][alone], middle[alone], rtol=1e-5)


def test_break_ends_with_another_graph_than_it_begins_with():
    dataset = draw("break", 0, stores=30)
    assert np.array_equal(dataset.edges, dataset.truth.edges)
    assert (dataset.truth.earlier_edges() != dataset.edges).any((1, 2)).all()


def test_lag_seven_acts_after_a_week_and_any_lag_after_one_to_seven_days():
    assert (draw("lag7", 0, stores=2).truth.lags == 7).all()
    assert set(draw("any-lag", 0, stores=2).truth.lags.ravel()) == set(range(1, 8))


def test_long_carryover_forgets_half_in_twenty_steps():
    np.testing.assert_allclose(
        draw("long-carryover", 0, stores=2).truth.decay ** 20, 0.5, rtol=1e-5
    )


def test_published_law_is_a_nonlinear_autoregression_with_noise_of_a_tenth():
    """Regressing on tanh of the parents' seven lags leaves the noise, and nothing else matters."""
    dataset = published_law(3, stores=30, steps=100)
    x = series(dataset)
    left = []
    for s in range(30):
        for j in range(8):
            parents = np.flatnonzero(dataset.edges[s, :, j])
            past = [np.tanh(x[s, 7 - lag : -lag, i]) for i in parents for lag in range(1, 8)]
            y = x[s, 7:, j]
            if past:
                design = np.column_stack(past)
                y = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
            left.append((y**2).sum() / (93 - 7 * len(parents)))
    assert np.sqrt(np.mean(left)) == pytest.approx(0.1, rel=0.03)
    assert len(np.unique(dataset.edges, axis=0)) == 3


def test_unknown_scenario_is_refused_by_name():
    with pytest.raises(ValueError, match="unknown scenario 'easy'"):
        draw("easy", 0)
