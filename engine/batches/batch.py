"""``Batch``: a set of windows of equal length, one per store, as tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from causalmmm.engine.batches.masks import masked_mean


@dataclass
class Batch:
    """B windows of T steps. Shorter histories are padded on the left.

    x             float32 [B, N, T], each series divided by its store's scale; padding holds
                  ``level``.
    basis         float32 [B, T, Q], calendar terms and controls (see ``Calendar``).
    context       float32 [B, C] or, if it varies in time, [B, C, T].
    context_mask  bool [B, T], rows that the encoder and the baseline may use.
    target_mask   bool [B, T], rows whose prediction enters the objective.
    store         int64 [B], position of the store in its panel: the key of its sampling noise.
    """

    x: Tensor
    basis: Tensor
    context: Tensor
    context_mask: Tensor
    target_mask: Tensor
    store: Tensor

    @property
    def valid(self) -> Tensor:
        """bool [B, T]: rows of the history; False on padding."""
        return self.context_mask | self.target_mask

    @property
    def level(self) -> Tensor:
        """[B, N, 1]: mean of each series over the context rows; target rows do not affect it."""
        return masked_mean(self.x, self.context_mask)

    def to(self, device: torch.device) -> Batch:
        """The batch on ``device``; a host that sends it to a GPU goes on while it is copied."""
        return Batch(*(_sent(tensor, device) for tensor in vars(self).values()))


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()  # torch reuses such memory once what was copied has arrived
    return tensor.to(device, non_blocking=True)
