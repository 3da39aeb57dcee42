"""Warnings of a fit: what to know before believing effects and forecasts.

Each is a sentence with a remedy; nothing here changes a result. Where training diverged, the store.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from causalmmm.engine.evidence.ard import ard_forecast
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.training.divergence import DivergenceError
from causalmmm.findings import counted, first_few
from causalmmm.model.answers import RegressionAnswers
from causalmmm.model.level_jumps import MOST_STORES, level_jumps
from causalmmm.model.tables import graph_table

if TYPE_CHECKING:
    from causalmmm.data.panel import Panel
    from causalmmm.model.predictor import Predictor

_STORES = 60  # at most, spread over the panel
_STORES_AT_ONCE = 20
_EDGE = 0.5
_LEAST_BASELINE = 0.1  # of a target, beyond which nearly all is booked to other series
_SHARE = 0.5  # of stores or edges, beyond which a warning is due
_CORRELATION, _Z_SCORE = 0.15, 6.0  # of errors within a step, both exceeded before a warning


def doubts(model: Predictor) -> Iterator[str]:
    """Reasons to doubt a model just fitted, judged on up to 60 of its stores."""
    panel = model._known(None)
    every = -(-panel.n_stores // _STORES)
    some = panel.select([str(store) for store in panel.stores[::every]])
    if isinstance(model.model_, CausalModel):
        yield from _same_step(model, some)
        yield from _level_shift(model, some)
    yield from _graph(model, some)
    yield from _baseline(model, some)


def divergence_message(error: DivergenceError, panel: Panel) -> str:
    """Where training diverged: store, dates, and the column whose value is most extreme there."""
    if error.store is None:
        return str(error)
    store = str(panel.stores[error.store])
    dates = panel.dates(store)[error.begin : error.end]
    offset = int(panel.data.offsets[error.store])
    history = np.abs(panel.data.values[offset : int(panel.data.offsets[error.store + 1])])
    relative = history[error.begin : error.end] / np.maximum(history.mean(0), 1e-12)
    row, column = np.unravel_index(int(relative.argmax()), relative.shape)
    return (
        f"the loss is not finite in epoch {error.epoch}, first for store '{store}' between "
        f"{dates[0].date()} and {dates[-1].date()}, where column '{panel.nodes[int(column)]}' is "
        f"{relative[row, column]:.3g} times its mean on {dates[int(row)].date()}; correct or drop "
        f"extreme values there, or lower learning_rate (now {error.learning_rate})"
    )


def _same_step(model: Predictor, panel: Panel) -> Iterator[str]:
    """Series whose errors move with the target's within the step, where that is not modelled.

    Errors are those of a Bayesian autoregression of each store on all series' lags, so that they
    do not depend on how far the model was trained.
    """
    network = model.model_
    assert isinstance(network, CausalModel)
    windows, lags = model._windows(panel.data), max(network.config.lags, 1)
    product, rows = np.zeros(len(model.nodes_)), np.zeros(len(model.nodes_))
    for begin in range(0, windows.data.n_stores, _STORES_AT_ONCE):
        end = min(begin + _STORES_AT_ONCE, windows.data.n_stores)
        batch = windows.full(np.arange(begin, end)).to(model.device_)
        with torch.no_grad():
            inferred = network.infer(batch)
            sent = network.baseline(batch.x, inferred.projection)[1]
            series, active = inferred.residual, inferred.active
            mean, std = ard_forecast(sent, series, active, batch.context_mask, lags)
        error = ((series[..., lags:] - mean) / std).double()  # [B, N, T - L]
        used = active[..., lags:] * batch.context_mask[:, None, lags:]
        both = used * used[:, -1:]
        size = (error.square() * both).sum(-1) * (error[:, -1:].square() * both).sum(-1)
        cross = (error * error[:, -1:] * both).sum(-1) / size.sqrt().clamp_min(1e-12)
        counts = both.sum(-1)
        product += (cross * counts).sum(0).cpu().numpy()
        rows += counts.sum(0).cpu().numpy()
    pooled = product / np.maximum(rows, 1)
    certain = pooled * np.sqrt(rows)
    spend = [role in ("channel", "organic", "mediator") for role in model.roles_]
    moving = np.array(spend) & (pooled > _CORRELATION) & (certain > _Z_SCORE)
    if moving.any():
        names = [name for name, moves in zip(model.nodes_, moving, strict=True) if moves]
        yield (
            f"{first_few(names)} move with {model.nodes_[-1]} within the same step, which the "
            "amortised model does not know: effects of these series come out too small, and edges "
            "from the target back to spend may be their shadow. Fit with regime='regression', "
            "which has effects within the step"
        )


def _level_shift(model: Predictor, panel: Panel) -> Iterator[str]:
    """Targets whose level jumps once for good, which the amortised baseline cannot follow."""
    dates = level_jumps(panel.data, model.calendar_)
    if len(dates) > MOST_STORES * panel.n_stores:
        yield (
            f"the level of {model.nodes_[-1]} jumps in {counted(len(dates), 'store')} of "
            f"{panel.n_stores}, around {np.sort(dates)[len(dates) // 2]}, and no control says why: "
            "effects may be many times too large. Add a 0/1 control with future_known, or fit with "
            "regime='regression', which finds level shifts"
        )


def _graph(model: Predictor, panel: Panel) -> Iterator[str]:
    """Graphs in which nothing reaches the target, or most edges lead from it back to spend.

    Of a regression, by its own evidence: the prior, which knows how seldom spend follows the
    target, would hide it.
    """
    edges = _own_edges(model, panel)
    target = model.nodes_[-1]
    roles = dict(zip(model.nodes_, model.roles_, strict=True))
    spend = [name for name, role in roles.items() if role in ("channel", "organic")]
    if not spend:
        return
    reaches = edges[(edges["target"] == target) & (edges["probability"] >= _EDGE)]
    stores = edges["store"].nunique()
    without = stores - reaches["store"].nunique()
    if without > _SHARE * stores:
        yield (
            f"in {counted(without, 'store')} of {stores} no series reaches {target} with a "
            "probability of one half: effects are too weak for these histories, or not modelled. "
            "Do not read their zero as an effect of zero"
        )
    called = edges[edges["probability"] >= _EDGE]
    back = called[(called["source"] == target) & called["target"].isin(spend)]
    within = not isinstance(model.model_, CausalModel)  # effects within a step are modelled
    if len(called) and len(back) > _SHARE * len(called):
        cause = "" if within else ", or the shadow of effects within a step"
        remedy = "reactive=" if within else "forbidden=, or fit with regime='regression'"
        yield (
            f"{len(back)} of {len(called)} edges lead from {target} back to spend: spend that "
            f"follows demand{cause}. State what you know with {remedy}"
        )
    follows = back["target"].value_counts()
    led = [name for name in spend if follows.get(name, 0) > _SHARE * stores]
    if within and led and not set(led) <= set(model.reactive):
        yield (
            f"future spend of {first_few(led)} explains today's {target} in most stores: it is "
            f"planned on {target}, or its dates are late. What it seems to bring within a step may "
            f"be demand: name it in reactive="
        )


def _own_edges(model: Predictor, panel: Panel) -> pd.DataFrame:
    if isinstance(model.model_, CausalModel) or model.model_.edges is None:
        return model.graphs(panel)
    alone, windows = replace(model.model_, edges=None), model._windows(panel.data)
    answers = RegressionAnswers(alone, windows, panel, seed=model.seed)
    return graph_table(answers, windows, panel, 0.0)


def _baseline(model: Predictor, panel: Panel) -> Iterator[str]:
    """Stores in which the series explain more than there is, or nearly all of it."""
    data, target = panel.data, model.nodes_[-1]
    if (data.values[:, -1] < 0).any():
        return
    parts = model.decompose(panel)
    sums = parts.groupby(["store", "component"])["value"].sum().unstack("component")
    total = sums.sum(axis=1)
    share = sums["baseline"] / total.where(total > 0)
    below = share.index[share < 0].tolist()
    if below:
        yield (
            f"the baseline of {target} is below zero in {counted(len(below), 'store')} of "
            f"{panel.n_stores} ({first_few(below, 3)}): the series explain more than there is, so "
            "their effects are too large. Look for a level shift or a trend that no control "
            "explains, and for a series that contains the target"
        )
    small = share.index[(share >= 0) & (share < _LEAST_BASELINE)].tolist()
    if len(small) > _SHARE * panel.n_stores:
        yield (
            f"the baseline of {target} is below {_LEAST_BASELINE:.0%} in "
            f"{counted(len(small), 'store')} of {panel.n_stores}: without the other series there "
            "would be next to nothing, which is rarely so. A series may contain the target, or "
            "one that never pauses may have taken the baseline's place"
        )
