"""What every sender added to the target, step by step, in scaled units.

One-step predictions taken apart: a sender counts from zero, so what centring moved into the
calendar is given back to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from causalmmm.engine.model import CausalModel, Inference, causal_probability, own_prediction
from causalmmm.engine.windows import Batch


@dataclass
class Contributions:
    """Parts of the target from the second row of each window on; they sum to ``predicted``.

    baseline   [B, T - 1]: calendar and controls, with every sender at zero.
    own        [B, T - 1]: the target's own past deviations.
    senders    [B, N, T - 1]: expected effect of each sender's response; zero for the target.
    predicted  [B, T - 1].
    """

    baseline: Tensor
    own: Tensor
    senders: Tensor
    predicted: Tensor


@torch.no_grad()
def contributions(model: CausalModel, batch: Batch, inferred: Inference) -> Contributions:
    """Contributions to the target (the last node), every edge weighed by its probability."""
    decoder = model.decoder
    weight = expected_weights(model, inferred)[..., -1:]  # [B, N, D, 1]
    response, _ = decoder.respond(batch.x, batch.context, batch.level)
    response = decoder.delayed(response)[..., :-1]
    senders = (weight * response).sum(2)
    centred = (weight * inferred.responses).sum((1, 2))
    calendar = batch.x[:, -1, 1:] - inferred.residual[:, -1, 1:]
    own = own_prediction(inferred.own, inferred.residual)[:, -1]
    return Contributions(
        baseline=calendar + centred - senders.sum(1),
        own=own,
        senders=senders,
        predicted=calendar + centred + own,
    )


def expected_weights(model: CausalModel, inferred: Inference) -> Tensor:
    """[B, N, D, N]: posterior mean of what a unit of every response adds to every receiver."""
    posterior = inferred.posterior
    mean, variance = posterior.effect_mean, (2 * posterior.effect_log_sd).exp()
    log_effect = mean + 0.5 * variance
    if not model.config.store_effects:
        log_effect = torch.zeros_like(mean)
    return model.decoder.weights(causal_probability(posterior.edges), log_effect)
