"""Joint draws that agree with experiments: some of the regression's own, with scaled effects."""

from __future__ import annotations

from dataclasses import fields, replace

import torch

from causalmmm.engine.regression.design import Observed
from causalmmm.engine.regression.posterior import Draws, Known, draw
from causalmmm.engine.regression.state import Calibration, Regression
from causalmmm.engine.regression.theta import Shapes


def draw_calibrated(
    regression: Regression,
    known: Known,
    observed: Observed,
    draws: int,
    seed: int,
    *,
    everything: bool = False,
) -> Draws:
    """As ``posterior.draw``; with experiments, the draws that agree with them."""
    calibration = regression.calibration
    if calibration is None:
        return draw(known, observed, draws, seed, everything=everything)
    drawn = draw(known, observed, calibration.pool, seed, everything=everything)
    return _agreeing(drawn, known, observed, calibration, draws)


def _agreeing(
    drawn: Draws, known: Known, observed: Observed, calibration: Calibration, draws: int
) -> Draws:
    index = calibration.index[torch.arange(draws) % len(calibration.index)]
    factor = calibration.factor[torch.arange(draws) % len(calibration.index)]  # [D, N]
    parts = {f.name: getattr(drawn, f.name) for f in fields(drawn) if f.name != "shapes"}
    shapes = Shapes(*(part[index] for part in vars(drawn.shapes).values()))
    chosen = Draws(shapes, **{name: part[index] for name, part in parts.items()})
    senders = list(known.fitted.senders)
    if not senders or bool((factor[:, senders] == 1).all()):
        return chosen
    effects = chosen.effects * factor[:, senders].unsqueeze(1).to(chosen.effects.dtype)
    rows = observed.mask.to(torch.float64).unsqueeze(1)
    response = known.problem.responses(known.fitted.theta)  # [B, n, T]
    mean = (response * rows).sum(-1) / rows.sum(-1)
    # What media gain the intercept loses: sales are what they were.
    moved = ((effects - chosen.effects) * mean.to(effects.dtype)).sum(-1)  # [D, B]
    terms = torch.cat([chosen.terms[..., :1] - moved.unsqueeze(-1), chosen.terms[..., 1:]], -1)
    return replace(chosen, effects=effects, terms=terms)
