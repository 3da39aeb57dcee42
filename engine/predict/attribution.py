"""Contributions of every sender to the target, step by step, in scaled units.

A decomposition of one-step predictions. A sender's contribution is measured from zero spend, so the
part of its effect that centring moved into the calendar is returned to it, and so is the part that
the target's autoregression carries on.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from causalmmm.engine.batches.batch import Batch
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.nn.posterior import Inference
from causalmmm.engine.predict.effects import ar_filter, expected_weights
from causalmmm.kernels.likelihood import ar_prediction


@dataclass
class Contributions:
    """Components of the target from the second row of each window on; they sum to ``predicted``.

    baseline   [B, T - 1], calendar and controls, with every sender at zero.
    own_past   [B, T - 1], autoregression on deviations that no sender explains.
    senders    [B, N, T - 1], expected effect of each sender; zero for the target.
    predicted  [B, T - 1].
    """

    baseline: Tensor
    own_past: Tensor
    senders: Tensor
    predicted: Tensor


@torch.no_grad()
def contributions(model: CausalModel, batch: Batch, inferred: Inference) -> Contributions:
    """Contributions to the target (the last node), every edge weighted by its probability."""
    weight = expected_weights(model, inferred)[..., -1:]  # [B, N, D, 1]
    added = (weight * inferred.responses).sum(2)  # [B, N, T - 1], from zero spend
    total = added.sum(1, keepdim=True)
    centred = inferred.ahead.residual(total).squeeze(1)  # [B, T - 1], from the calendar
    one_step = ar_prediction(inferred.ar_weights, inferred.residual)[:, -1]
    inputs = torch.cat([added, centred.unsqueeze(1)], dim=1)  # [B, N + 1, T - 1]
    filtered = ar_filter(inputs, inferred.ar_weights[:, -1])
    senders, filtered_centred = filtered[:, :-1], filtered[:, -1]
    calendar = batch.x[:, -1, 1:] - inferred.residual[:, -1, 1:]
    return Contributions(
        baseline=calendar + filtered_centred - senders.sum(1),
        own_past=one_step + centred - filtered_centred,
        senders=senders,
        predicted=calendar + centred + one_step,
    )
