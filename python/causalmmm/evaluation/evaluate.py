"""What a fitted model is worth: edges against the truth, forecasts against hidden steps.

Decides what is hidden from whom and what stands beside it; the scores are in ``metrics``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalmmm.data.panel import Panel
from causalmmm.evaluation import metrics
from causalmmm.findings import closest, first_few

if TYPE_CHECKING:
    from causalmmm.model.fitted import FittedModel
    from causalmmm.simulation import Truth

Array = NDArray[np.float64]
Row = dict[str, Any]

COLUMNS = ["test", "method", "series", "horizon", "metric", "value"]
MODEL = "causalmmm"
SEASON = {"D": 7, "W": 52, "M": 12}
# Intervals that are asked for: coverage is of the last two, the score of quantiles of all.
LEVELS = (10, 20, 30, 40, 50, 60, 70, 90, 80, 95)
COVERED = (80, 95)
PLANS = ("none", "actual")


def evaluate(
    model: FittedModel,
    panel: Panel,
    truth: Truth | None = None,
    tests: Sequence[str] | None = None,
    *,
    horizon: int | None = None,
    origins: int = 5,
    plan: str = "none",
) -> pd.DataFrame:
    """Rows test, method, series, horizon, metric, value; see ``CausalMMM.evaluate``."""
    chosen = _chosen(tests, truth)
    if plan not in PLANS:
        raise ValueError(f"plan is one of {PLANS}, got {plan!r}")
    steps = _steps(model, panel) if horizon is None else horizon
    if steps < 1 or origins < 1:
        raise ValueError(f"horizon and origins are at least 1, got {steps} and {origins}")
    rows: list[Row] = []
    for name in chosen:
        rows += TESTS[name](_Question(model, panel, truth, steps, origins, plan == "actual"))
    return pd.DataFrame(rows, columns=COLUMNS)


@dataclass(frozen=True)
class _Question:
    model: FittedModel
    panel: Panel
    truth: Truth | None
    horizon: int
    origins: int
    planned: bool


def _steps(model: FittedModel, panel: Panel) -> int:
    """How many steps are hidden by default: those that the command line held out of the fit, else
    the model's horizon."""
    held_out = (model.source_ or {}).get("holdout")
    if held_out and np.datetime64(model.trained_on_["last"], "D") < _last_day(panel):
        return int(held_out)
    return int(model.get_params()["horizon"])


@dataclass(frozen=True)
class _Forecasts:
    """Values [S, K, N, H] of K origins: what happened, and what each method said of it.

    ``quantiles`` [S, K, N, H, Q] at ascending ``levels`` are the model's own.
    """

    actual: Array
    means: dict[str, Array]
    quantiles: Array
    levels: Array


def _chosen(tests: Sequence[str] | None, truth: Truth | None) -> list[str]:
    if tests is None:
        return ["structure", "holdout"] if truth is not None else ["holdout"]
    names = [tests] if isinstance(tests, str) else list(tests)
    for name in names:
        if name not in TESTS:
            hint = closest(str(name), TESTS)
            raise ValueError(f"there is no test '{name}'. {hint}Known tests: {first_few(TESTS)}")
    if not names:
        raise ValueError(f"no test is named. Known tests: {first_few(TESTS)}")
    return names


def _structure(ask: _Question) -> list[Row]:
    if ask.truth is None:
        raise ValueError("the test 'structure' needs the truth: pass truth=, as simulate() gives")
    if list(ask.truth.nodes) != list(ask.panel.nodes):
        raise ValueError(
            f"the truth is of {first_few(ask.truth.nodes)}, the panel of "
            f"{first_few(ask.panel.nodes)}"
        )
    try:
        edges = ask.truth.select(list(map(str, ask.panel.stores))).edges
    except KeyError as error:
        raise ValueError(f"the truth does not know the panel's stores: {error.args[0]}") from None
    n = len(ask.panel.nodes)
    off = ~np.eye(n, dtype=bool)
    # Rows come store by store, pairs in row order: that of the mask.
    probability = ask.model.graphs(ask.panel)["probability"].to_numpy(np.float64)
    said, true = probability.reshape(-1, n * (n - 1)), edges[:, off]
    buckets = metrics.calibration(true, said)
    values = {
        "auroc": _mean(metrics.auroc(t, p) for t, p in zip(true, said, strict=True)),
        "auprc": _mean(metrics.auprc(t, p) for t, p in zip(true, said, strict=True)),
        "pooled_auroc": metrics.auroc(true, said),
        "pooled_auprc": metrics.auprc(true, said),
        "true_share_80_100": buckets[-1].true_share,
        "pairs_80_100": float(buckets[-1].items),
        "calibration_error": metrics.calibration_error(buckets),
        "true_edge_share": float(true.mean()),
    }
    return [_row("structure", MODEL, "all", 0, name, value) for name, value in values.items()]


def _holdout(ask: _Question) -> list[Row]:
    history, _ = _hide(ask.panel, ask.horizon)
    last = ask.model.trained_on_["last"]
    if np.datetime64(last, "D") > _last_day(history):
        warnings.warn(
            f"the model was fitted on steps until {last}, so the hidden steps are not new to it; "
            "fit it without them, or use the test 'cv'",
            UserWarning,
            stacklevel=4,
        )
    return _scored("holdout", ask, _forecasts(ask, ask.model, [0]))


def _cv(ask: _Question) -> list[Row]:
    every = max(1, ask.horizon // 2)
    hidden = [every * k for k in reversed(range(ask.origins))]
    training, _ = _hide(ask.panel, ask.horizon + hidden[0])
    model = type(ask.model)(**ask.model.get_params()).fit(training, progress=False)
    return _scored("cv", ask, _forecasts(ask, model, hidden))


TESTS: dict[str, Callable[[_Question], list[Row]]] = {
    "structure": _structure,
    "holdout": _holdout,
    "cv": _cv,
}


def _hide(panel: Panel, last: int) -> tuple[Panel, Panel]:
    """The panel without its last steps, and those; refuses what leaves nothing to forecast from."""
    try:
        return panel.split(last)
    except ValueError as error:
        raise ValueError(f"{error}; horizon and origins decide how many are hidden") from None


def _last_day(panel: Panel) -> np.datetime64:
    day: np.datetime64 = panel.data.grid[-1].astype("datetime64[D]")
    return day


def _forecasts(ask: _Question, model: FittedModel, hidden: Sequence[int]) -> _Forecasts:
    """The model's forecasts, the last step of which is ``hidden`` steps before the end."""
    panel, horizon = ask.panel, ask.horizon
    names = [f"{side}_{level}" for level in LEVELS for side in ("lower", "upper")]
    at = np.array([0.5 + sign * level / 200 for level in LEVELS for sign in (-1, 1)])
    order = np.argsort(at)
    shape = (panel.n_stores, len(panel.nodes), horizon)
    actual, mean, bounds, naive, level = [], [], [], [], []
    for skipped in hidden:
        known = _hide(panel, skipped)[0] if skipped else panel
        history, future = _hide(known, horizon)
        plan = _plan(future, ask.planned)
        frame = model.predict(history, horizon=horizon, plan=plan, level=LEVELS)
        actual.append(future.data.values.reshape(shape[0], horizon, shape[1]).swapaxes(1, 2))
        mean.append(frame["mean"].to_numpy(np.float64).reshape(shape))
        bounds.append(frame[names].to_numpy(np.float64).reshape(*shape, -1)[..., order])
        naive.append(seasonal_naive(history, horizon))
        level.append(np.repeat(store_mean(history)[..., None], horizon, axis=-1))
    means = {MODEL: mean, "seasonal naive": naive, "store mean": level}
    return _Forecasts(
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


def _scored(test: str, ask: _Question, made: _Forecasts) -> list[Row]:
    horizons = sorted({h for h in (1, 7, ask.horizon) if h <= ask.horizon})
    outcomes = [
        (j, name)
        for j, (name, role) in enumerate(zip(ask.panel.nodes, ask.panel.data.roles, strict=True))
        if role in ("mediator", "target")
    ]
    return [
        row
        for j, series in reversed(outcomes)
        for until in horizons
        for row in _scores(made, j, until, (test, series))
    ]


def _scores(made: _Forecasts, j: int, until: int, where: tuple[str, str]) -> Iterator[Row]:
    """Errors over the first ``until`` steps of every origin, all methods.

    ``mse`` is of values divided by the store's mean; ``crps`` is relative as ``wape`` is, and the
    same number for a method without intervals.
    """
    test, series = where

    def flat(values: Array) -> Array:  # [S, K, N, H] -> [S, K x until]
        return values[:, :, j, :until].reshape(len(values), -1)

    actual = flat(made.actual)
    size = np.abs(actual).mean(1, keepdims=True)
    unit = np.where(size > 0, size, 1.0)
    quantiles = made.quantiles[:, :, j, :until].reshape(*actual.shape, -1)
    for method, values in made.means.items():
        forecast = flat(values)
        scores = {
            "mse": metrics.mse(actual / unit, forecast / unit),
            "wape": metrics.wape(actual, forecast),
            "r2_median": metrics.median_r2(actual, forecast),
            "crps": metrics.wape(actual, forecast),
        }
        if method == MODEL:
            score = metrics.crps_from_quantiles(actual, quantiles, made.levels)
            total = np.abs(actual).sum()
            scores["crps"] = float(score.sum() / total) if total > 0 else float("nan")
            for level in COVERED:
                low, high = (
                    int(np.argmin(np.abs(made.levels - (0.5 + sign * level / 200))))
                    for sign in (-1, 1)
                )
                inside = metrics.coverage(actual, quantiles[..., low], quantiles[..., high])
                scores[f"coverage_{level}"] = inside
        for metric, value in scores.items():
            yield _row(test, method, series, until, metric, value)


def _row(test: str, method: str, series: str, horizon: int, metric: str, value: float) -> Row:
    return dict(zip(COLUMNS, (test, method, series, horizon, metric, value), strict=True))


def _mean(values: Iterator[float]) -> float:
    """Over the stores that have a score."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
