"""Whether a store is like any of the laws that the prior was trained on.

A prior is an opinion; in stores unlike all that formed it, evidence of their own counts more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from causalmmm.engine.prior.training import Example

_DIRECTIONS = 40  # of the summaries that are looked at
_FAR = 0.998  # share of held-out stores of the laws that are nearer than one called unlike


class Familiarity(nn.Module):
    """Summaries of training stores: center and spread [S], directions [S, K] with their deviations
    divided out, and the distance ``farthest`` [] that hardly any held-out store of a law reaches.
    """

    center: Tensor
    spread: Tensor
    directions: Tensor
    farthest: Tensor

    def __init__(self, features: int, directions: int = _DIRECTIONS) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(2 * features))
        self.register_buffer("spread", torch.ones(2 * features))
        self.register_buffer("directions", torch.zeros(2 * features, directions))
        self.register_buffer("farthest", torch.ones(()))

    def forward(self, features: Tensor) -> Tensor:
        """[B]: how far the statistics [B, N, N, F] of stores are from those of the laws, in units
        of ``farthest``; above 1 they are like none of them."""
        place = ((_summary(features) - self.center) / self.spread) @ self.directions
        distance: Tensor = place.square().mean(-1).sqrt() / self.farthest
        return distance

    @torch.no_grad()
    def learn(self, training: Sequence[Example], validation: Sequence[Example]) -> None:
        """From the statistics of laws, with the distance set on those not trained on."""
        seen = torch.cat([_summary(example.features.float()) for example in training])
        self.center.copy_(seen.mean(0))
        self.spread.copy_(seen.std(0).clamp_min(1e-3))
        _, size, axes = torch.linalg.svd((seen - self.center) / self.spread, full_matrices=False)
        deviation = size / max(len(seen) - 1, 1) ** 0.5
        kept = min(self.directions.shape[1], int((deviation > 1e-3).sum()))
        self.directions[:, :kept] = axes[:kept].mT / deviation[:kept]
        far = torch.cat([self(example.features.float()) for example in validation])
        self.farthest.copy_(far.quantile(_FAR))


def _summary(features: Tensor) -> Tensor:
    """[B, 2 F]: mean and deviation of every statistic over ordered pairs of different series."""
    nodes = features.shape[1]
    off = 1 - torch.eye(nodes, dtype=features.dtype, device=features.device).unsqueeze(-1)
    count = nodes * (nodes - 1)
    mean = (features * off).sum((1, 2)) / count
    around = (features - mean[:, None, None]) * off
    return torch.cat([mean, (around.square().sum((1, 2)) / count).sqrt()], dim=-1)
