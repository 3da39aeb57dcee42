"""What a fitted model is worth: edges against the truth, forecasts against hidden steps.

Decides what is hidden from whom; forecasts and what stands beside them are in ``forecasts``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causalmmm.data.panel import Panel
from causalmmm.evaluation import metrics
from causalmmm.evaluation.forecasts import (
    MODEL,
    Forecasts,
    forecasts,
    held_out,
    hide,
    last_day,
    scores,
)
from causalmmm.evaluation.trials import TRIALS
from causalmmm.findings import closest, first_few

if TYPE_CHECKING:
    from causalmmm.model.fitted import FittedModel
    from causalmmm.simulation import Truth

Row = dict[str, Any]

COLUMNS = ["test", "method", "series", "horizon", "metric", "value"]
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
    usual = held_out(model, panel) or model.horizon_
    steps = usual if horizon is None else horizon
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


def _chosen(tests: Sequence[str] | None, truth: Truth | None) -> list[str]:
    if tests is None:
        return ["structure", "holdout"] if truth is not None else ["holdout"]
    names = [tests] if isinstance(tests, str) else list(tests)
    for name in names:
        if name in TRIALS and name not in TESTS:
            known = f"Known tests: {first_few(TESTS)}"
            raise ValueError(f"'{name}' is a test of model.trust(), with a threshold. {known}")
        if name not in TESTS:
            hint = closest(str(name), [*TESTS, *TRIALS])
            trials = first_few([trial for trial in TRIALS if trial not in TESTS])
            raise ValueError(
                f"there is no test '{name}'. {hint}Known tests: {first_few(TESTS)}; with "
                f"thresholds {trials}"
            )
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
    history, _ = hide(ask.panel, ask.horizon)
    last = ask.model.trained_on_["last"]
    if np.datetime64(last, "D") > last_day(history):
        warnings.warn(
            f"the model was fitted on steps until {last}, so the hidden steps are not new to it; "
            "fit it without them, or use the test 'cv'",
            UserWarning,
            stacklevel=4,
        )
    return _scored("holdout", ask, _hidden(ask, ask.model, [0]))


def _cv(ask: _Question) -> list[Row]:
    every = max(1, ask.horizon // 2)
    hidden = [every * k for k in reversed(range(ask.origins))]
    training, _ = hide(ask.panel, ask.horizon + hidden[0])
    model = type(ask.model)(**ask.model.get_params()).fit(training, progress=False)
    return _scored("cv", ask, _hidden(ask, model, hidden))


TESTS: dict[str, Callable[[_Question], list[Row]]] = {
    "structure": _structure,
    "holdout": _holdout,
    "cv": _cv,
}


def _hidden(ask: _Question, model: FittedModel, hidden: Sequence[int]) -> Forecasts:
    return forecasts(model, ask.panel, ask.horizon, hidden, spend_known=ask.planned)


def _scored(test: str, ask: _Question, made: Forecasts) -> list[Row]:
    horizons = sorted({h for h in (1, 7, ask.horizon) if h <= ask.horizon})
    outcomes = [
        (j, name)
        for j, (name, role) in enumerate(zip(ask.panel.nodes, ask.panel.data.roles, strict=True))
        if role in ("mediator", "target")
    ]
    return [
        _row(test, method, series, until, metric, value)
        for j, series in reversed(outcomes)
        for until in horizons
        for method, metric, value in scores(made, j, until)
    ]


def _row(test: str, method: str, series: str, horizon: int, metric: str, value: float) -> Row:
    return dict(zip(COLUMNS, (test, method, series, horizon, metric, value), strict=True))


def _mean(values: Iterator[float]) -> float:
    """Over the stores that have a score."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
