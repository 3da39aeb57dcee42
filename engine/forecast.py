"""Forecasts by simulation: graphs, effects, baselines and noise drawn together and rolled forward.

One draw is one possible future of a store: its graph is drawn once, then each step feeds the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from causalmmm.engine.intervals import mixture_ends
from causalmmm.engine.level import at_recent_level
from causalmmm.engine.linalg import cholesky
from causalmmm.engine.model import CausalModel, Inference, causal_probability
from causalmmm.engine.scan import State, roll
from causalmmm.engine.windows import Batch

_BLUR = 0.05  # a gate opens over this much of probability, so that no hair's breadth flips a draw
_FARTHEST = 5.0  # no draw lies more standard deviations away
_LONG_RUN = 14  # lags over which calendar residuals may be correlated
_FADING = 0.9  # a trend is expected to add this share of what it added in the step before
_LEAST_MEAN = 0.02  # of a series that cannot fall below zero, as a share of its level


@dataclass
class Future:
    """What is known of the H steps after each window.

    basis    [B, H, Q]: calendar terms and controls (:func:`continued`).
    doubt    [B, H, R]: standard deviations of the controls, the last R terms; zero where planned.
    context  [B, C] or [B, C, H].
    given    [B, N, H]: planned values in scaled units, NaN where the model is to forecast.
    floor    bool [B, 1, N]: series that have never fallen below zero, and cannot.
    """

    basis: Tensor
    doubt: Tensor
    context: Tensor
    given: Tensor
    floor: Tensor


@dataclass
class Noise:
    """The standard normal draws behind D futures, the same for every store.

    Draws come in mirrored pairs, so half of them are kept: gates and effects [N, N, D/2],
    coefficients [N, Q, D/2], terms (of which controls use theirs) [Q, D/2], steps and pauses
    [H, N, D/2]. All stores share them, so that a store is forecast the same in any company. Draws
    of different stores are therefore not independent: intervals of totals over stores cannot be
    read from them.
    """

    draws: int
    gates: Tensor
    effects: Tensor
    coefficients: Tensor
    terms: Tensor
    steps: Tensor
    pauses: Tensor

    def mirrored(self, half: Tensor) -> Tensor:
        """All D draws [..., D] from the half [..., D/2] that is kept."""
        return torch.cat([half, -half], dim=-1)[..., : self.draws]


def draw_noise(
    nodes: int, terms: int, horizon: int, *, draws: int, seed: int, device: torch.device
) -> Noise:
    """Noise of ``draws`` futures; a longer horizon continues the steps of a shorter one.

    Every number is stratified over the draws (one of its values in each of D equal parts of the
    normal distribution), so that all stores, which share them, see its true spread.
    """
    generator = torch.Generator(device=device).manual_seed(seed)
    half = (draws + 1) // 2

    def normal(*shape: int) -> Tensor:
        uniform = torch.rand((3, half, *shape), generator=generator, device=device)
        size = (uniform[0].argsort(0) + uniform[1]) / half
        size = torch.special.ndtri(0.5 + 0.5 * size).clamp_max(_FARTHEST)
        return torch.where(uniform[2] < 0.5, -size, size).movedim(0, -1).contiguous()

    gates, effects = normal(nodes, nodes), normal(nodes, nodes)
    coefficients, unknown = normal(nodes, terms), normal(terms)
    ahead = [(normal(nodes), normal(nodes)) for _ in range(horizon)]
    steps, pauses = (torch.stack(part) for part in zip(*ahead, strict=True))
    return Noise(draws, gates, effects, coefficients, unknown, steps, pauses)


def continued(history: Tensor, seen: Tensor, planned: Tensor) -> tuple[Tensor, Tensor]:
    """Controls [B, H, R] after a history [B, T, R], rows ``seen`` [B, T], and their deviations.

    What is planned is certain. Where ``planned`` [B, H, R] is NaN a control goes back to its mean
    from its last value at the pace of its own autocorrelation (AR(1), per store).
    """
    rows = seen.unsqueeze(-1).to(history.dtype)
    mean = (history * rows).sum(1, keepdim=True) / rows.sum(1, keepdim=True)
    off = (history - mean) * rows
    square = off.square().sum(1, keepdim=True)
    tied = (off[:, 1:] * off[:, :-1]).sum(1, keepdim=True)
    pace = (tied / square.clamp_min(1e-12)).clamp(0.0, 1.0)
    steps = torch.arange(planned.shape[1], dtype=history.dtype, device=history.device) + 1
    left = pace.clamp_min(1e-6) ** steps.view(1, -1, 1)
    expected = mean + left * (history[:, -1:] - mean)
    spread = (square / rows.sum(1, keepdim=True) * (1 - left.square())).sqrt()
    unknown = planned.isnan()
    return torch.where(unknown, expected, planned), torch.where(unknown, spread, 0.0)


@torch.no_grad()
def simulate_futures(
    model: CausalModel, batch: Batch, future: Future, *, draws: int, seed: int
) -> Tensor:
    """``draws`` futures [B, draws, N, H] of every store, in scaled units.

    Saturation bends: the response to average spend is not the average response, so forecasts are
    means over draws rather than one rollout of means. Draws come in mirrored pairs, which cancels
    most of the sampling error of a mean. An edge that the posterior excludes contributes exact
    zeros, so its receiver does not change by a bit with its sender.
    """
    nodes, (horizon, terms) = batch.x.shape[1], future.basis.shape[1:]
    noise = draw_noise(nodes, terms, horizon, draws=draws, seed=seed, device=batch.x.device)
    return roll_forward(model, batch, model.infer(batch), future, noise)


def roll_forward(
    model: CausalModel, batch: Batch, inferred: Inference, future: Future, noise: Noise
) -> Tensor:
    """Futures [B, draws, N, H] of inferred stores under given draws."""
    return _rollout(model, batch, inferred, future, noise)[0].permute(2, 3, 1, 0)


@torch.no_grad()
def forecast(
    model: CausalModel,
    batch: Batch,
    inferred: Inference,
    future: Future,
    noise: Noise,
    level: Tensor,
) -> tuple[Tensor, Tensor]:
    """Mean [B, N, H], and ends [B, N, H, 2 L] of the central intervals with shares ``level`` [L].

    Of every future the steps before are simulated and the step itself is integrated: its value is
    normal or log-normal around what that future leads to, or zero in a pause. A mixture of 32 such
    distributions says as much as 200 simulated values (``interval_error`` of bench/serving.py).
    """
    _, *laws = _rollout(model, batch, inferred, future, noise)
    location, scale, chance = (part.movedim(-1, 0).contiguous() for part in laws)
    floor = future.floor[:, 0].mT  # [N, B]
    value = torch.where(floor, (location + 0.5 * scale.square()).exp(), location)
    mean = (value * chance).mean(0)  # [H, N, B]
    ends = mixture_ends(location, scale, chance, level)
    ends = torch.where(ends.isinf(), 0.0, torch.where(floor, ends.exp(), ends))
    given = future.given.permute(2, 1, 0)
    free = given.isnan()
    mean, ends = torch.where(free, mean, given), torch.where(free, ends, given)
    return mean.permute(2, 1, 0), ends.permute(3, 2, 1, 0)


def _rollout(
    model: CausalModel, batch: Batch, inferred: Inference, future: Future, noise: Noise
) -> tuple[Tensor, ...]:
    """[H, N, B, draws] each: values; location and scale of the normal distribution that every
    value, or with a floor its logarithm, was drawn from; and the chance that it is no pause.

    All futures of all stores lie along the last axis, so that every operation runs through it.
    """
    inferred = at_recent_level(model, batch, inferred)
    decoder, config, draws = model.decoder, model.config, noise.draws
    parts, stores = len(config.decays), batch.x.shape[0]
    ones = noise.steps.new_ones(draws)  # exported, a product with them is faster than an expansion

    def wide(part: Tensor, stores_at: int = 0) -> Tensor:  # [B, ...] -> [..., B draws]
        return (part.movedim(stores_at, -1).unsqueeze(-1) * ones).flatten(-2)

    def copied(part: Tensor) -> Tensor:  # [..., draws] -> [..., B draws]
        part = part.unsqueeze(-2)
        return part.expand(*part.shape[:-2], stores, draws).flatten(-2)

    past = inferred.own.shape[-1]
    own = wide(inferred.own.mT)  # [P, N, B draws]
    strength = _strength(model, inferred, noise)
    baselines = _baselines(inferred, future, noise)
    spread, floor = wide(inferred.log_noise.exp()), wide(future.floor[:, 0]) > 0
    stays, resumes = (wide(rate) for rate in _pauses(inferred.running, batch.seen))
    # senders: centring coefficients of every response, its recent past, and its carry-over state
    response, carried = decoder.respond(batch.x, batch.context, batch.level)
    centre = inferred.projection.ahead().coefficients(
        decoder.delayed(response)[..., :-1].flatten(1, 2)
    )
    centres = torch.einsum("brq,bhq->hrb", centre, _expected(future.basis))
    centres = centres.unflatten(1, (-1, parts))
    slope, half = (
        wide(part.expand(-1, -1, future.basis.shape[1]).mT).unsqueeze(2)
        for part in decoder.curve(future.context)
    )
    beta = decoder.beta  # [N, N, D], sender first
    decay = decoder.decay.unsqueeze(-1)

    def step(state: State, now: State) -> tuple[State, State]:
        errors, runs, carried, *queues = state
        baseline, middle, given, going, normal, pause, slope, bend = now
        free = given.isnan()
        felt = torch.cat([queue[0] for queue in queues], dim=1)  # [N, D, B draws]
        message = ((beta @ (felt - middle)) * strength).sum(0)
        value = baseline + message + (errors * own).sum(0)
        location, scale = _law(value, spread, floor)
        value = location + scale * normal
        value = torch.where(floor, value.exp(), value)
        chance = torch.where(runs > 0, stays, resumes)
        runs = torch.where(free, (pause < chance).to(value.dtype), going)
        value = torch.where(free, value * runs, given)
        error = ((value - baseline) * runs).unsqueeze(0)
        errors = torch.cat([error, errors[:-1]])
        carried = decay * carried + (1 - decay) * value.unsqueeze(1)
        queues = _pushed(queues, _saturate(model, carried, slope, bend))
        return (errors, runs, carried, *queues), (value, location, scale, chance)

    errors = torch.nn.functional.pad(inferred.residual, (past, 0))[..., -past:].flip(-1)
    begin = (errors.mT, inferred.running[..., -1], carried, *_queues(response, config.delays))
    given = future.given.permute(2, 1, 0)
    going = ((given != 0) | ~model.spend.unsqueeze(-1)).to(given.dtype)
    inputs = (
        baselines,
        wide(centres, -1),
        wide(given, -1),
        wide(going, -1),
        copied(noise.mirrored(noise.steps)),
        copied(torch.special.ndtr(noise.mirrored(noise.pauses))),
        slope,
        slope * half.log(),
    )
    laws = roll(step, tuple(wide(part) for part in begin), inputs)
    return tuple(part.unflatten(-1, (-1, draws)) for part in laws)


def _pauses(running: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """[B, N]: shares of steps after which a running series runs on, and a paused one resumes.

    Both as if one step more had been seen, with the store's share of running rows as its outcome: a
    pause that began at the last row does not look as if it had no end. A series that never paused
    runs on for ever.
    """
    known = (seen[:, 1:] & seen[:, :-1]).unsqueeze(1)
    rows = seen.unsqueeze(1).to(running.dtype)
    usual = (running * rows).sum(-1) / rows.sum(-1)
    before, after = running[..., :-1] * known, running[..., 1:]
    paused = (1 - running[..., :-1]) * known
    stays = ((before * after).sum(-1) + usual) / (before.sum(-1) + 1)
    resumes = ((paused * after).sum(-1) + usual) / (paused.sum(-1) + 1)
    return torch.where(usual < 1, stays, 1.0), resumes


def _long_run(residual: Tensor, rows: Tensor, variance: Tensor) -> Tensor:
    """[B, N]: variance of a mean of autocorrelated residuals [B, N, T], times its length ``rows``
    [B, 1]; residuals of padding are zero.

    Bartlett's weights over ``_LONG_RUN`` lags; at least the one-step ``variance`` [B, N].
    """
    width = _LONG_RUN + 1
    total = torch.nn.functional.pad(residual, (width, _LONG_RUN)).cumsum(-1)
    window = total[..., width:] - total[..., :-width]  # sums of all stretches of this width
    long_run = window.square().sum(-1) / (width * rows)
    return torch.maximum(long_run, variance)


def _law(mean: Tensor, sd: Tensor, floor: Tensor) -> tuple[Tensor, Tensor]:
    """Location and scale of normal values or, with a floor, of their logarithms: log-normal values
    that have the same mean and standard deviation.

    Cutting normal noise at zero would raise the mean of spend, and through it the forecasts of
    everything that spend drives.
    """
    positive = mean.clamp_min(_LEAST_MEAN)
    variance = torch.log1p((sd / positive).square())
    location = torch.where(floor, positive.log() - 0.5 * variance, mean)
    return location, torch.where(floor, variance.sqrt(), sd)


def _strength(model: CausalModel, inferred: Inference, noise: Noise) -> Tensor:
    """[N, N, B draws]: gates times effects of every future, sender first."""
    posterior = inferred.posterior

    def last(part: Tensor) -> Tensor:
        return part.permute(1, 2, 0).unsqueeze(-1)

    probability = last(causal_probability(posterior.edges))
    uniform = torch.special.ndtr(noise.mirrored(noise.gates)).clamp(1e-7, 1 - 1e-7).unsqueeze(2)
    width = (2 * torch.minimum(probability, 1 - probability)).clamp(1e-9, _BLUR)
    share = (probability - uniform) * width.reciprocal()
    gate = (share + 0.5).clamp(0, 1)  # its mean is the probability
    if model.config.store_effects:
        mean, sd = last(posterior.effect_mean), last(posterior.effect_log_sd.exp())
        gate = gate * (mean + sd * noise.mirrored(noise.effects).unsqueeze(2)).exp()
    return gate.flatten(-2)


def _expected(basis: Tensor) -> Tensor:
    """Calendar terms [B, H, Q] with a trend that fades, as it is expected to.

    A damped trend (Gardner & McKenzie, 1985): how a few months have gone says where a series is,
    and little about where it will be. That it may go on is left to the draws of its coefficient.
    """
    ahead = torch.arange(1, basis.shape[1] + 1, dtype=basis.dtype, device=basis.device)
    share = _FADING * (1 - _FADING**ahead) / (1 - _FADING) / ahead
    trend = basis[..., 1:2] * share.unsqueeze(-1)
    return torch.cat([basis[..., :1], trend, basis[..., 2:]], dim=-1)


def _baselines(inferred: Inference, future: Future, noise: Noise) -> Tensor:
    """[H, N, B draws]: calendar part of every step, with coefficients, and how far controls lie
    from what is expected of them, drawn once a future."""
    expected = _expected(future.basis)
    middle = torch.einsum("bnq,bhq->hnb", inferred.coefficients, expected).unsqueeze(-1)
    root = cholesky(inferred.projection.spread).to(future.basis.dtype)
    turned = (future.basis @ root).transpose(0, 1).unsqueeze(1)  # [H, 1, B, Q]
    wobble = turned @ noise.mirrored(noise.coefficients)  # [H, N, B, draws]
    rows = inferred.projection.seen.sum(-1, keepdim=True)
    spread = _long_run(inferred.residual, rows, (2 * inferred.log_noise).exp()).sqrt()
    drawn = middle + spread.mT.unsqueeze(-1) * wobble
    controls = future.doubt.shape[-1]
    if controls:
        felt = inferred.coefficients[..., -controls:].unsqueeze(1) * future.doubt.unsqueeze(2)
        drawn = drawn + felt.permute(1, 2, 0, 3) @ noise.mirrored(noise.terms[-controls:])
    return drawn.flatten(-2)


def _queues(response: Tensor, delays: Sequence[int]) -> list[Tensor]:
    """Responses of each delay that have yet to be felt, [B, delay + 1, N, D'], oldest first."""
    steps, begin, queues = response.shape[-1], 0, []
    for delay, same in groupby(delays):
        end = begin + len(list(same))
        queues.append(response[:, :, begin:end, steps - delay - 1 :].permute(0, 3, 1, 2))
        begin = end
    return queues


def _pushed(queues: Sequence[Tensor], fresh: Tensor) -> list[Tensor]:
    """Queues [delay + 1, N, D', B draws] a step later; fresh responses [N, D, B draws]."""
    begin, longer = 0, []
    for queue in queues:
        end = begin + queue.shape[2]
        newest = fresh[:, begin:end].unsqueeze(0)
        longer.append(torch.cat([queue[1:], newest]) if len(queue) > 1 else newest)
        begin = end
    return longer


def _saturate(model: CausalModel, state: Tensor, slope: Tensor, bend: Tensor) -> Tensor:
    """Hill response of carry-over states; ``bend`` is the slope times the logarithm of the half."""
    if not model.config.saturation:
        return state
    size = state.abs().clamp_min(torch.finfo(state.dtype).tiny)
    return state / (size * (1 + (bend - slope * size.log()).exp()))
