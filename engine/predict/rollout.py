"""Forecasts by simulation: graphs, effects, baselines and noise sampled together, step by step.

One draw is one possible future of a store: its graph is sampled once, then each step feeds the
next.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

from causalmmm.engine.batches.batch import Batch
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.nn.posterior import Inference, causal_probability
from causalmmm.engine.ops.linalg import cholesky
from causalmmm.engine.ops.scan import State, roll
from causalmmm.engine.predict.beyond import beyond_history
from causalmmm.engine.predict.future import Future, damp_trend
from causalmmm.engine.predict.intercept_correction import intercept_correction
from causalmmm.engine.predict.noise import Noise, draw_noise
from causalmmm.engine.predict.quantiles import mixture_quantiles

# Width of the linear ramp around a gate's threshold; a hard step makes draws discontinuous in the
# probability.
_GATE_RAMP = 0.05
_LONG_RUN_LAGS = 14  # over which calendar residuals may be correlated
_MIN_POSITIVE_MEAN = 0.02  # of a series that cannot be negative, as a share of its level


@torch.no_grad()
def simulate_futures(
    model: CausalModel, batch: Batch, future: Future, *, draws: int, seed: int
) -> Tensor:
    """``draws`` futures [B, draws, N, H] of every store, in scaled units.

    Saturation is nonlinear: the response to average spend is not the average response, so forecasts
    are means over draws rather than one roll-out of means. Antithetic pairs cancel most of the
    sampling error of a mean. An edge that the posterior excludes contributes exact zeros, so its
    receiver does not change by a bit with its sender.
    """
    nodes, (horizon, terms) = batch.x.shape[1], future.basis.shape[1:]
    noise = draw_noise(nodes, terms, horizon, draws=draws, seed=seed, device=batch.x.device)
    return roll_forward(model, batch, model.infer(batch), future, noise)


def roll_forward(
    model: CausalModel, batch: Batch, inferred: Inference, future: Future, noise: Noise
) -> Tensor:
    """Futures [B, draws, N, H] of inferred stores under the draws of ``noise``."""
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
    """Mean [B, N, H] and bounds [B, N, H, 2 L] of the central intervals of coverage ``level`` [L].

    In every future all preceding steps are simulated and the step itself is integrated: given the
    preceding steps its value is normal or log-normal, or zero if the channel is not active. A
    mixture of 32 such distributions is as accurate as 200 simulated values (``interval_error``,
    bench/system/serving).
    """
    _, *predictive = _rollout(model, batch, inferred, future, noise)
    location, scale, p_active = (x.movedim(-1, 0).contiguous() for x in predictive)  # [D, H, N, B]
    floor = future.floor[:, 0].mT  # [N, B]
    value = torch.where(floor, (location + 0.5 * scale.square()).exp(), location)
    mean = (value * p_active).mean(0)  # [H, N, B]
    bounds = mixture_quantiles(location, scale, p_active, level)  # [2 L, H, N, B]
    bounds = torch.where(bounds.isinf(), 0.0, torch.where(floor, bounds.exp(), bounds))
    planned = future.given.permute(2, 1, 0)  # [H, N, B]
    unplanned = planned.isnan()
    mean = torch.where(unplanned, mean, planned)
    bounds = torch.where(unplanned, bounds, planned)
    return mean.permute(2, 1, 0), bounds.permute(3, 2, 1, 0)


def _rollout(
    model: CausalModel, batch: Batch, inferred: Inference, future: Future, noise: Noise
) -> tuple[Tensor, ...]:
    """Values; location and scale of the normal distribution from which each value (or, with a
    floor, its logarithm) was drawn; and the probability that the series is active. [H, N, B, draws]
    each.

    All futures of all stores lie along the last axis, so that every operation is contiguous in it.
    """
    inferred = intercept_correction(model, batch, inferred)
    decoder, config, draws = model.decoder, model.config, noise.draws
    components, stores = len(config.decays), batch.x.shape[0]
    ones = noise.steps.new_ones(draws)  # exported, a product with them is faster than an expansion

    def per_draw(x: Tensor, store_axis: int = 0) -> Tensor:  # [B, ...] -> [..., B draws]
        return (x.movedim(store_axis, -1).unsqueeze(-1) * ones).flatten(-2)

    def per_store(x: Tensor) -> Tensor:  # [..., draws] -> [..., B draws]
        x = x.unsqueeze(-2)
        return x.expand(*x.shape[:-2], stores, draws).flatten(-2)

    ar_lags = inferred.ar_weights.shape[-1]
    ar_weights = per_draw(inferred.ar_weights.mT)  # [P, N, B draws]
    effects = gated_effects(model, inferred, noise)
    baselines = _baselines(inferred, future, noise)
    noise_std, floor = per_draw(inferred.log_noise.exp()), per_draw(future.floor[:, 0]) > 0
    p_stay, p_resume = (
        per_draw(p) for p in spell_probabilities(inferred.active, batch.context_mask)
    )
    # senders: centring coefficients of every response, its recent past, and its adstock
    response, adstock = decoder.respond(batch.x, batch.context, batch.level)
    centre = inferred.ahead.coefficients(inferred.responses.flatten(1, 2))
    centres = torch.einsum("brq,bhq->hrb", centre, damp_trend(future.basis))
    centres = centres.unflatten(1, (-1, components))
    slope, half = (
        per_draw(x.expand(-1, -1, future.basis.shape[1]).mT).unsqueeze(2)
        for x in decoder.curve(future.context)
    )
    beyond = beyond_history(model, batch, future, noise, per_draw, per_store)
    beta = decoder.beta  # [N, N, D], sender first
    decay = decoder.decay.unsqueeze(-1)

    def step(state: State, now: State) -> tuple[State, State]:
        errors, active, adstock, *queues = state
        baseline, centre, planned, planned_active, z, switch, slope, slope_log_half = now
        unplanned = planned.isnan()
        arriving = torch.cat([queue[0] for queue in queues], dim=1)  # [N, D, B draws]
        message = ((beta @ (arriving - centre)) * effects).sum(0)  # [N, B draws]
        value = baseline + message + (errors * ar_weights).sum(0)
        location, scale = predictive_params(value, noise_std, floor)
        value = location + scale * z
        value = torch.where(floor, value.exp(), value)
        p_active = torch.where(active > 0, p_stay, p_resume)
        active = torch.where(unplanned, (switch < p_active).to(value.dtype), planned_active)
        value = torch.where(unplanned, value * active, planned)
        error = ((value - baseline) * active).unsqueeze(0)
        errors = torch.cat([error, errors[:-1]])
        adstock = decay * adstock + (1 - decay) * value.unsqueeze(1)
        response = _saturate(model, adstock, slope, slope_log_half)
        if beyond is not None:
            response = response + beyond.added(adstock, response)
        queues = _pushed(queues, response)
        return (errors, active, adstock, *queues), (value, location, scale, p_active)

    errors = torch.nn.functional.pad(inferred.residual, (ar_lags, 0))[..., -ar_lags:].flip(-1)
    initial = (errors.mT, inferred.active[..., -1], adstock, *_queues(response, config.delays))
    planned = future.given.permute(2, 1, 0)  # [H, N, B]
    planned_active = ((planned != 0) | ~model.spend.unsqueeze(-1)).to(planned.dtype)
    inputs = (
        baselines,
        per_draw(centres, -1),
        per_draw(planned, -1),
        per_draw(planned_active, -1),
        per_store(noise.mirrored(noise.steps)),
        per_store(torch.special.ndtr(noise.mirrored(noise.pauses))),
        slope,
        slope * half.log(),
    )
    path = roll(step, tuple(per_draw(x) for x in initial), inputs)
    return tuple(x.unflatten(-1, (-1, draws)) for x in path)


def spell_probabilities(active: Tensor, context_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities [B, N] that an active series stays active, and that an inactive one resumes.

    Shares of the observed steps, plus one pseudo-observation whose outcome is the store's share of
    active rows: otherwise a spell of zero spend that began at the last row would never end. A
    series that was always active stays so.
    """
    observed = (context_mask[:, 1:] & context_mask[:, :-1]).unsqueeze(1)
    rows = context_mask.unsqueeze(1).to(active.dtype)
    share_active = (active * rows).sum(-1) / rows.sum(-1)  # [B, N]
    after = active[..., 1:]
    before = active[..., :-1] * observed
    inactive_before = (1 - active[..., :-1]) * observed
    p_stay = ((before * after).sum(-1) + share_active) / (before.sum(-1) + 1)
    p_resume = ((inactive_before * after).sum(-1) + share_active) / (inactive_before.sum(-1) + 1)
    return torch.where(share_active < 1, p_stay, 1.0), p_resume


def long_run_variance(residual: Tensor, rows: Tensor, variance: Tensor) -> Tensor:
    """[B, N]: long-run variance of autocorrelated residuals [B, N, T], which are zero on padding:
    the variance of their mean times their number ``rows`` [B, 1].

    Newey-West estimate with Bartlett weights over ``_LONG_RUN_LAGS`` lags; at least the one-step
    ``variance`` [B, N].
    """
    width = _LONG_RUN_LAGS + 1
    total = torch.nn.functional.pad(residual, (width, _LONG_RUN_LAGS)).cumsum(-1)
    window = total[..., width:] - total[..., :-width]  # all moving sums of this width
    estimate = window.square().sum(-1) / (width * rows)
    return torch.maximum(estimate, variance)


def predictive_params(mean: Tensor, sd: Tensor, floor: Tensor) -> tuple[Tensor, Tensor]:
    """Location and scale of a normal value or, with a floor, of the logarithm of a log-normal value
    with the same mean and standard deviation.

    Truncating normal noise at zero would raise the mean of spend, and with it the forecasts of
    everything that spend drives.
    """
    positive = mean.clamp_min(_MIN_POSITIVE_MEAN)
    variance = torch.log1p((sd / positive).square())
    location = torch.where(floor, positive.log() - 0.5 * variance, mean)
    return location, torch.where(floor, variance.sqrt(), sd)


def gated_effects(model: CausalModel, inferred: Inference, noise: Noise) -> Tensor:
    """[N, N, B draws]: gate times exp(log effect) in every future, sender first."""
    posterior = inferred.posterior

    def stores_last(x: Tensor) -> Tensor:  # [B, N, N] -> [N, N, B, 1]
        return x.permute(1, 2, 0).unsqueeze(-1)

    probability = stores_last(causal_probability(posterior.edges))
    uniform = torch.special.ndtr(noise.mirrored(noise.gates)).clamp(1e-7, 1 - 1e-7).unsqueeze(2)
    width = (2 * torch.minimum(probability, 1 - probability)).clamp(1e-9, _GATE_RAMP)
    ramp = (probability - uniform) * width.reciprocal()
    gate = (ramp + 0.5).clamp(0, 1)  # its mean is the probability
    if model.config.store_effects:
        mean, sd = stores_last(posterior.effect_mean), stores_last(posterior.effect_log_sd.exp())
        gate = gate * (mean + sd * noise.mirrored(noise.effects).unsqueeze(2)).exp()
    return gate.flatten(-2)


def _baselines(inferred: Inference, future: Future, noise: Noise) -> Tensor:
    """[H, N, B draws]: baseline of every step, with coefficients and deviations of the controls
    from their expectation drawn once per future."""
    expected = damp_trend(future.basis)
    mean = torch.einsum("bnq,bhq->hnb", inferred.coefficients, expected).unsqueeze(-1)
    root = cholesky(inferred.projection.spread).to(future.basis.dtype)
    rooted_basis = (future.basis @ root).transpose(0, 1).unsqueeze(1)  # [H, 1, B, Q]
    deviation = rooted_basis @ noise.mirrored(noise.coefficients)  # [H, N, B, draws]
    rows = inferred.projection.context_mask.sum(-1, keepdim=True)
    variance = long_run_variance(inferred.residual, rows, (2 * inferred.log_noise).exp())
    drawn = mean + variance.sqrt().mT.unsqueeze(-1) * deviation
    controls = future.control_std.shape[-1]
    if controls:
        weights = inferred.coefficients[..., -controls:].unsqueeze(1)  # [B, 1, N, R]
        scaled = weights * future.control_std.unsqueeze(2)  # [B, H, N, R]
        drawn = drawn + scaled.permute(1, 2, 0, 3) @ noise.mirrored(noise.terms[-controls:])
    return drawn.flatten(-2)


def _queues(response: Tensor, delays: Sequence[int]) -> list[Tensor]:
    """Responses of each delay that have yet to arrive, [B, delay + 1, N, D'], oldest first."""
    steps, begin, queues = response.shape[-1], 0, []
    for delay, same in groupby(delays):
        end = begin + len(list(same))
        queues.append(response[:, :, begin:end, steps - delay - 1 :].permute(0, 3, 1, 2))
        begin = end
    return queues


def _pushed(queues: Sequence[Tensor], new: Tensor) -> list[Tensor]:
    """Queues [delay + 1, N, D', B draws] one step later, with new responses [N, D, B draws]."""
    begin, pushed = 0, []
    for queue in queues:
        end = begin + queue.shape[2]
        newest = new[:, begin:end].unsqueeze(0)
        pushed.append(torch.cat([queue[1:], newest]) if len(queue) > 1 else newest)
        begin = end
    return pushed


def _saturate(model: CausalModel, adstock: Tensor, slope: Tensor, slope_log_half: Tensor) -> Tensor:
    """Hill response to adstock; ``slope_log_half`` is the slope times log(half-saturation)."""
    if not model.config.saturation:
        return adstock
    size = adstock.abs().clamp_min(torch.finfo(adstock.dtype).tiny)
    return adstock / (size * (1 + (slope_log_half - slope * size.log()).exp()))
