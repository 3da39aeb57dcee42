"""The log posterior density of one receiver's parameters, and its gradient.

How it is climbed is decided in ``optimise`` and ``em``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from causalmmm.engine.ops import linalg
from causalmmm.engine.ops.scan import State, roll
from causalmmm.engine.regression.design import Design
from causalmmm.engine.regression.marginal import Moments, Posterior, log_marginal, posterior
from causalmmm.engine.regression.theta import ThetaSpec, coefficient_prior, noise_log_prior


@dataclass(frozen=True)
class Problem:
    """A design, its priors, and the scales of terms that have a fixed one of their own.

    fixed_scale  [B, L], standard deviations of the last L terms, whose centre is zero (level
                 shifts); they have no entry in theta.
    known        a theta and its responses, where they are asked for again and again.
    """

    design: Design
    spec: ThetaSpec
    fixed_scale: Tensor
    known: tuple[Tensor, Tensor] | None = None

    def at(self, theta: Tensor) -> Problem:
        """The problem with the responses of this theta worked out once."""
        return replace(self, known=(theta, self.responses(theta)))

    def select(self, stores: Tensor) -> Problem:
        """The problem of the stores at these places."""
        known = self.known and (self.known[0], self.known[1][stores])
        return Problem(self.design.select(stores), self.spec, self.fixed_scale[stores], known)

    def prior(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Centre and scale [..., B, P] of coefficients: terms, level shifts, senders."""
        centre, scale = coefficient_prior(self.spec, self.spec.unpack(theta), self.design.positive)
        terms, (stores, extra) = len(self.spec.kind), self.fixed_scale.shape
        lead = centre.shape[:-1]
        centre, scale = (p.unsqueeze(-2).expand(*lead, stores, -1) for p in (centre, scale))
        if not extra:
            return centre, scale
        fixed = self.fixed_scale.expand(*lead, -1, -1)
        parts = (centre[..., :terms], torch.zeros_like(fixed), centre[..., terms:])
        return torch.cat(parts, -1), torch.cat([scale[..., :terms], fixed, scale[..., terms:]], -1)

    def responses(self, theta: Tensor) -> Tensor:
        """[..., B, n, T] of senders at all rows, given theta [..., K]."""
        if self.known is not None and self.known[0] is theta:
            return self.known[1]
        shapes = self.spec.unpack(theta)
        return self.design.responses(shapes.decay, shapes.slope, shapes.half)

    def moments(self, theta: Tensor) -> Moments:
        return self.design.moments(self.responses(theta))

    def log_evidence(
        self, theta: Tensor, log_noise: Tensor, moments: Moments | None = None
    ) -> Tensor:
        """[..., B]: log marginal likelihood of each store given theta [..., K], and its ``moments``
        where they are known."""
        moments = self.moments(theta) if moments is None else moments
        value = log_marginal(moments, *self.prior(theta), log_noise)
        if self.design.rho:  # Jacobian of the first row's weight
            value = value + 0.5 * torch.log1p(torch.tensor(-(self.design.rho**2)))
        return value

    def posterior(self, theta: Tensor, log_noise: Tensor) -> Posterior:
        """Of coefficients [..., B, P] given theta [..., K] and log noise [..., B]."""
        return posterior(self.moments(theta), *self.prior(theta), log_noise)[1]


def in_single(problem: Problem) -> Problem:
    """The problem with responses in float32, ten times as fast: for searches and draws, not for a
    curvature. Everything after them stays in float64."""
    return replace(problem, design=replace(problem.design, dtype=torch.float32))


@dataclass(frozen=True)
class Mode:
    """theta [K], log noise [B], and the log posterior there."""

    theta: Tensor
    log_noise: Tensor
    value: float


def objective(
    problem: Problem, theta: Tensor, log_noise: Tensor, moments: Moments | None = None
) -> Tensor:
    """Log posterior density of theta [..., K] and log noise [..., B], up to a constant."""
    evidence = problem.log_evidence(theta, log_noise, moments) + noise_log_prior(log_noise)
    return evidence.sum(-1) + problem.spec.log_prior(theta)


def gradient(problem: Problem, theta: Tensor, log_noise: Tensor) -> tuple[Tensor, Tensor]:
    """Log posterior and its gradient by [theta, log noise] as one vector [K + B]."""
    both = torch.cat([theta, log_noise]).requires_grad_()
    value = objective(problem, *both.split([len(theta), len(log_noise)]))
    (slope,) = torch.autograd.grad(value, both)
    return value.detach(), slope


def start(problem: Problem) -> Mode:
    """The centre of the prior."""
    theta = torch.zeros_like(problem.spec.centre)
    log_noise = torch.full((problem.design.y.shape[0],), -2.0, dtype=torch.float64)
    return rated(problem, Mode(theta, log_noise, 0.0))


@torch.no_grad()
def rated(problem: Problem, mode: Mode) -> Mode:
    """The mode with the value it has in this problem."""
    return replace(mode, value=float(objective(problem, mode.theta, mode.log_noise)))


@torch.no_grad()
def noise_mode(problem: Problem, theta: Tensor, rounds: int = 12) -> Tensor:
    """[B]: each store's log noise given theta, by MacKay's (1992) fixed point."""
    moments, (centre, scale) = problem.moments(theta), problem.prior(theta)

    def step(state: State, _: State) -> tuple[State, State]:
        found = posterior(moments, centre, scale, state[0])[1]
        inverse = linalg.inverse_of(found.root)
        left = inverse.diagonal(dim1=-2, dim2=-1).sum(-1)
        used = inverse.shape[-1] - left  # [B], effective number of coefficients
        fitted = (moments.xtx @ found.mean.unsqueeze(-1)).squeeze(-1)
        rss = moments.yty + (found.mean * (fitted - 2 * moments.xty)).sum(-1)
        log_noise = 0.5 * (rss.clamp_min(1e-9) / (moments.rows - used).clamp_min(1.0)).log()
        return (log_noise,), (log_noise,)

    begin = torch.full_like(moments.yty, -2.0)
    return roll(step, (begin,), (torch.arange(rounds),))[0][-1]
