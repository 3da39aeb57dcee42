"""Windows of a panel as batches of tensors: scaling, calendar, and which rows the encoder may see.

Histories of different length share a batch by padding on the left; padding is never seen or scored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from causalmmm.engine.spec.calendar import Calendar
from causalmmm.engine.spec.series import SeriesData

_STORES_AT_ONCE = 1024


@dataclass
class Batch:
    """B windows of T steps.

    x        float32 [B, N, T], each series divided by its store's scale; padding holds ``level``.
    basis    float32 [B, T, Q], calendar terms and controls (see ``Calendar``).
    context  float32 [B, C] or, when it moves in time, [B, C, T].
    seen     bool [B, T], rows the encoder and the baseline may use.
    scored   bool [B, T], rows whose prediction enters the objective.
    store    int64 [B], position of the store in its panel: the key of its sampling noise.
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
        """[B, N, 1]: mean of each series over the rows seen, so that it tells nothing of others."""
        rows = self.context_mask.to(self.x.dtype).unsqueeze(-1)
        return self.x @ rows / rows.sum(1, keepdim=True)

    def to(self, device: torch.device) -> Batch:
        return Batch(*(t.to(device, non_blocking=True) for t in vars(self).values()))


def series_scale(data: SeriesData) -> NDArray[np.float32]:
    """float32 [S, N]: mean of |x| over each store's history, 1 where a series is all zero."""
    scale = np.empty((data.n_stores, data.n_nodes), np.float32)
    for begin in range(0, data.n_stores, _STORES_AT_ONCE):  # bounds the copies of a large panel
        offsets = data.offsets[begin : begin + _STORES_AT_ONCE + 1]
        values = np.abs(data.values[offsets[0] : offsets[-1]])
        total = np.add.reduceat(values, offsets[:-1] - offsets[0], axis=0, dtype=np.float64)
        scale[begin : begin + len(total)] = total / np.diff(offsets)[:, None]
    return np.where(scale > 0, scale, np.float32(1))


class Windows:
    """Draws batches from a panel; holds views of its arrays and small per-store tables only."""

    def __init__(self, data: SeriesData, calendar: Calendar, window: int, memory: int) -> None:
        self.data, self.calendar = data, calendar
        self.window, self.memory = window, memory
        self.scale = series_scale(data)

    def full(self, stores: NDArray[np.int64]) -> Batch:
        """The latest window of each store, every row seen: what inference reads."""
        lengths = np.minimum(self.data.lengths[stores], self.window)
        batch, valid = self._cut(stores, lengths, self.data.lengths[stores] - lengths)
        return _with_rows(batch, valid, valid, np.zeros_like(valid))

    def cross(
        self, stores: NDArray[np.int64], share: float, rng: np.random.Generator, same: bool = False
    ) -> Batch:
        """A random window of each store with a random contiguous block of it hidden and scored.

        The block covers ``share`` of the window. With ``same`` nothing is hidden and every row is
        scored: the objective of the paper, kept for comparison.
        """
        available = self.data.lengths[stores]
        lengths = np.minimum(available, self.window)
        batch, valid = self._cut(stores, lengths, rng.integers(0, available - lengths + 1))
        steps = valid.shape[1]
        first = steps - lengths
        ready = np.arange(steps) >= (first + self.memory)[:, None]
        if same:
            context_mask, target_mask = valid, ready
        else:
            block = np.maximum(1, (share * (lengths - self.memory)).astype(np.int64))
            begin = first + self.memory + rng.integers(0, lengths - self.memory - block + 1)
            inside = (np.arange(steps) >= begin[:, None]) & (
                np.arange(steps) < (begin + block)[:, None]
            )
            context_mask, target_mask = valid & ~inside, inside
        return _with_rows(batch, valid, context_mask, target_mask)

    def _cut(
        self, stores: NDArray[np.int64], lengths: NDArray[np.int64], begin: NDArray[np.int64]
    ) -> tuple[Batch, NDArray[np.bool_]]:
        """Rows ``begin : begin + lengths`` of each store, aligned on the right, and which are so;
        what pads them on the left is still to be filled in, and no row is seen or scored yet."""
        data = self.data
        steps = int(lengths.max())
        position = begin[:, None] + np.arange(steps) - (steps - lengths)[:, None]
        valid = position >= begin[:, None]
        inside = np.maximum(position, begin[:, None])
        rows = data.offsets[stores][:, None] + inside
        x = data.values[rows] / self.scale[stores][:, None, :]
        basis = self.calendar.rows(data.start[stores][:, None] + position)
        if data.controls.shape[1]:
            controls = self.calendar.standardise(data.controls[rows])
            basis = np.concatenate([basis, controls], axis=-1)
        context = data.context[rows if data.context_moves else stores]
        batch = Batch(
            x=torch.from_numpy(np.ascontiguousarray(x.transpose(0, 2, 1))),
            basis=torch.from_numpy(basis),
            context=torch.from_numpy(
                np.ascontiguousarray(context.transpose(0, 2, 1)) if context.ndim == 3 else context
            ),
            context_mask=torch.empty(0),
            target_mask=torch.empty(0),
            store=torch.from_numpy(stores),
        )
        return batch, valid


def _with_rows(
    batch: Batch,
    valid: NDArray[np.bool_],
    context_mask: NDArray[np.bool_],
    target_mask: NDArray[np.bool_],
) -> Batch:
    """The batch with its rows seen and scored, bool [B, T], and padding that tells nothing else."""
    batch.context_mask, batch.target_mask = (
        torch.from_numpy(context_mask),
        torch.from_numpy(target_mask),
    )
    if not valid.all():
        batch.x = torch.where(torch.from_numpy(valid).unsqueeze(1), batch.x, batch.level)
    return batch


def has_full_lags(context_mask: Tensor, lags: int) -> Tensor:
    """bool [B, T - lags]: rows of ``context_mask`` [B, T] with ``lags`` rows of history before.

    The first row of a history is always seen.
    """
    begun = context_mask.cumsum(-1) > 0
    return context_mask[:, lags:] & begun[:, : context_mask.shape[-1] - lags]
