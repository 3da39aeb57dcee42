"""The system of equations that a response regression's posterior draws make of B stores."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from causalmmm.engine.decisions.system import Equation, System
from causalmmm.engine.regression import Ahead, StorePosterior, simulate
from causalmmm.engine.regression.posterior import Draws, Known
from causalmmm.engine.regression.predict import carried


@torch.no_grad()
def regression_system(
    stores: StorePosterior, ahead: Ahead | None = None, *, begin: int = 0
) -> System:
    """Equations from row ``begin`` of the histories on, continued by the steps of ``ahead``.

    Ahead every channel must be planned; mediators and the target take the values that are expected
    of them draw by draw.
    """
    plan, x = stores.regression.layout, stores.observed.x
    receivers = sorted(stores.known, key=lambda j: (plan.rank[j], j))
    equations = {
        j: _equation(stores.known[j], stores.drawn[j], plan.instant, x[..., :begin])
        for j in receivers
    }
    series = x[..., begin:].unsqueeze(0)
    if ahead is not None:
        future = _expected(stores, ahead)  # [D, B, N, H]
        series = torch.cat([series.expand(len(future), -1, -1, -1), future], -1)
    return System(equations, series)


def _equation(known: Known, drawn: Draws, instant: Tensor, past: Tensor) -> Equation:
    """Equation of a receiver after the rows ``past`` [B, N, begin] of the histories."""
    senders, last = list(known.fitted.senders), known.problem.design.initial
    stock = last.expand(len(drawn.own), -1, -1)
    if rows := past.shape[-1]:
        stock, _ = carried(known, drawn, rows)
        last = past[:, senders, -1] * known.unit
    return Equation(
        senders=tuple(senders),
        late=tuple((~instant[senders, known.receiver]).tolist()),
        decay=drawn.shapes.decay,
        slope=drawn.shapes.slope,
        half=drawn.shapes.half,
        effect=drawn.effects,
        unit=known.unit,
        stock=stock,
        last=last,
        own=drawn.own,
        noise=drawn.noise,
    )


def _expected(stores: StorePosterior, ahead: Ahead) -> Tensor:
    """[D, B, N, H]: what each draw expects of the future, without noise of steps and controls."""
    still = {j: replace(d, noise=torch.zeros_like(d.noise)) for j, d in stores.drawn.items()}
    known_controls = replace(ahead, control_std=torch.zeros_like(ahead.control_std))
    return simulate(replace(stores, drawn=still), known_controls)
