"""Forecasts by simulation: graphs, effects, baselines and noise drawn together and rolled forward.

One draw is one possible future of a store: its graph is drawn once, then each step feeds the next.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from causalmmm.engine.model import CausalModel, Inference, causal_probability
from causalmmm.engine.windows import Batch

_LEAST_MEAN = 0.02  # of a series that cannot fall below zero, as a share of its level


@dataclass
class Future:
    """What is known of the H steps after each window.

    basis    [B, H, Q]: calendar terms and controls.
    context  [B, C] or [B, C, H].
    given    [B, N, H]: planned values in scaled units, NaN where the model is to forecast.
    floor    bool [N]: series that cannot fall below zero.
    """

    basis: Tensor
    context: Tensor
    given: Tensor
    floor: Tensor


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
    inferred = model.infer(batch)
    mirrored = _Mirrored(draws, torch.Generator(device=batch.x.device).manual_seed(seed))
    decoder, config = model.decoder, model.config
    stores, nodes, _ = batch.x.shape
    horizon, parts = future.basis.shape[1], len(config.decays)
    own, window = inferred.own, inferred.own.shape[-1]
    weights, coefficients = _draw(model, inferred, mirrored)
    noise = inferred.log_noise.exp()[:, None]
    # senders: centring coefficients of every response, its recent past, and its carry-over state
    response, carried = decoder.respond(batch.x, batch.context)
    centre = inferred.projection.ahead().coefficients(
        decoder.delayed(response)[..., :-1].flatten(1, 2)
    )
    reach = max(config.delays) + 1
    recent = response[..., -reach:].unsqueeze(1).expand(-1, draws, -1, -1, -1)
    recent = torch.nn.functional.pad(recent, (max(0, reach - recent.shape[-1]), 0))
    carried = carried.unsqueeze(1).expand(stores, draws, nodes, parts)
    errors = torch.nn.functional.pad(inferred.residual, (window, 0))[..., -window:]
    errors = errors.flip(-1).unsqueeze(1).expand(stores, draws, nodes, window)
    pick = [reach - 1 - delay for delay in config.delays]
    decay = decoder.decay
    moving = future.context if future.context.ndim == 3 else future.context.unsqueeze(-1)
    path = []
    for step in range(horizon):
        row = future.basis[:, step]
        felt = torch.stack([recent[..., d, at] for d, at in enumerate(pick)], dim=-1)
        felt = felt - (centre @ row.unsqueeze(-1)).view(stores, 1, nodes, parts)
        message = (felt.flatten(2).unsqueeze(2) @ weights).squeeze(2)
        baseline = (coefficients @ row[:, None, :, None]).squeeze(-1)
        value = baseline + message + (errors * own.unsqueeze(1)).sum(-1)
        draw = mirrored.normal(value)
        value = torch.where(future.floor, _positive(value, noise, draw), value + noise * draw)
        given = future.given[:, None, :, step]
        value = torch.where(given.isnan(), value, given)
        path.append(value)
        errors = torch.cat([(value - baseline).unsqueeze(-1), errors[..., :-1]], dim=-1)
        now = moving[..., min(step, moving.shape[-1] - 1)]
        carried = decay * carried + (1 - decay) * value.unsqueeze(-1)
        fresh = _saturate(model, carried, now)
        recent = torch.cat([recent[..., 1:], fresh.unsqueeze(-1)], dim=-1)
    return torch.stack(path, dim=-1)


def _positive(mean: Tensor, sd: Tensor, draw: Tensor) -> Tensor:
    """Log-normal values with the given mean and standard deviation, from standard normal draws.

    Cutting normal noise at zero would raise the mean of spend, and through it the forecasts of
    everything that spend drives.
    """
    mean = mean.clamp_min(_LEAST_MEAN)
    variance = torch.log1p((sd / mean).square())
    return mean * (variance.sqrt() * draw - 0.5 * variance).exp()


class _Mirrored:
    """Standard normal draws along axis 1, the second half the first half's negatives.

    All stores share them, so that a store is forecast the same in any company. Draws of different
    stores are therefore not independent: intervals of totals over stores cannot be read from them.
    """

    def __init__(self, draws: int, generator: torch.Generator) -> None:
        self.draws, self.generator = draws, generator

    def normal(self, like: Tensor) -> Tensor:
        """Draws [1, draws, ...] for a tensor [B, draws, ...]."""
        half = torch.randn(
            (1, (self.draws + 1) // 2, *like.shape[2:]),
            generator=self.generator,
            device=like.device,
            dtype=like.dtype,
        )
        return torch.cat([half, -half], dim=1)[:, : self.draws]


def _draw(model: CausalModel, inferred: Inference, mirrored: _Mirrored) -> tuple[Tensor, Tensor]:
    """Weights [B, draws, N D, N] and baseline coefficients [B, draws, N, Q] of every future."""
    posterior = inferred.posterior
    probability = causal_probability(posterior.edges).unsqueeze(1)
    mean, sd = posterior.effect_mean.unsqueeze(1), posterior.effect_log_sd.exp().unsqueeze(1)
    if not model.config.store_effects:
        mean, sd = torch.zeros_like(mean), torch.zeros_like(sd)
    pairs = probability.expand(-1, mirrored.draws, -1, -1)
    gate = (torch.special.ndtr(mirrored.normal(pairs)) < probability).to(mean.dtype)
    effect = mean + sd * mirrored.normal(pairs)
    weights = model.decoder.weights(gate.flatten(0, 1), effect.flatten(0, 1))
    coefficients = inferred.coefficients.unsqueeze(1)
    wide = coefficients.expand(-1, mirrored.draws, -1, -1)
    root = torch.linalg.cholesky(inferred.projection.spread)
    wobble = mirrored.normal(wide) @ root.unsqueeze(1).mT
    noise = inferred.log_noise.exp()[:, None, :, None]
    return weights.flatten(1, 2).unflatten(0, pairs.shape[:2]), coefficients + noise * wobble


def _saturate(model: CausalModel, state: Tensor, context: Tensor) -> Tensor:
    """Hill response of carry-over states [B, draws, N, D] under context [B, C]."""
    if not model.config.saturation:
        return state
    slope, half = (p.unsqueeze(1) for p in model.decoder.curve(context))
    ratio = slope * (state.abs().clamp_min(torch.finfo(state.dtype).tiny).log() - half.log())
    return state.sign() * torch.sigmoid(ratio)
