"""The system of equations that a response regression's posterior draws make of B stores."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from causalmmm.engine.decisions.system import Equation, System
from causalmmm.engine.regression import Ahead, StorePosterior, simulate
from causalmmm.engine.regression.posterior import Draws, Known, chunks
from causalmmm.kernels import adstock_hill


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
    senders, initial = list(known.fitted.senders), known.problem.design.initial
    draws, begin = len(drawn.own), past.shape[-1]
    late = ~instant[senders, known.receiver]
    stock = initial.expand(draws, -1, -1)
    last = initial
    if begin:
        # In single precision, some draws at a time: ten times as fast, and a stock is a mean.
        exposure = known.problem.design.exposure[..., :begin].to(torch.float32)
        shapes, parts = drawn.shapes, []  # late senders' exposure is delayed already
        for first, end in chunks(draws, exposure.numel()):
            decay, slope, half = (
                s[first:end].to(torch.float32).unsqueeze(1).unsqueeze(-1)
                for s in (shapes.decay, shapes.slope, shapes.half)
            )
            _, after = adstock_hill(exposure, decay, slope, half, initial.to(torch.float32))
            parts.append(after.to(torch.float64))
        stock = torch.cat(parts)
        last = past[:, senders, -1] * known.unit
    return Equation(
        senders=tuple(senders),
        late=tuple(late.tolist()),
        decay=drawn.shapes.decay,
        slope=drawn.shapes.slope,
        half=drawn.shapes.half,
        effect=drawn.effects,
        unit=known.unit,
        stock=stock,
        last=last,
        own=drawn.own,
    )


def _expected(stores: StorePosterior, ahead: Ahead) -> Tensor:
    """[D, B, N, H]: what each draw expects of the future, without noise of steps and controls."""
    still = {j: replace(d, noise=torch.zeros_like(d.noise)) for j, d in stores.drawn.items()}
    known_controls = replace(ahead, control_std=torch.zeros_like(ahead.control_std))
    return simulate(replace(stores, drawn=still), known_controls)
