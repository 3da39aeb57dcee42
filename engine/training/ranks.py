"""Several processes that train one model together, as ``torchrun`` starts them.

Every rank draws the batches of the whole job and computes its share of the stores of each; sums of
gradients make their updates one. A store's windows and noise thus do not depend on the ranks.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """This process among ``count``, ``local`` among those of its machine; ``Ranks(0, 1)`` trains
    alone."""

    rank: int = 0
    count: int = 1
    local: int = 0

    @staticmethod
    def of_environment() -> Ranks:
        """As ``torchrun`` says; alone where nothing does."""
        rank, count, local = ("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0")
        return Ranks(*(int(os.environ.get(*variable)) for variable in (rank, count, local)))

    def join(self, device: torch.device) -> None:
        """Meet the other ranks: by NCCL for a GPU and gloo for a CPU."""
        if self.count > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")

    def share(self, stores: int) -> slice:
        """The positions in a batch of so many stores that this rank computes."""
        if stores < self.count:
            raise ValueError(
                f"an update of {stores} stores cannot be shared by {self.count} processes; start "
                "fewer, or raise batch_stores"
            )
        return slice(stores * self.rank // self.count, stores * (self.rank + 1) // self.count)

    def sum(self, values: Tensor) -> Tensor:
        """The sum of ``values`` over the ranks, in place."""
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Make every gradient the sum over the ranks, in one exchange."""
        if self.count == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = self.sum(torch.cat([gradient.flatten() for gradient in gradients]))
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
