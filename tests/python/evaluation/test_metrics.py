"""Scores agree with scikit-learn, with closed forms, and with what their names promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    average_precision_score,
    mean_pinball_loss,
    mean_squared_error,
    r2_score,
    roc_auc_score,
)

from causalmmm.evaluation.metrics import (
    auprc,
    auroc,
    calibration,
    calibration_error,
    coverage,
    crps_from_draws,
    crps_from_quantiles,
    median_r2,
    mse,
    wape,
)

# Few distinct scores, so that ties are common.
LABELLED = st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=60)


def labels_and_scores(pairs: list[tuple[bool, int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs]) / 6


@given(LABELLED.filter(lambda pairs: len({p[0] for p in pairs}) == 2))
@settings(max_examples=60, deadline=None)
def test_ranking_scores_agree_with_scikit_learn(pairs: list[tuple[bool, int]]) -> None:
    truth, score = labels_and_scores(pairs)
    assert auroc(truth, score) == pytest.approx(roc_auc_score(truth, score))
    assert auprc(truth, score) == pytest.approx(average_precision_score(truth, score))


def test_ranking_scores_of_one_class_are_not_numbers() -> None:
    assert math.isnan(auroc([True, True], [0.1, 0.2]))
    assert math.isnan(auroc([False, False], [0.1, 0.2]))
    assert math.isnan(auprc([False, False], [0.1, 0.2]))


def test_a_constant_score_earns_what_chance_earns() -> None:
    truth = np.arange(10) < 3
    assert auroc(truth, np.ones(10)) == 0.5
    assert auprc(truth, np.ones(10)) == pytest.approx(0.3)


@given(LABELLED)
@settings(max_examples=60, deadline=None)
def test_calibration_agrees_with_scikit_learn(pairs: list[tuple[bool, int]]) -> None:
    truth, score = labels_and_scores(pairs)
    # Away from the bounds of buckets, on which the two put items on different sides.
    score = 0.9 * score + 0.03
    filled = [b for b in calibration(truth, score) if b.items]
    share, said = calibration_curve(truth, score, n_bins=5)
    assert [b.true_share for b in filled] == pytest.approx(list(share))
    assert [b.mean_probability for b in filled] == pytest.approx(list(said))


def test_calibration_buckets_hold_their_lower_bound_and_the_last_its_upper() -> None:
    buckets = calibration([1, 0, 1, 1], [0.0, 0.2, 0.8, 1.0])
    assert [b.items for b in buckets] == [1, 1, 0, 0, 2]
    assert math.isnan(buckets[2].true_share)
    assert calibration_error(buckets) == pytest.approx((1.0 + 0.2 + 2 * 0.1) / 4)


def test_what_is_no_probability_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0"):
        calibration([True], [1.5])
    with pytest.raises(ValueError, match="NaN"):
        auroc([True, False], [np.nan, 0.5])
    with pytest.raises(ValueError, match="2 labels"):
        auroc([True, False], [0.5])


def test_forecast_errors_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    actual = rng.gamma(3.0, size=(7, 20))
    forecast = actual + rng.normal(0, 0.5, actual.shape)
    assert mse(actual, forecast) == pytest.approx(mean_squared_error(actual, forecast))
    stores = [r2_score(a, f) for a, f in zip(actual, forecast, strict=True)]
    assert median_r2(actual, forecast) == pytest.approx(np.median(stores))
    assert wape([2.0, -2.0], [3.0, -1.0]) == pytest.approx(0.5)


def test_stores_that_do_not_move_have_no_r2() -> None:
    actual = np.array([[1.0, 1.0, 1.0], [1.0, 2.0, 3.0]])
    assert median_r2(actual, actual) == 1.0
    assert math.isnan(median_r2(actual[:1], actual[:1]))
    assert math.isnan(wape([0.0, 0.0], [1.0, 1.0]))


def test_shapes_that_do_not_pair_are_refused() -> None:
    with pytest.raises(ValueError, match="do not go with"):
        mse(np.zeros((2, 3)), np.zeros(3))


def test_coverage_counts_both_bounds_as_inside() -> None:
    assert coverage([0.0, 1.0, 2.0, 3.0], [0.0] * 4, [2.0] * 4) == 0.75


def test_crps_of_a_normal_forecast_meets_its_closed_form() -> None:
    actual = np.array([-1.0, 0.0, 2.5])
    exact = actual * (2 * stats.norm.cdf(actual) - 1) + 2 * stats.norm.pdf(actual)
    exact -= 1 / np.sqrt(np.pi)
    levels = (np.arange(2000) + 0.5) / 2000
    quantiles = stats.norm.ppf(levels)
    spread_out = np.broadcast_to(quantiles, (3, 2000))
    assert crps_from_draws(actual, spread_out) == pytest.approx(exact, abs=2e-3)
    assert crps_from_quantiles(actual, spread_out, levels) == pytest.approx(exact, abs=2e-3)


def test_crps_of_one_draw_is_the_absolute_error() -> None:
    assert crps_from_draws([3.0, -1.0], [[1.0], [1.0]]) == pytest.approx([2.0, 2.0])


def test_crps_of_draws_is_the_mean_over_pairs() -> None:
    rng = np.random.default_rng(1)
    draws, actual = rng.normal(size=15), 0.3
    pairs = np.abs(draws[:, None] - draws).mean() / 2
    expected = np.abs(draws - actual).mean() - pairs
    assert crps_from_draws(actual, draws) == pytest.approx(expected)


def test_crps_of_the_median_alone_is_twice_its_pinball_loss() -> None:
    loss = mean_pinball_loss([3.0], [1.0], alpha=0.5)
    assert crps_from_quantiles(3.0, [1.0], [0.5]) == pytest.approx(2 * loss)


def test_levels_that_do_not_ascend_are_refused() -> None:
    with pytest.raises(ValueError, match="ascend"):
        crps_from_quantiles(1.0, [0.0, 1.0], [0.9, 0.1])
