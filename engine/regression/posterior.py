"""What a fitted regression says of particular stores: their coefficients, from their own rows.

Closed form given the regression's parameters; stores need not be those that were fitted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from causalmmm.engine.regression.design import Observed
from causalmmm.engine.regression.edges import Inclusion, Slab, inclusion, sender_moments
from causalmmm.engine.regression.fit import Choice, base_problem, sender_unit
from causalmmm.engine.regression.level import Shifts, find_shifts, relevance, shifted
from causalmmm.engine.regression.marginal import posterior
from causalmmm.engine.regression.problem import Problem, in_single, noise_mode
from causalmmm.engine.regression.state import Receiver, Regression
from causalmmm.engine.regression.theta import Shapes

_MOST_OWN_SHIFTS = 6
_RELEVANCE_ROUNDS = 5
_VALUES_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Known:
    """One receiver in B stores, given the regression's parameters at their mode.

    problem    with each store's level shifts;  log_noise  [B];
    inclusion  posterior over subsets of its senders;
    unit       [B, n], turns a sender's scaled series into exposure;
    shaped     whether the senders' shapes were fitted.
    """

    receiver: int
    fitted: Receiver
    problem: Problem
    shifts: Shifts
    log_noise: Tensor
    inclusion: Inclusion
    unit: Tensor
    shaped: bool


@dataclass(frozen=True)
class Draws:
    """D joint posterior draws of one receiver in B stores.

    shapes  of senders, [D, n] each;  terms  [D, B, Q];  levels  [D, B, L];
    effects [D, B, n], zero where a draw's graph lacks the edge;  own  [D, B], coefficient of the
    receiver's last value;  noise  [D, B].
    """

    shapes: Shapes
    terms: Tensor
    levels: Tensor
    effects: Tensor
    own: Tensor
    noise: Tensor


@torch.no_grad()
def know(regression: Regression, observed: Observed, receiver: int) -> Known:
    """Level shifts, noise and edges of a receiver in these stores."""
    fitted, config = regression.receivers[receiver], regression.config
    choice = Choice(fitted.shared_scale, fitted.own_lag, fitted.rho, fitted.warm)
    plain = base_problem(
        observed,
        regression.layout,
        receiver,
        fitted.senders,
        regression.groups,
        regression.reference if fitted.shared_scale else None,
        config,
        choice,
    )
    stores = len(observed.x)
    shifts = Shifts(
        fitted.shift_begin.expand(stores, -1),
        fitted.shift_end.expand(stores, -1),
        fitted.shift_scale.expand(stores, -1),
    )
    shaped = regression.layout.shaped(receiver)
    if config.level and shaped:
        shifts, _ = find_shifts(
            plain,
            observed,
            fitted.theta,
            shifts,
            config.level_odds,
            _MOST_OWN_SHIFTS,
            shared=False,
        )
        for _ in range(_RELEVANCE_ROUNDS if shifts.scale.any() else 0):
            current = shifted(plain, observed, shifts)
            shifts = relevance(
                current,
                fitted.theta,
                noise_mode(current, fitted.theta),
                shifts,
                (),
                held=len(fitted.shift_begin),
            )
    problem = shifted(plain, observed, shifts)
    log_noise = noise_mode(problem, fitted.theta)
    slab = Slab(fitted.effect_mean, fitted.effect_sd, fitted.log_odds, problem.design.positive)
    if fitted.senders:
        found = inclusion(sender_moments(problem, fitted.theta, log_noise), slab)
    else:
        found = Inclusion(torch.zeros(stores, 0, dtype=torch.float64), None, None)
    reference = regression.reference if fitted.shared_scale else None
    unit = sender_unit(observed, fitted.senders, reference)
    return Known(receiver, fitted, problem, shifts, log_noise, found, unit, shaped)


@torch.no_grad()
def draw(
    known: Known, observed: Observed, draws: int, seed: int, *, everything: bool = False
) -> Draws:
    """Joint draws: theta from its Laplace approximation, then the store's graph, then its
    coefficients exactly given both.

    With ``everything`` every edge is there. Effects that cannot be negative are cut at zero. Every
    store has noise of its own, by its key, so that it is the same in any company.
    """
    problem, theta = in_single(known.problem), known.fitted.theta_draws
    fixed_shapes = len(theta) == 1
    theta = theta[torch.arange(draws) % len(theta)]
    n, width = problem.spec.senders, problem.spec.senders
    levels = known.shifts.scale.shape[1]
    columns = problem.design.terms.shape[-1] + n
    normal, uniform = _noise(
        observed, draws, columns - levels + 1, levels, width, seed + 7919 * known.receiver
    )
    split = [columns - levels - n, n, 1, levels]
    of_terms, of_senders, of_noise, of_levels = normal.split(split, -1)
    normal = torch.cat([of_terms, of_levels, of_senders], -1)
    held = torch.ones_like(uniform) if everything else known.inclusion.draw(uniform)  # [D, B, n]
    log_noise = known.log_noise + of_noise.squeeze(-1) * _noise_sd(known)
    parts = []
    for begin, end in chunks(draws, observed.x.numel()):
        if begin == 0 or not fixed_shapes:
            some = theta[:1] if fixed_shapes else theta[begin:end]
            moments, (centre, scale) = problem.moments(some), problem.prior(some)
        on = torch.nn.functional.pad(held[begin:end], (columns - n, 0), value=1.0)
        _, found = posterior(moments, centre * on, scale * on, log_noise[begin:end])
        parts.append(found.draw(normal[begin:end]))
    drawn = torch.cat(parts)  # [D, B, P]
    terms = len(problem.spec.kind)
    fixed, level, effect = drawn.split([terms, levels, n], -1)
    effect = torch.where(problem.design.positive, effect.clamp_min(0), effect)
    own_lag = known.fitted.own_lag
    own = fixed[..., -1].clamp(-0.98, 0.98) if own_lag else torch.zeros_like(log_noise)
    fixed = fixed[..., :-1] if own_lag else fixed
    return Draws(problem.spec.unpack(theta), fixed, level, effect, own, log_noise.exp())


def _noise_sd(known: Known) -> Tensor:
    """[B]: posterior standard deviation of a store's log noise."""
    used = len(known.problem.spec.kind) + (known.shifts.scale > 0).sum(-1)
    return (2 * (known.problem.design.count - used).clamp_min(2.0)).rsqrt()


def _noise(
    observed: Observed, draws: int, columns: int, levels: int, senders: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Standard normal [D, B, columns + levels] and uniform [D, B, senders] numbers, by store.

    Those of level shifts come last, one after the other: the stores of a batch have as many as the
    one with the most, which must not move the others' numbers.
    """
    normal, uniform = [], []
    for store in observed.store.tolist():
        generator = torch.Generator().manual_seed(seed * 1_000_003 + store)
        first = torch.randn(draws, columns, generator=generator, dtype=torch.float64)
        uniform.append(torch.rand(draws, senders, generator=generator, dtype=torch.float64))
        more = [
            torch.randn(draws, 1, generator=generator, dtype=torch.float64) for _ in range(levels)
        ]
        normal.append(torch.cat([first, *more], -1))
    return torch.stack(normal, 1), torch.stack(uniform, 1)


def chunks(draws: int, values: int) -> Iterator[tuple[int, int]]:
    """Ranges of draws that are held in memory at a time, where each takes so many ``values``."""
    size = max(1, _VALUES_AT_ONCE // values)
    for begin in range(0, draws, size):
        yield begin, min(begin + size, draws)
