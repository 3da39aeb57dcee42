"""Baselines are what they claim to be: checked against statsmodels and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from forecast_baselines import Task, linear_var, pooled_ridge, seasonal_naive, store_mean

DAYS = np.datetime64("2024-01-01", "D") + np.arange(400)


def panel_with_week(stores: int = 3) -> np.ndarray:
    rng = np.random.default_rng(1)
    base = rng.standard_normal((stores, 400, 2))
    week = 3 * np.cos(2 * np.pi * DAYS.astype(float) / 7)
    target = 50 + week + 0.02 * np.arange(400)
    target = target + 0.9 * np.roll(base[..., 0], 1, axis=1)
    scale = np.array([1.0, 10.0, 100.0])[:stores, None]
    return np.stack([base[..., 0] + 5, base[..., 1] + 5, scale * target], axis=-1)


@pytest.fixture
def task() -> Task:
    return Task(panel_with_week(), DAYS, origins=(340, 350, 370), horizon=30)


@pytest.mark.parametrize("method", [seasonal_naive, store_mean, pooled_ridge, linear_var])
def test_no_baseline_reads_past_its_origin(method, task):
    future = task.history.copy()
    future[:, 350:] = 1e6
    told = method(Task(future, task.dates, task.origins[:2], task.horizon))
    np.testing.assert_array_equal(told, method(task)[:2])


def test_seasonal_naive_repeats_the_last_week(task):
    week = task.history[:, 333:340, -1]
    np.testing.assert_array_equal(seasonal_naive(task)[0, :, :14], np.tile(week, (1, 2)))


def test_store_mean_is_the_mean_of_what_was_seen(task):
    expected = task.history[:, :350, -1].mean(1)
    np.testing.assert_allclose(store_mean(task)[1], np.tile(expected[:, None], (1, 30)))


def test_pooled_ridge_continues_trend_and_week_at_every_stores_own_level(task):
    relative = pooled_ridge(task) / task.actual - 1
    assert np.abs(relative).mean() < 0.02
    assert np.abs(store_mean(task) / task.actual - 1).mean() > 0.05


def test_linear_var_forecasts_as_statsmodels_does(task):
    ours = linear_var(task, orders=range(2, 3), season=False)
    for store in range(3):
        x = task.history[store]
        fitted = sm.tsa.VAR(x[:340]).fit(2, trend="c")
        for k, origin in enumerate(task.origins):
            theirs = fitted.forecast(x[origin - 2 : origin], 30)[:, -1]
            np.testing.assert_allclose(ours[k, store], theirs, rtol=1e-7)


def test_linear_var_with_calendar_learns_week_and_driver(task):
    error = np.abs(linear_var(task)[..., 0] / task.actual[..., 0] - 1)
    assert error.mean() < 0.003, "one step ahead the driver is known, so nothing is left to guess"
