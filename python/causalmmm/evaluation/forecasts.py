"""Forecasts of hidden steps from one or more origins, beside naive ones, and their scores.

Which model forecasts, and what follows from the scores, is decided by the callers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalmmm.data.panel import Panel
from causalmmm.evaluation import metrics

if TYPE_CHECKING:
    from causalmmm.model.fitted import FittedModel

Array = NDArray[np.float64]

MODEL = "causalmmm"
SEASON = {"D": 7, "W": 52, "M": 12}
# Intervals that are asked for: coverage is of the last two, the score of quantiles of all.
LEVELS = (10, 20, 30, 40, 50, 60, 70, 90, 80, 95)
COVERED = (80, 95)


@dataclass(frozen=True)
class Forecasts:
    """Values [S, K, N, H] of K origins: what happened, and what each method said of it.

    ``quantiles`` [S, K, N, H, Q] at ascending ``levels`` are the model's own.
    """

    actual: Array
    means: dict[str, Array]
    quantiles: Array
    levels: Array


def forecasts(
    model: FittedModel,
    panel: Panel,
    horizon: int,
    hidden: Sequence[int],
    *,
    spend_known: bool = False,
) -> Forecasts:
    """Forecasts of ``horizon`` steps, the last of which is ``hidden`` steps before the end.

    What the schema says will be known is told; spend only with ``spend_known``.
    """
    names = [f"{side}_{level}" for level in LEVELS for side in ("lower", "upper")]
    at = np.array([0.5 + sign * level / 200 for level in LEVELS for sign in (-1, 1)])
    order = np.argsort(at)
    shape = (panel.n_stores, len(panel.nodes), horizon)
    actual, mean, bounds, naive, level = [], [], [], [], []
    for skipped in hidden:
        known = hide(panel, skipped)[0] if skipped else panel
        history, future = hide(known, horizon)
        plan = _plan(future, spend_known)
        frame = model.predict(history, horizon=horizon, plan=plan, level=LEVELS)
        actual.append(future.data.values.reshape(shape[0], horizon, shape[1]).swapaxes(1, 2))
        mean.append(frame["mean"].to_numpy(np.float64).reshape(shape))
        bounds.append(frame[names].to_numpy(np.float64).reshape(*shape, -1)[..., order])
        naive.append(seasonal_naive(history, horizon))
        level.append(np.repeat(store_mean(history)[..., None], horizon, axis=-1))
    means = {MODEL: mean, "seasonal naive": naive, "store mean": level}
    return Forecasts(
        actual=np.stack(actual, axis=1).astype(np.float64),
        means={name: np.stack(parts, axis=1) for name, parts in means.items()},
        quantiles=np.stack(bounds, axis=1),
        levels=at[order],
    )


def _plan(future: Panel, spend: bool) -> pd.DataFrame | None:
    """Plan of the steps to forecast: the controls that the schema says will be known, and with
    ``spend`` what was spent; None if that is nothing."""
    schema = future.schema
    columns = list(schema.known_controls)
    if spend:
        columns += [channel.column for channel in schema.channels.values()] + list(schema.organic)
    if not columns:
        return None
    keys = [key for key in (schema.store, schema.date) if key is not None]
    return future.to_frame()[[*keys, *columns]]


def seasonal_naive(panel: Panel, horizon: int) -> Array:
    """The last value of the same phase [S, N, H]; of the last step where a season is too long."""
    period = SEASON[panel.freq[0]]
    season = np.where(panel.lengths >= period, period, 1)[:, None]
    back = panel.data.offsets[1:, None] - season + np.arange(horizon) % season
    return panel.data.values[back].swapaxes(1, 2).astype(np.float64)


def store_mean(panel: Panel) -> Array:
    """Mean of every series of every store [S, N]."""
    sums = np.add.reduceat(panel.data.values, panel.data.offsets[:-1], axis=0, dtype=np.float64)
    means: Array = sums / panel.lengths[:, None]
    return means


def scores(made: Forecasts, j: int, until: int) -> Iterator[tuple[str, str, float]]:
    """(method, metric, value): errors of series ``j`` over the first ``until`` steps of every
    origin, all methods.

    ``mse`` is of values divided by the store's mean; ``crps`` is relative as ``wape`` is, and the
    same number for a method without intervals.
    """

    def flat(values: Array) -> Array:  # [S, K, N, H] -> [S, K x until]
        return values[:, :, j, :until].reshape(len(values), -1)

    actual = flat(made.actual)
    size = np.abs(actual).mean(1, keepdims=True)
    unit = np.where(size > 0, size, 1.0)
    quantiles = made.quantiles[:, :, j, :until].reshape(*actual.shape, -1)
    for method, values in made.means.items():
        forecast = flat(values)
        found = {
            "mse": metrics.mse(actual / unit, forecast / unit),
            "wape": metrics.wape(actual, forecast),
            "r2_median": metrics.median_r2(actual, forecast),
            "crps": metrics.wape(actual, forecast),
        }
        if method == MODEL:
            score = metrics.crps_from_quantiles(actual, quantiles, made.levels)
            total = np.abs(actual).sum()
            found["crps"] = float(score.sum() / total) if total > 0 else float("nan")
            for level in COVERED:
                low, high = (
                    int(np.argmin(np.abs(made.levels - (0.5 + sign * level / 200))))
                    for sign in (-1, 1)
                )
                inside = metrics.coverage(actual, quantiles[..., low], quantiles[..., high])
                found[f"coverage_{level}"] = inside
        yield from ((method, metric, value) for metric, value in found.items())


def hide(panel: Panel, last: int) -> tuple[Panel, Panel]:
    """The panel without its last steps, and those; refuses what leaves nothing to forecast from."""
    try:
        return panel.split(last)
    except ValueError as error:
        raise ValueError(f"{error}; horizon and origins decide how many are hidden") from None


def held_out(model: FittedModel, panel: Panel) -> int | None:
    """How many last steps of the panel the command line kept from the fit; None if not known."""
    steps = (model.source_ or {}).get("holdout")
    if steps and np.datetime64(model.trained_on_["last"], "D") < last_day(panel):
        return int(steps)
    return None


def last_day(panel: Panel) -> np.datetime64:
    """The last date of the panel."""
    day: np.datetime64 = panel.data.grid[-1].astype("datetime64[D]")
    return day
