"""Warnings after a fit: what an analyst should know before believing its effects.

Each is a sentence with a remedy; nothing here changes a result.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from causalmmm.engine.evidence.ard import ard_forecast
from causalmmm.engine.nn.model import CausalModel
from causalmmm.findings import counted, first_few

if TYPE_CHECKING:
    from causalmmm.data.panel import Panel
    from causalmmm.model.predictor import Predictor

_STORES = 60  # at most, spread over the panel
_STORES_AT_ONCE = 20
_EDGE = 0.5
_SHARE = 0.5  # of stores or edges, beyond which a warning is due
_CORRELATION, _Z_SCORE = 0.15, 6.0  # of errors within a step, both exceeded before a warning


def doubts(model: Predictor) -> Iterator[str]:
    """Reasons to doubt a model just fitted, judged on up to 60 of its stores."""
    panel = model._known(None)
    every = -(-panel.n_stores // _STORES)
    some = panel.select([str(store) for store in panel.stores[::every]])
    if isinstance(model.model_, CausalModel):
        yield from _same_step(model, some)
    yield from _graph(model, some)


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


def _graph(model: Predictor, panel: Panel) -> Iterator[str]:
    """Graphs in which nothing reaches the target, or most edges lead from it back to spend."""
    edges = model.graphs(panel)
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
    if len(called) and len(back) > _SHARE * len(called):
        yield (
            f"{len(back)} of {len(called)} edges lead from {target} back to spend: spend that "
            "follows demand, or the shadow of effects within a step. State what you know with "
            "forbidden=, or fit with regime='regression'"
        )
