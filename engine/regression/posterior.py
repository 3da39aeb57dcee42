"""What a fitted regression says of particular stores: their coefficients, from their own rows.

Closed form given the regression's parameters; stores need not be those that were fitted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from causalmmm.engine.ops.counted import as_normal, as_uniform, counted
from causalmmm.engine.ops.export_switch import exporting
from causalmmm.engine.ops.scan import State, roll
from causalmmm.engine.regression.combined_edges import Reading
from causalmmm.engine.regression.design import Observed
from causalmmm.engine.regression.edges import (
    Inclusion,
    Slab,
    inclusion,
    sender_moments,
    with_marginals,
)
from causalmmm.engine.regression.fit import Choice, base_problem, sender_unit
from causalmmm.engine.regression.level import Shifts, relevance, shifted, with_own_shifts
from causalmmm.engine.regression.marginal import posterior
from causalmmm.engine.regression.problem import Problem, in_single, noise_mode
from causalmmm.engine.regression.state import Receiver, Regression
from causalmmm.engine.regression.theta import Shapes

_MOST_OWN_SHIFTS = 6
_RELEVANCE_ROUNDS = 5
_VALUES_AT_ONCE = 600_000  # that stay in the cache
STREAMS, _COLUMNS = 4, 4096  # keys of a receiver's numbers; numbers of a draw


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
def know(
    regression: Regression, observed: Observed, receiver: int, reading: Reading | None = None
) -> Known:
    """Level shifts, noise and edges of a receiver in these stores; with what the prior reads in
    them, probabilities of edges are its too."""
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
    ).at(fitted.theta)
    stores = observed.x.shape[0]
    shifts = Shifts(
        fitted.shift_begin.expand(stores, -1),
        fitted.shift_end.expand(stores, -1),
        fitted.shift_scale.expand(stores, -1),
    )
    shaped = regression.layout.shaped(receiver)
    if config.level and shaped:
        held = len(fitted.shift_begin)
        shifts = with_own_shifts(
            plain, observed, fitted.theta, shifts, config.level_odds, _MOST_OWN_SHIFTS
        )
        if exporting():
            shifts = _relevant(plain, observed, fitted.theta, shifts, held)
        elif len(own := (shifts.scale[:, held:] > 0).any(-1).nonzero().flatten()):
            few = (plain.select(own), observed.select(own), fitted.theta, shifts.select(own))
            scale = shifts.scale.clone()
            scale[own] = _relevant(*few, held).scale
            shifts = replace(shifts, scale=scale)
    problem = shifted(plain, observed, shifts)
    log_noise = noise_mode(problem, fitted.theta)
    slab = Slab(fitted.effect_mean, fitted.effect_sd, fitted.log_odds, problem.design.positive)
    if fitted.senders:
        found = inclusion(sender_moments(problem, fitted.theta, log_noise), slab)
        if reading is not None:
            own = found.probability
            found = with_marginals(found, reading.combined(own, fitted.senders, receiver))
    else:
        found = Inclusion(observed.x[:, :0, 0], None, None)
    reference = regression.reference if fitted.shared_scale else None
    unit = sender_unit(observed, fitted.senders, reference)
    return Known(receiver, fitted, problem, shifts, log_noise, found, unit, shaped)


def _relevant(
    plain: Problem, observed: Observed, theta: Tensor, shifts: Shifts, held: int
) -> Shifts:
    """The shifts with the prior scales that the evidence gives them; the first ``held`` keep
    theirs."""

    def step(state: State, _: State) -> tuple[State, State]:
        before = replace(shifts, scale=state[0])
        current = shifted(plain, observed, before)
        after = relevance(current, theta, noise_mode(current, theta), before, (), held).scale
        return (after,), (after,)

    path = roll(step, (shifts.scale,), (torch.arange(_RELEVANCE_ROUNDS),))
    return replace(shifts, scale=path[0][-1])


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
    for begin, end in chunks(draws, observed.x):
        if begin == 0 or not fixed_shapes:
            some = theta[:1] if fixed_shapes else theta[begin:end]
            moments, (centre, scale) = problem.moments(some), _present(known, *problem.prior(some))
        on = torch.nn.functional.pad(held[begin:end], (columns - n, 0), value=1.0)
        _, found = posterior(moments, centre * on, scale * on, log_noise[begin:end])
        parts.append(found.draw(normal[begin:end]))
    drawn = torch.cat(parts, 0)  # [D, B, P]
    terms = len(problem.spec.kind)
    fixed, level, effect = drawn.split([terms, levels, n], -1)
    effect = torch.where(problem.design.positive, effect.clamp_min(0), effect)
    own_lag = known.fitted.own_lag
    own = fixed[..., -1].clamp(-0.98, 0.98) if own_lag else torch.zeros_like(log_noise)
    fixed = fixed[..., :-1] if own_lag else fixed
    return Draws(problem.spec.unpack(theta), fixed, level, effect, own, log_noise.exp())


def _present(known: Known, centre: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Prior centre and scale [..., P] of coefficients, with those of effects where their edges are
    there: theta is fitted as if every store had every edge, so where edges are in doubt, stores
    without one pull its effects towards zero."""
    fitted, positive = known.fitted, known.problem.design.positive
    shapes = known.problem.spec.unpack(fitted.theta)
    larger = torch.where(positive, fitted.effect_mean / shapes.mean, 1.0)
    wider = fitted.effect_sd / torch.where(positive, shapes.spread, shapes.mean)
    doubted = fitted.log_odds < torch.inf
    larger, wider = (torch.where(doubted, factor, 1.0) for factor in (larger, wider))
    first = (centre.shape[-1] - len(positive), 0)
    pad = torch.nn.functional.pad
    return centre * pad(larger, first, value=1.0), scale * pad(wider, first, value=1.0)


def _noise_sd(known: Known) -> Tensor:
    """[B]: posterior standard deviation of a store's log noise."""
    used = len(known.problem.spec.kind) + (known.shifts.scale > 0).sum(-1)
    return (2 * (known.problem.design.count - used).clamp_min(2.0)).rsqrt()


def _noise(
    observed: Observed, draws: int, columns: int, levels: int, senders: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Standard normal [D, B, columns + levels] and uniform [D, B, senders] numbers, by store.

    Those of level shifts come last: the stores of a batch have as many as the one with the most,
    which must not move the others' numbers.
    """
    key = counted(observed.store, torch.tensor(seed * STREAMS))
    place = torch.arange(draws).view(-1, 1, 1) * _COLUMNS + torch.arange(columns + levels)
    normal = as_normal(counted(key.unsqueeze(-1), place))
    key = counted(observed.store, torch.tensor(seed * STREAMS + 1))
    place = torch.arange(draws).view(-1, 1, 1) * _COLUMNS + torch.arange(senders)
    return normal, as_uniform(counted(key.unsqueeze(-1), place))


def chunks(draws: int, values: Tensor) -> Iterator[tuple[int, int]]:
    """Ranges of draws that are held in memory at a time, where each takes as many as ``values``;
    all of them in an exported graph."""
    size = draws if exporting() else max(1, _VALUES_AT_ONCE // values.numel())
    for begin in range(0, draws, size):
        yield begin, min(begin + size, draws)
