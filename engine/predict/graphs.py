"""Graphs and long-run effects of a batch of stores, in scaled units."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from causalmmm.engine.batches.batch import Batch
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.nn.posterior import Inference, causal_probability
from causalmmm.engine.predict.effects import effect_interval, long_run_multiplier, shape_deviation


@dataclass
class GraphTable:
    """Edges and effects, [B, N, N] each, sender by receiver.

    probability   of the edge.
    effect        average long-run effect per step given the edge, autoregression of the receiver
                  included, in units of the receiver's scale.
    lower, upper  its central 90 % interval.
    """

    probability: Tensor
    effect: Tensor
    lower: Tensor
    upper: Tensor


@torch.no_grad()
def store_graphs(model: CausalModel, batch: Batch, inferred: Inference | None = None) -> GraphTable:
    """Posterior graphs of a batch, from its context rows."""
    inferred = model.infer(batch) if inferred is None else inferred
    posterior, decoder = inferred.posterior, model.decoder
    response, _ = decoder.respond(batch.x, batch.context, batch.level)
    rows = batch.context_mask.to(response.dtype).unsqueeze(-1)  # [B, T, 1]
    mean = (response.flatten(1, 2) @ rows / rows.sum(1, keepdim=True)).view(response.shape[:-1])
    multiplier = long_run_multiplier(inferred.ar_weights).unsqueeze(1)  # [B, 1, N]
    shared = torch.einsum("bid,ijd->bij", mean, decoder.beta) * multiplier
    context = batch.context.mean(-1) if batch.context.ndim == 3 else batch.context
    shape_sd = shape_deviation(decoder, context, batch.level, batch.level)
    effects = effect_interval(
        model, posterior.effect_mean, posterior.effect_log_sd, shape_sd, shared
    )
    return GraphTable(causal_probability(posterior.edges), *effects)
