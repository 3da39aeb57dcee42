"""Forecasts by simulation: graphs, effects, baselines and noise drawn together, rolled forward.

One draw is one possible future of one store: its graph is drawn once, then each step feeds the next.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from causalmmm.engine.model import CausalModel, Inference, causal_probability
from causalmmm.engine.windows import Batch


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
) -> tuple[Tensor, Tensor]:
    """Futures [B, draws, N, H] in scaled units and their expectation [B, N, H].

    The expectation is a rollout without noise under the posterior-mean graph, effects and baseline:
    it does not depend on ``draws``. Intervals come from the draws. An edge that the posterior
    excludes contributes exact zeros, so its receiver does not change by a bit with its sender.
    """
    inferred = model.infer(batch)
    generator = torch.Generator(device=batch.x.device).manual_seed(seed)
    sampled = _roll(model, batch, inferred, future, draws, generator)
    mean = _roll(model, batch, inferred, future, 1, None).squeeze(1)
    return sampled, mean


def _roll(
    model: CausalModel,
    batch: Batch,
    inferred: Inference,
    future: Future,
    draws: int,
    generator: torch.Generator | None,
) -> Tensor:
    """Roll forward ``draws`` futures; ``generator=None`` rolls the expectation."""
    decoder, config = model.decoder, model.config
    stores, nodes, _ = batch.x.shape
    horizon, parts = future.basis.shape[1], len(config.decays)
    own, window = inferred.own, inferred.own.shape[-1]
    weights, coefficients = _draw(model, inferred, draws, generator)
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
        innovation = message + (errors * own.unsqueeze(1)).sum(-1)
        if generator is not None:
            draw = torch.randn(
                innovation.shape, generator=generator, device=row.device, dtype=row.dtype
            )
            innovation = innovation + noise * draw
        value = baseline + innovation
        value = torch.where(future.floor, value.clamp_min(0), value)
        given = future.given[:, None, :, step]
        value = torch.where(given.isnan(), value, given)
        path.append(value)
        errors = torch.cat([(value - baseline).unsqueeze(-1), errors[..., :-1]], dim=-1)
        now = moving[..., min(step, moving.shape[-1] - 1)]
        carried = decay * carried + (1 - decay) * value.unsqueeze(-1)
        fresh = _saturate(model, carried, now)
        recent = torch.cat([recent[..., 1:], fresh.unsqueeze(-1)], dim=-1)
    return torch.stack(path, dim=-1)


def _draw(
    model: CausalModel, inferred: Inference, draws: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Weights [B, draws, N D, N] and baseline coefficients [B, draws, N, Q] of every future."""
    posterior = inferred.posterior
    probability = causal_probability(posterior.edges)
    mean, sd = posterior.effect_mean, posterior.effect_log_sd.exp()
    if not model.config.store_effects:
        mean, sd = torch.zeros_like(mean), torch.zeros_like(sd)
    coefficients = inferred.coefficients.unsqueeze(1)
    if generator is None:
        # E[exp(effect)] of a normal effect, so that the expectation is that of the draws
        weights = model.decoder.weights(probability, mean + 0.5 * sd.square())
        return weights.flatten(1, 2).unsqueeze(1), coefficients
    shape = (len(mean), draws, *mean.shape[1:])
    like = {"generator": generator, "device": mean.device, "dtype": mean.dtype}
    gate = (torch.rand(shape, **like) < probability.unsqueeze(1)).to(mean.dtype)
    effect = mean.unsqueeze(1) + sd.unsqueeze(1) * torch.randn(shape, **like)
    weights = model.decoder.weights(gate.flatten(0, 1), effect.flatten(0, 1))
    root = torch.linalg.cholesky(inferred.projection.spread)
    wobble = torch.randn((*shape[:3], root.shape[-1]), **like) @ root.unsqueeze(1).mT
    wobble = wobble * inferred.log_noise.exp()[:, None, :, None]
    return weights.flatten(1, 2).unflatten(0, shape[:2]), coefficients + wobble


def _saturate(model: CausalModel, state: Tensor, context: Tensor) -> Tensor:
    """Hill response of carry-over states [B, draws, N, D] under context [B, C]."""
    if not model.config.saturation:
        return state
    slope, half = (p.unsqueeze(1) for p in model.decoder.curve(context))
    ratio = slope * (state.abs().clamp_min(torch.finfo(state.dtype).tiny).log() - half.log())
    return state.sign() * torch.sigmoid(ratio)
