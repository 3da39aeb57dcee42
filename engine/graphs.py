"""Graphs and effects of a batch of stores, as tensors in scaled units."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from causalmmm.engine.model import CausalModel, Inference, causal_probability
from causalmmm.engine.windows import Batch

_NORMAL_95 = 1.6448536269514722


@dataclass
class GraphTable:
    """[B, N, N] each, sender by receiver.

    probability of the edge; effect, the mean contribution of the sender per step while the edge is
    present, in units of the receiver's scale; lower and upper, its central 90 % interval.
    """

    probability: Tensor
    effect: Tensor
    lower: Tensor
    upper: Tensor


@torch.no_grad()
def store_graphs(
    model: CausalModel, batch: Batch, inferred: Inference | None = None
) -> GraphTable:
    """Posterior graphs of a batch, read from all rows it may see."""
    inferred = model.infer(batch) if inferred is None else inferred
    posterior = inferred.posterior
    response, _ = model.decoder.respond(batch.x, batch.context, batch.level)
    seen = batch.seen.to(response.dtype).unsqueeze(-1)  # [B, T, 1]
    level = (response.flatten(1, 2) @ seen / seen.sum(1, keepdim=True)).view(response.shape[:-1])
    shared = torch.einsum("bid,ijd->bij", level, model.decoder.beta)
    effects = effect_interval(model, posterior.effect_mean, posterior.effect_log_sd, shared)
    return GraphTable(causal_probability(posterior.edges), *effects)


def effect_interval(
    model: CausalModel, mean: Tensor, log_sd: Tensor, shared: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, lower and upper end (central 90 %) of ``shared`` effects in stores whose own log
    deviation from them has this mean and deviation."""
    sd = log_sd.exp()
    if not model.config.store_effects:
        mean, sd = torch.zeros_like(mean), torch.zeros_like(sd)
    ends = [shared * (mean + side * _NORMAL_95 * sd).exp() for side in (-1, 1)]
    return shared * (mean + 0.5 * sd.square()).exp(), torch.minimum(*ends), torch.maximum(*ends)
