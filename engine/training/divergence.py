"""A loss that is not finite: which store and which window of it were first."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class DivergenceError(FloatingPointError):
    """The loss of ``epoch`` (counted from 1) is not finite.

    store  position of the first store whose own loss was not finite, None where the losses of all
           stores of an update were: then the weights had diverged before.
    begin, end  its window, rows of the store's history.
    """

    epoch: int
    learning_rate: float
    store: int | None = None
    begin: int = 0
    end: int = 0

    def __str__(self) -> str:
        where = "" if self.store is None else f" (store at position {self.store}, "
        where += "" if self.store is None else f"rows {self.begin} to {self.end - 1})"
        return (
            f"the loss is not finite in epoch {self.epoch}{where}; lower learning_rate "
            f"(now {self.learning_rate}) or look for extreme values with validate"
        )


def first_not_finite(per_store: Tensor) -> tuple[Tensor, Tensor]:
    """Position of the first of B losses that is not finite, and how many are not; both [], without
    waiting for a GPU. The position means nothing where the number is 0."""
    wrong = (per_store - per_store) != 0  # infinity less itself is no number either
    return wrong.view(torch.uint8).argmax(), wrong.sum()
