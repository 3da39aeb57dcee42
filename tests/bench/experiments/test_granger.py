"""Linear Granger is what it claims to be, as statsmodels has it; trivial scores are trivial."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from bench.experiments.baselines.granger import granger, granger_by_bic, granger_orders
from bench.experiments.baselines.trivial import receiver_variance, training_frequency


def driven_by_lag(lag: int, *, stores: int = 3, steps: int = 200) -> np.ndarray:
    """Series 0 drives series 2 after ``lag`` steps; series 1 is alone."""
    rng = np.random.default_rng(lag)
    series = rng.standard_normal((stores, steps, 3))
    series[:, lag:, 2] += 0.8 * series[:, :-lag, 0]
    return series


@pytest.mark.parametrize("lags", [1, 3])
def test_granger_statistic_equals_the_f_test_of_nested_regressions(lags):
    series = driven_by_lag(2)[:, :90]
    test = granger(series, lags, period=7)
    steps = np.arange(lags, 90)
    known = np.column_stack([np.ones(len(steps)), steps, *((steps % 7 == k) for k in range(1, 7))])
    for store in range(3):
        x = series[store]
        past = {(i, lag): x[steps - lag, i] for i in range(3) for lag in range(1, lags + 1)}
        full = sm.OLS(x[steps, 2], np.column_stack([*past.values(), known])).fit()
        for sender in (0, 1):
            kept = [column for (i, _), column in past.items() if i != sender]
            nested = sm.OLS(x[steps, 2], np.column_stack([*kept, known])).fit()
            statistic, p_value, _ = full.compare_f_test(nested)
            assert test.statistic[store, sender, 2] == pytest.approx(statistic, rel=1e-6)
            assert test.p_value[store, sender, 2] == pytest.approx(p_value, rel=1e-5)


def test_granger_rejects_true_nulls_at_its_nominal_rate():
    noise = np.random.default_rng(0).standard_normal((200, 80, 4))
    p = granger(noise, 2).p_value[:, ~np.eye(4, dtype=bool)]
    assert 0.03 < (p < 0.05).mean() < 0.07


def test_granger_needs_the_lag_at_which_the_effect_acts():
    tests = granger_orders(driven_by_lag(4), range(1, 6))
    assert (tests[4].p_value[:, 0, 2] < 1e-6).all()
    assert (tests[3].p_value[:, 0, 2] > 1e-3).all()
    assert (tests[4].p_value[:, 1, 2] > 1e-3).all()


def test_bic_finds_that_lag():
    p_value = granger_by_bic(driven_by_lag(4, steps=600), range(1, 7))
    assert (p_value[:, 0, 2] < 1e-6).all()


def test_a_silent_series_is_no_cause_and_breaks_nothing():
    series = driven_by_lag(1)
    series[:, :, 1] = 0.0
    test = granger(series, 2)
    assert np.isfinite(test.p_value).all()
    assert (test.statistic[:, 1, 2] < 1e-6).all()


def test_orders_that_the_history_cannot_bear_are_left_out_or_refused():
    short = driven_by_lag(1, steps=30)
    assert max(granger_orders(short, range(1, 8))) < 7
    with pytest.raises(ValueError, match="cannot bear"):
        granger(short, 7)


def test_trivial_scores_look_at_nothing_but_what_they_name():
    series = np.exp(driven_by_lag(1))
    score = receiver_variance(series * 1e6)
    np.testing.assert_allclose(score, receiver_variance(series))
    assert (score[:, 0] == score[:, 1]).all()
    signed = driven_by_lag(1)
    np.testing.assert_allclose(receiver_variance(signed)[:, 0], signed.var(1))
    edges = np.array([[[False, True], [False, False]], [[False, False], [False, False]]])
    assert np.array_equal(training_frequency(edges, 3), np.tile([[0, 0.5], [0, 0]], (3, 1, 1)))
