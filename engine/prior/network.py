"""The network over ordered pairs: the same for every pair, whatever the number of series."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_CLIP = 6.0  # of standardised statistics
_PATHS = 16  # channels of the sum over series in between
MOST_STORES = 4  # that training panels have; more stores count as so many


class PriorNetwork(nn.Module):
    """Logits [B, N, N] of edges from pair statistics [B, N, N, F].

    A pair sees itself, its reverse, the other pairs of its sender and of its receiver, paths
    through a third series, and the mean state of the same pair in the stores of its panel: how much
    stores of a panel have in common is learned too. Reordering the series reorders the logits and
    changes nothing else.

    ``center`` and ``spread`` [F] standardise the statistics; ``base`` [3, 3] are the log odds of an
    edge by kind of sender and receiver (spend, mediator, target) before any data. All are part of
    the weights.
    """

    center: Tensor
    spread: Tensor
    base: Tensor

    def __init__(self, features: int, width: int = 64) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("center", torch.zeros(features))
        self.register_buffer("spread", torch.ones(features))
        self.register_buffer("base", torch.zeros(3, 3))
        self.read = _mlp(features, width)
        self.around = _mlp(5 * width, width)
        self.legs = nn.Linear(width, 2 * _PATHS)
        self.judge = _mlp(7 * width + _PATHS + 1, width)
        self.last = nn.Linear(width, 1)

    def forward(
        self, features: Tensor, panel: Tensor | None = None, stores: Tensor | None = None
    ) -> Tensor:
        """``panel`` [B or 1, N, N, W] is the mean of :meth:`states` over each store's panel, which
        has so many ``stores`` [B or 1]; without them every store is alone."""
        states = self.states(features)
        if panel is None or stores is None:
            return self.logits(states, states[1], torch.ones(1, device=features.device))
        return self.logits(states, panel, stores)

    def states(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """[B, N, N, W] each: what a pair's own statistics say, and those around it too."""
        scaled = ((features - self.center) / self.spread).clamp(-_CLIP, _CLIP)
        first = self.read(scaled)
        return first, self.around(_around(first))

    def logits(self, states: tuple[Tensor, Tensor], panel: Tensor, stores: Tensor) -> Tensor:
        """[B, N, N] from states, and from those of the panel as in :meth:`forward`."""
        first, second = states
        start, end = self.legs(second).unflatten(-1, (2, _PATHS)).unbind(-2)
        paths = torch.einsum("bikc,bkjc->bijc", start.sigmoid(), end) / first.shape[1]
        count = stores.to(first).clamp_max(MOST_STORES).log() / math.log(MOST_STORES)
        count = count.view(-1, 1, 1, 1).expand(*first.shape[:3], 1)
        seen = torch.cat([first, _around(second), paths, panel.expand_as(second), count], dim=-1)
        logits: Tensor = self.last(self.judge(seen))
        return logits.squeeze(-1)


def _mlp(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())


def _around(h: Tensor) -> Tensor:
    """[B, N, N, 5 W]: a pair's state, its reverse's, and those of its sender's and its receiver's
    pairs."""
    return torch.cat(
        [
            h,
            h.transpose(1, 2),
            h.mean(2, keepdim=True).expand_as(h),
            h.mean(1, keepdim=True).expand_as(h),
            h.amax(1, keepdim=True).expand_as(h),
        ],
        dim=-1,
    )
