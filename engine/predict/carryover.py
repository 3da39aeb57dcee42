"""When a step's spend acts on the target, according to the amortised model."""

from __future__ import annotations

import torch
from torch import Tensor

from causalmmm.engine.nn.model import CausalModel


@torch.no_grad()
def carryover(model: CausalModel, lags: int) -> Tensor:
    """Share [N, lags + 1] of each sender's effect on the target that arrives at each lag.

    The components of a sender are weighed by the size of their effects on the target. Nothing
    arrives at lag 0: effects of this model begin a step later.
    """
    decoder = model.decoder
    size = decoder.beta[:, -1].abs()  # [N, D]
    weight = size / size.sum(-1, keepdim=True).clamp_min(1e-12)
    decay = decoder.decay.unsqueeze(-1)  # [N, D, 1]
    delay = torch.tensor(model.config.delays, device=decay.device).view(1, -1, 1)
    since = torch.arange(lags + 1, device=decay.device) - 1 - delay
    share = torch.where(since < 0, 0.0, (1 - decay) * decay ** since.clamp_min(0))
    return (weight.unsqueeze(-1) * share).sum(1)
