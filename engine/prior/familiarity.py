"""Whether a panel is like any of the laws that the prior was trained on.

A prior is an opinion; on panels unlike all that formed it, evidence of the stores themselves counts
more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from causalmmm.engine.prior.training import Example

_DIRECTIONS = 40  # of the summaries that are looked at
_FAR = 0.998  # share of held-out stores of the laws that are nearer than a panel called unlike
_TENSORS = ("center", "spread", "directions", "farthest")


@dataclass(frozen=True)
class Familiarity:
    """Summaries of training stores: center and spread [S], directions [S, K] with their deviations
    divided out, and the distance [] that hardly any held-out store of a law reaches."""

    center: Tensor
    spread: Tensor
    directions: Tensor
    farthest: Tensor

    @torch.no_grad()
    def distance(self, features: Tensor) -> Tensor:
        """[B]: how far the statistics [B, N, N, F] of stores are from those of the laws, in units
        of ``farthest``; above 1 they are like none of them."""
        place = ((_summary(features) - self.center) / self.spread) @ self.directions
        return place.square().mean(-1).sqrt() / self.farthest

    @staticmethod
    @torch.no_grad()
    def of(training: Sequence[Example], validation: Sequence[Example]) -> Familiarity:
        """From the statistics of laws, with the distance set on those not trained on."""
        seen = torch.cat([_summary(example.features.float()) for example in training])
        center, spread = seen.mean(0), seen.std(0).clamp_min(1e-3)
        _, deviation, axes = torch.linalg.svd((seen - center) / spread, full_matrices=False)
        size = deviation / max(len(seen) - 1, 1) ** 0.5
        kept = min(_DIRECTIONS, int((size > 1e-3).sum()))
        directions = axes[:kept].mT / size[:kept]
        plain = Familiarity(center, spread, directions, torch.ones(()))
        far = torch.cat([plain.distance(example.features.float()) for example in validation])
        return Familiarity(center, spread, directions, far.quantile(_FAR))

    def state(self) -> dict[str, Tensor]:
        """Tensors by name."""
        return {name: getattr(self, name).contiguous() for name in _TENSORS}

    @staticmethod
    def from_state(tensors: dict[str, Tensor]) -> Familiarity:
        """What :meth:`state` gave."""
        return Familiarity(*(tensors[name] for name in _TENSORS))


def _summary(features: Tensor) -> Tensor:
    """[B, 2 F]: mean and deviation of every statistic over ordered pairs of different series."""
    pairs = ~torch.eye(features.shape[1], dtype=torch.bool, device=features.device)
    some = features[:, pairs]  # [B, N (N - 1), F]
    return torch.cat([some.mean(1), some.std(1, correction=0)], dim=-1)
