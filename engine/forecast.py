"""Forecasts by simulation: graphs, effects, baselines and noise drawn together and rolled forward.

One draw is one possible future of a store: its graph is drawn once, then each step feeds the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from causalmmm.engine.intervals import central_intervals
from causalmmm.engine.linalg import cholesky
from causalmmm.engine.model import CausalModel, Inference, causal_probability
from causalmmm.engine.scan import State, roll
from causalmmm.engine.windows import Batch

_BLUR = 0.05  # a gate opens over this much of probability, so that no hair's breadth flips a draw
_FARTHEST = 5.0  # no draw lies more standard deviations away
_LONG_RUN = 14  # lags over which calendar residuals may be correlated
_LEAST_MEAN = 0.02  # of a series that cannot fall below zero, as a share of its level


@dataclass
class Future:
    """What is known of the H steps after each window.

    basis    [B, H, Q]: calendar terms and controls.
    context  [B, C] or [B, C, H].
    given    [B, N, H]: planned values in scaled units, NaN where the model is to forecast.
    floor    bool [B, 1, N]: series that have never fallen below zero, and cannot.
    """

    basis: Tensor
    context: Tensor
    given: Tensor
    floor: Tensor


@dataclass
class Noise:
    """The standard normal draws behind D futures, the same for every store.

    Draws come in mirrored pairs, so half of them are kept: gates and effects [D/2, N, N],
    coefficients [D/2, N, Q], steps and pauses [H, D/2, N]. All stores share them, so that a store
    is forecast the same in any company. Draws of different stores are therefore not independent:
    intervals of totals over stores cannot be read from them.
    """

    draws: int
    gates: Tensor
    effects: Tensor
    coefficients: Tensor
    steps: Tensor
    pauses: Tensor

    def mirrored(self, half: Tensor) -> Tensor:
        """[..., D, N, M] (or [..., D, N] for steps) from the half that is kept."""
        axis = half.ndim - (2 if half is self.steps or half is self.pauses else 3)
        return torch.cat([half, -half], dim=axis).narrow(axis, 0, self.draws)


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
        return torch.where(uniform[2] < 0.5, -size, size)

    gates, effects = normal(nodes, nodes), normal(nodes, nodes)
    coefficients = normal(nodes, terms)
    ahead = [(normal(nodes), normal(nodes)) for _ in range(horizon)]
    steps, pauses = (torch.stack(part) for part in zip(*ahead, strict=True))
    return Noise(draws, gates, effects, coefficients, steps, pauses)


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
    decoder, config, draws = model.decoder, model.config, noise.draws
    nodes = batch.x.shape[1]
    parts = len(config.decays)
    own, window = inferred.own.unsqueeze(1), inferred.own.shape[-1]
    weights, coefficients = _draw(model, inferred, noise)
    spread = inferred.log_noise.exp()[:, None]
    stays, resumes = (rate.unsqueeze(1) for rate in _pauses(inferred.running, batch.seen))
    # senders: centring coefficients of every response, its recent past, and its carry-over state
    response, carried = decoder.respond(batch.x, batch.context)
    centre = inferred.projection.ahead().coefficients(
        decoder.delayed(response)[..., :-1].flatten(1, 2)
    )
    reach = max(config.delays) + 1
    response, carried = response.flatten(1, 2), carried.flatten(1)  # senders and components as one
    recent = torch.nn.functional.pad(response, (reach, 0))[..., -reach:].mT
    errors = torch.nn.functional.pad(inferred.residual, (window, 0))[..., -window:].flip(-1)
    sender = torch.arange(nodes, device=carried.device).repeat_interleave(parts)
    decay = decoder.decay.flatten()
    # calendar part of every step: baselines of all draws, and the centre of every response
    baselines = torch.einsum("bdnq,bhq->hbdn", coefficients, future.basis)
    centres = torch.einsum("brq,bhq->hbr", centre, future.basis)
    slope, half = (
        part.expand(-1, -1, future.basis.shape[1])[:, sender].permute(2, 0, 1)
        for part in decoder.curve(future.context)
    )

    def step(state: State, now: State) -> tuple[State, Tensor]:
        errors, runs, carried, *recent = state
        baseline, middle, given, normal, pause, slope, half = now
        felt = _delayed(recent, config.delays, nodes) - middle.unsqueeze(1)
        message = (felt.unsqueeze(2) @ weights).squeeze(2)
        value = baseline + message + (errors * own).sum(-1)
        value = torch.where(
            future.floor, _positive(value, spread, normal), value + spread * normal
        )
        runs = (pause < torch.where(runs > 0, stays, resumes)).to(value.dtype)
        runs = torch.where(given.isnan(), runs, ((given != 0) | ~model.spend).to(value.dtype))
        value = torch.where(given.isnan(), value * runs, given)
        errors = torch.cat([((value - baseline) * runs).unsqueeze(-1), errors[..., :-1]], dim=-1)
        carried = decay * carried + (1 - decay) * value[..., sender]
        fresh = _saturate(model, carried, slope.unsqueeze(1), half.unsqueeze(1))
        return (errors, runs, carried, fresh, *recent[:-1]), value

    begin = (errors, inferred.running[..., -1], carried, *recent.flip(1).unbind(1))
    state = tuple(part.unsqueeze(1).expand(-1, draws, *part.shape[1:]) for part in begin)
    steps = noise.mirrored(noise.steps)
    pauses = torch.special.ndtr(noise.mirrored(noise.pauses))
    given = future.given.permute(2, 0, 1).unsqueeze(2)
    inputs = (baselines, centres, given, steps, pauses, slope, half)
    return roll(step, state, inputs).permute(1, 2, 3, 0)


def summary(futures: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [B, N, H] of futures [B, D, N, H], and ends [B, N, H, 2 L] of central intervals."""
    return futures.mean(1), central_intervals(futures.permute(0, 2, 3, 1), level)


def _pauses(running: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """[B, N]: shares of steps after which a running series runs on, and a paused one resumes.

    A series that never paused runs on for ever.
    """
    known = (seen[:, 1:] & seen[:, :-1]).unsqueeze(1)
    before, after = running[..., :-1] * known, running[..., 1:]
    paused = (1 - running[..., :-1]) * known
    stays = (before * after).sum(-1) / before.sum(-1).clamp_min(1.0)
    resumes = (paused * after).sum(-1) / paused.sum(-1).clamp_min(1.0)
    return torch.where(paused.sum(-1) > 0, stays, 2.0), resumes


def _long_run(residual: Tensor, variance: Tensor) -> Tensor:
    """[B, N]: variance of a mean of autocorrelated residuals [B, N, T], times its length.

    Bartlett's weights over ``_LONG_RUN`` lags; at least the one-step ``variance`` [B, N].
    """
    steps = residual.shape[-1]
    total = residual.square().sum(-1)
    for lag in range(1, _LONG_RUN + 1):
        share = 2 * (1 - lag / (_LONG_RUN + 1))
        earlier = torch.nn.functional.pad(residual, (lag, 0))[..., :steps]
        total = total + share * (residual * earlier).sum(-1)
    return torch.maximum(total / steps, variance)


def _positive(mean: Tensor, sd: Tensor, draw: Tensor) -> Tensor:
    """Log-normal values with the given mean and standard deviation, from standard normal draws.

    Cutting normal noise at zero would raise the mean of spend, and through it the forecasts of
    everything that spend drives.
    """
    mean = mean.clamp_min(_LEAST_MEAN)
    variance = torch.log1p((sd / mean).square())
    return mean * (variance.sqrt() * draw - 0.5 * variance).exp()


def _draw(model: CausalModel, inferred: Inference, noise: Noise) -> tuple[Tensor, Tensor]:
    """Weights [B, draws, N D, N] and baseline coefficients [B, draws, N, Q] of every future."""
    posterior = inferred.posterior
    probability = causal_probability(posterior.edges).unsqueeze(1)
    mean, sd = posterior.effect_mean.unsqueeze(1), posterior.effect_log_sd.exp().unsqueeze(1)
    if not model.config.store_effects:
        mean, sd = torch.zeros_like(mean), torch.zeros_like(sd)
    uniform = torch.special.ndtr(noise.mirrored(noise.gates))
    uniform = uniform.clamp(1e-7, 1 - 1e-7)
    width = (2 * torch.minimum(probability, 1 - probability)).clamp(1e-9, _BLUR)
    gate = ((probability - uniform) / width + 0.5).clamp(0, 1)  # its mean is the probability
    effect = mean + sd * noise.mirrored(noise.effects)
    weights = model.decoder.weights(gate.flatten(0, 1), effect.flatten(0, 1))
    root = cholesky(inferred.projection.spread)
    wobble = noise.mirrored(noise.coefficients) @ root.unsqueeze(1).mT
    spread = _long_run(inferred.residual, (2 * inferred.log_noise).exp()).sqrt()
    spread = spread[:, None, :, None]
    coefficients = inferred.coefficients.unsqueeze(1) + spread * wobble
    return weights.flatten(1, 2).unflatten(0, gate.shape[:2]), coefficients


def _delayed(recent: Sequence[Tensor], delays: Sequence[int], nodes: int) -> Tensor:
    """Responses [B, draws, N D], each component as many steps old as its delay; newest first."""
    if len(recent) == 1:
        return recent[0]
    parts = [recent[delay].unflatten(-1, (nodes, -1))[..., d] for d, delay in enumerate(delays)]
    return torch.stack(parts, dim=-1).flatten(2)


def _saturate(model: CausalModel, state: Tensor, slope: Tensor, half: Tensor) -> Tensor:
    """Hill response of carry-over states, slopes and half-saturations that broadcast."""
    if not model.config.saturation:
        return state
    size = state.abs().clamp_min(torch.finfo(state.dtype).tiny)
    return state.sign() / (1 + (slope * (half.log() - size.log())).exp())
