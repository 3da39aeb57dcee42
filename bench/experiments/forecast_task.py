"""The forecasting task: what a method is given, and how its forecasts are evaluated. No method."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from bench.lib.metrics import forecast_metrics
from causalmmm.data.panel import Panel

Array = NDArray[np.float64]
HORIZONS = (1, 7, 30)
LEVELS = (80, 90, 95)
# Fortieths: twice the integral of the pinball loss over them (it is 0 at 0 and 1) is the CRPS.
QUANTILES = np.arange(1, 40) / 40


@dataclass(frozen=True)
class Task:
    """Rolling-origin forecasting of the last series; the future of all series is unknown.

    history  [S, T, N] in the user's units;  dates datetime64[D] [T];  context [S, C], static
    origins  steps known at each forecast, ascending; forecasts are of steps o .. o + horizon - 1
    seed     of the methods that draw random numbers
    quick    methods that search or train make do with a fraction of their budget
    """

    history: Array
    dates: NDArray[np.datetime64]
    context: Array
    origins: tuple[int, ...]
    horizon: int
    seed: int = 0
    quick: bool = False

    @property
    def fit_steps(self) -> int:
        """Parameters are fitted and chosen on these first steps alone."""
        return self.origins[0]

    @property
    def actual(self) -> Array:
        """Target values [origins, S, horizon]."""
        return np.stack([self.history[:, o : o + self.horizon, -1] for o in self.origins])

    @property
    def level(self) -> Array:
        """Mean |x| of each series over the fitting steps, [S, N]; 1 where a series is all zero."""
        level = np.abs(self.history[:, : self.fit_steps]).mean(1)
        return np.where(level > 0.0, level, 1.0)


@dataclass(frozen=True)
class Forecast:
    """``mean`` [origins, S, horizon]; ``quantiles`` [..., len(QUANTILES)], None without any."""

    mean: Array
    quantiles: Array | None = None

    @classmethod
    def gaussian(cls, mean: Array, sd: Array) -> Forecast:
        return cls(mean, mean[..., None] + sd[..., None] * norm.ppf(QUANTILES))


def rolling_origins(
    panel: Panel, origins: int, every: int, *, seed: int = 0, quick: bool = False
) -> Task:
    """``origins`` forecasts, ``every`` steps apart, the last of them ending with the panel.

    Where the history is short the origins stand closer and become fewer, so that half of the
    history remains to be fitted on.
    """
    data = panel.data
    steps = int(data.lengths.min())
    if steps != int(data.lengths.max()):
        raise ValueError("rolling origins are drawn on histories of equal length")
    last = steps - max(HORIZONS)
    spare = last - (steps + 1) // 2
    if spare < 0:
        raise ValueError(f"{steps} steps are too few to fit on half and forecast {max(HORIZONS)}")
    every = max(1, min(every, spare // max(origins - 1, 1)))
    count = min(origins, 1 + spare // every)
    history = data.values.reshape(data.n_stores, steps, data.n_nodes).astype(np.float64)
    context = data.context
    if data.context_moves:
        context = context.reshape(data.n_stores, steps, -1)[:, : last - every * (count - 1)].mean(1)
    return Task(
        history,
        data.grid,
        context.astype(np.float64),
        tuple(range(last - every * (count - 1), last + 1, every)),
        max(HORIZONS),
        seed,
        quick,
    )


def forecast_rows(task: Task, forecast: Forecast) -> list[dict[str, float | str]]:
    """One row per horizon, at its own step and over all steps up to it.

    ``mse``, ``mae`` and ``crps`` are of values divided by the store's mean; the CRPS of a forecast
    without quantiles is its absolute error. ``cover_L``: share inside the central interval of L %.
    """
    rows = []
    for horizon in HORIZONS:
        for kind, first in (("at step", horizon - 1), ("steps up to", 0)):
            steps = slice(first, horizon)
            actual, mean = _by_store(task.actual[..., steps]), _by_store(forecast.mean[..., steps])
            level = np.abs(actual).mean(1, keepdims=True)
            mae = float((np.abs(mean - actual) / level).mean())
            row: dict[str, float | str] = {"horizon": horizon, "kind": kind}
            row |= forecast_metrics(actual, mean) | {"mae": mae, "crps": mae}
            if forecast.quantiles is not None:
                quantiles = np.stack(
                    [_by_store(q) for q in np.moveaxis(forecast.quantiles[..., steps, :], -1, 0)],
                    axis=-1,
                )
                row |= quantile_metrics(actual, quantiles, level)
            rows.append(row)
    return rows


def quantile_metrics(actual: Array, quantiles: Array, level: Array) -> dict[str, float]:
    """CRPS in units of ``level``, and coverage, of quantiles [S, K, len(QUANTILES)]."""
    above = actual[..., None] - quantiles
    pinball = np.maximum(QUANTILES * above, (QUANTILES - 1.0) * above).sum(-1) / 40
    metrics = {"crps": float((2.0 * pinball / level).mean())}
    for percent in LEVELS:
        tail = round((1.0 - percent / 100) / 2 * 40)  # QUANTILES are fortieths
        inside = (quantiles[..., tail - 1] <= actual) & (actual <= quantiles[..., -tail])
        metrics[f"cover_{percent}"] = float(inside.mean())
    return metrics


def _by_store(values: Array) -> Array:
    """[origins, S, steps] -> [S, origins x steps]."""
    return values.swapaxes(0, 1).reshape(values.shape[1], -1)
