"""Forecasters are what they claim to be, none looks ahead, and metrics are right by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import statsmodels.api as sm
from bench.experiments import forecast
from bench.experiments.baselines import forecast_neural
from bench.experiments.baselines.forecast_btvc import btvc
from bench.experiments.baselines.forecast_linear import (
    linear_var,
    pooled_ridge,
    seasonal_naive,
    store_mean,
)
from bench.experiments.baselines.forecast_neural import lstm, wide_deep
from bench.experiments.forecast_task import (
    QUANTILES,
    Forecast,
    Task,
    forecast_rows,
    rolling_origins,
)
from scipy.stats import norm

from causalmmm.simulation import simulate

DAYS = np.datetime64("2024-01-01", "D") + np.arange(400)
METHODS = [seasonal_naive, store_mean, pooled_ridge, linear_var, lstm, wide_deep, btvc]


def panel_with_week(*, trend: float = 0.02) -> np.ndarray:
    """Three stores of different size; the target has week, trend and yesterday's first series."""
    rng = np.random.default_rng(1)
    base = rng.standard_normal((3, 400, 2))
    week = 3 * np.cos(2 * np.pi * DAYS.astype(float) / 7)
    target = 50 + week + trend * np.arange(400)
    target = target + 0.9 * np.roll(base[..., 0], 1, axis=1)
    scale = np.array([1.0, 10.0, 100.0])[:, None]
    return np.stack([base[..., 0] + 5, base[..., 1] + 5, scale * target], axis=-1)


@pytest.fixture(scope="module")
def task() -> Task:
    return Task(
        panel_with_week(), DAYS, np.zeros((3, 0)), origins=(340, 350, 370), horizon=30, quick=True
    )


@pytest.mark.parametrize("method", METHODS)
def test_no_baseline_reads_past_its_origin(method, task):
    future = task.history.copy()
    future[:, 350:] = 1e6
    with_future = method(dataclasses.replace(task, history=future, origins=task.origins[:2]))
    np.testing.assert_array_equal(with_future.mean, method(task).mean[:2])


# Wide & Deep sees no further back than its window: with 14 days so short a training ends well on
# one processor and badly on another (mse of 1.07 times the mean's); with 28 days it is 0.18.
@pytest.mark.parametrize(("method", "window"), [(lstm, 14), (wide_deep, 28), (btvc, 14)])
def test_what_learns_beats_the_mean_and_covers_about_as_often_as_it_says(
    method, window, monkeypatch
):
    monkeypatch.setattr(forecast_neural, "QUICK", (((32, 3e-3, window),), 5))
    history = panel_with_week(trend=0.0)
    task = Task(history, DAYS, np.zeros((3, 0)), (340, 350, 370), horizon=30, quick=True)
    learnt, naive = (forecast_rows(task, m(task))[-1] for m in (method, store_mean))
    assert learnt["mse"] < 0.5 * naive["mse"]
    assert learnt["crps"] < learnt["mae"]
    assert learnt["cover_90"] > 0.7


def test_btvc_knows_yesterdays_regressor(task):
    error = np.abs(btvc(task).mean[..., 0] / task.actual[..., 0] - 1)
    assert error.mean() < 0.003, "one step ahead the driver is known, so nothing is left to guess"


def test_seasonal_naive_repeats_the_last_week(task):
    week = task.history[:, 333:340, -1]
    np.testing.assert_array_equal(seasonal_naive(task).mean[0, :, :14], np.tile(week, (1, 2)))


def test_store_mean_is_the_mean_of_what_was_seen(task):
    expected = task.history[:, :350, -1].mean(1)
    np.testing.assert_allclose(store_mean(task).mean[1], np.tile(expected[:, None], (1, 30)))


def test_pooled_ridge_continues_trend_and_week_at_every_stores_own_level(task):
    relative = pooled_ridge(task).mean / task.actual - 1
    assert np.abs(relative).mean() < 0.02
    assert np.abs(store_mean(task).mean / task.actual - 1).mean() > 0.05


def test_linear_var_forecasts_as_statsmodels_does(task):
    ours = linear_var(task, orders=range(2, 3), season=False).mean
    for store in range(3):
        x = task.history[store]
        for k, origin in enumerate(task.origins):
            fitted = sm.tsa.VAR(x[:origin]).fit(2, trend="c")
            theirs = fitted.forecast(x[origin - 2 : origin], 30)[:, -1]
            np.testing.assert_allclose(ours[k, store], theirs, rtol=1e-7)


def test_linear_var_with_calendar_learns_week_and_driver(task):
    error = np.abs(linear_var(task).mean[..., 0] / task.actual[..., 0] - 1)
    assert error.mean() < 0.003, "one step ahead the driver is known, so nothing is left to guess"


def test_crps_of_a_gaussian_is_the_closed_form_and_intervals_cover_what_they_say():
    rng = np.random.default_rng(0)
    history = 10.0 + rng.standard_normal((2000, 100, 1))
    task = Task(history, DAYS[:100], np.zeros((2000, 0)), (60, 70), 30)
    mean, sd = np.full(task.actual.shape, 10.0), np.ones(task.actual.shape)
    row = forecast_rows(task, Forecast.gaussian(mean, sd))[-1]
    actual = np.concatenate([history[:, 60:90, 0], history[:, 70:, 0]], axis=1)
    y, level = actual - 10.0, np.abs(actual).mean(1, keepdims=True)
    exact = y * (2 * norm.cdf(y) - 1) + 2 * norm.pdf(y) - 1 / np.sqrt(np.pi)
    assert row["crps"] == pytest.approx((exact / level).mean(), rel=0.02)
    for percent in (80, 90, 95):
        assert row[f"cover_{percent}"] == pytest.approx(percent / 100, abs=0.01)
    assert row["mse"] == pytest.approx((y**2 / level**2).mean())


def test_without_quantiles_crps_is_the_absolute_error(task):
    rows = forecast_rows(task, store_mean(task))
    assert all(row["crps"] == row["mae"] for row in rows)
    assert "cover_90" not in rows[0]


def test_the_models_quantiles_come_in_order_around_its_mean():
    panel, _ = simulate("airmmm", stores=3)
    task = rolling_origins(panel, origins=1, every=6)
    drawn = forecast.model_forecast(panel, task, {"epochs": 1, "draws": 20})
    assert drawn.quantiles is not None
    assert drawn.quantiles.shape == (1, 3, 30, len(QUANTILES))
    assert (np.diff(drawn.quantiles, axis=-1) >= 0).all()
    inside = (drawn.quantiles[..., 0] < drawn.mean) & (drawn.mean < drawn.quantiles[..., -1])
    assert inside.all()


def test_last_origin_ends_with_the_panel():
    panel, _ = simulate("airmmm", stores=3)
    task = rolling_origins(panel, origins=4, every=10)
    assert task.origins == (610, 620, 630, 640)
    assert task.actual.shape == (4, 3, 30)
    np.testing.assert_array_equal(task.actual[-1], task.history[:, -30:, -1])


def test_short_histories_leave_half_to_fit_on():
    panel, _ = simulate("paper-small", stores=2)
    task = rolling_origins(panel, origins=20, every=6)
    assert task.origins == tuple(range(51, 71))
    with pytest.raises(ValueError, match="too few"):
        rolling_origins(panel.head(50), origins=20, every=6)


def test_the_command_evaluates_the_chosen_methods_and_draws(tmp_path):
    chosen = ["store mean", "seasonal naive"]
    options = ["--stores", "4", "--seeds", "0", "1", "--origins", "3", "--methods", *chosen]
    rows = forecast.main([*options, "--out", str(tmp_path)])
    assert {r["method"] for r in rows} == set(chosen)
    assert {r["horizon"] for r in rows} == {1, 7, 30}
    first = [r for r in rows if (r["horizon"], r["method"], r["seed"]) == (1, "store mean", 0)]
    assert first[0]["mse"] == first[1]["mse"], "up to step 1 and at step 1 are the same"
    assert {p.suffix for p in tmp_path.iterdir()} == {".csv", ".json", ".png"}
