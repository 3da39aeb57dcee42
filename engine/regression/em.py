"""Expectation-maximisation of everything but the shapes, on statistics computed once.

A cheap start for ``optimise``, and the whole fit of receivers whose senders' shapes are not fitted.
"""

from __future__ import annotations

import torch
from torch import Tensor

from causalmmm.engine.regression.marginal import Moments, Posterior, posterior
from causalmmm.engine.regression.problem import Mode, Problem, objective

_LEAST_EFFECT = 1e-2
_LEAST_SCALE = 1e-2
_LEAST_NOISE = 1e-3


@torch.no_grad()
def expect_maximise(problem: Problem, mode: Mode, steps: int) -> Mode:
    """The mode after ``steps`` of EM (Dempster et al., 1977) with its shapes held."""
    spec, theta, log_noise = problem.spec, mode.theta, mode.log_noise
    shapes = spec.unpack(theta)
    response = problem.design.responses(shapes.decay, shapes.slope, shapes.half)
    moments = problem.design.moments(response)
    for _ in range(steps):
        _, found = posterior(moments, *problem.prior(theta), log_noise)
        covariance = found.covariance()  # [B, P, P]
        log_noise = 0.5 * (residual_square(moments, found, covariance) / moments.rows).log()
        log_noise = log_noise.clamp_min(torch.tensor(_LEAST_NOISE).log())
        theta = _shared_parts(problem, theta, found.mean, covariance)
    value = float(objective(problem, theta, log_noise))
    return Mode(theta, log_noise, value)


def residual_square(moments: Moments, found: Posterior, covariance: Tensor) -> Tensor:
    """[...]: expected sum of squared residuals."""
    second = found.mean.unsqueeze(-1) * found.mean.unsqueeze(-2) + covariance
    fitted = 2 * (found.mean * moments.xty).sum(-1)
    return moments.yty - fitted + (second * moments.xtx).sum((-2, -1))


def _shared_parts(problem: Problem, theta: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    """theta with means and spreads of coefficients [B, P] between stores."""
    spec = problem.spec
    variance = covariance.diagonal(dim1=-2, dim2=-1)
    terms, kinds = len(spec.kind), len(spec.kinds)
    kind = torch.tensor(spec.kind)
    shared = mean[:, :terms].mean(0)  # [Q]
    off = ((mean[:, :terms] - shared).square() + variance[:, :terms]).mean(0)
    held = torch.bincount(kind, minlength=kinds)
    scales = torch.zeros(kinds, dtype=off.dtype).index_add(0, kind, off) / held.clamp_min(1)
    first = mean.shape[1] - spec.senders
    effect, doubt = mean[:, first:], variance[:, first:]
    size = (effect.square() + doubt).mean(0).sqrt()
    positive = problem.design.positive
    centre = torch.where(positive, effect.mean(0), size).clamp_min(_LEAST_EFFECT)  # [n]
    around = ((effect - centre).square() + doubt).mean(0).sqrt() / centre
    values = spec.centre + spec.width * theta
    values[spec.index("shared")] = shared
    scale = values[spec.index("scales")]
    values[spec.index("scales")] = torch.where(
        held > 0, scales.sqrt().clamp_min(_LEAST_SCALE).log(), scale
    )
    if spec.senders:
        values[spec.index("mean")] = centre.log()
        spread = values[spec.index("spread")]
        values[spec.index("spread")] = torch.where(positive, around.log().clamp(-2.5, 1.0), spread)
    return (values - spec.centre) / spec.width
