"""Response curves: the long-run effect of constant spend on the target, per step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from causalmmm.engine.batches.batch import Batch
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.nn.posterior import Inference, causal_probability
from causalmmm.engine.predict.effects import effect_interval, long_run_multiplier, shape_deviation
from causalmmm.kernels import adstock_hill


@dataclass
class Curves:
    """Long-run effects of every sender and amount, [B, N, G] each, in units of the target's scale.

    effect, lower, upper  given the edge to the target, with a central 90 % interval.
    expected              effect times the probability of the edge.
    """

    effect: Tensor
    lower: Tensor
    upper: Tensor
    expected: Tensor


@torch.no_grad()
def response_curves(
    model: CausalModel, batch: Batch, inferred: Inference, amounts: Tensor
) -> Curves:
    """Steady-state response of the target (the last node) to scaled ``amounts`` [B, N, G] per step.

    The curve is that of the latest context. Carry-over weights sum to one, so they do not change
    the response to constant spend; the target's autoregression does, by its long-run multiplier.
    """
    decoder = model.decoder
    context = batch.context[..., -1] if batch.context.ndim == 3 else batch.context
    response = amounts
    if model.config.saturation:
        slope, half = decoder.curve(context)
        zero = torch.zeros_like(amounts[..., :1])  # no carry-over, from no adstock
        response, _ = adstock_hill(amounts, zero, slope, half, zero.squeeze(-1))
    multiplier = long_run_multiplier(inferred.ar_weights[:, -1]).view(-1, 1, 1)
    shared = response * decoder.beta[:, -1].sum(-1).unsqueeze(-1) * multiplier
    shape_sd = shape_deviation(decoder, context, batch.level, amounts)
    posterior = inferred.posterior
    mean, log_sd = posterior.effect_mean[..., -1:], posterior.effect_log_sd[..., -1:]
    effect, lower, upper = effect_interval(model, mean, log_sd, shape_sd, shared)
    probability = causal_probability(posterior.edges)[..., -1:]
    return Curves(effect, lower, upper, effect * probability)
