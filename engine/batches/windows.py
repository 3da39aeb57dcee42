"""Draws batches from a panel: window positions, scaling, padding, and context and target rows.

Padding on the left lets histories of different length share a batch; it is in neither mask.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from causalmmm.engine.batches.batch import Batch
from causalmmm.engine.batches.masks import masked_mean
from causalmmm.engine.spec.calendar import Calendar
from causalmmm.engine.spec.series import SeriesData

_STORES_AT_ONCE = 1024

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


def series_scale(data: SeriesData) -> NDArray[np.float32]:
    """float32 [S, N]: mean of |x| over each store's history, 1 where a series is all zero."""
    scale = np.empty((data.n_stores, data.n_nodes), np.float32)
    for begin in range(0, data.n_stores, _STORES_AT_ONCE):  # bounds the copies of a large panel
        offsets = data.offsets[begin : begin + _STORES_AT_ONCE + 1]
        values = np.abs(data.values[offsets[0] : offsets[-1]])
        total = np.add.reduceat(values, offsets[:-1] - offsets[0], axis=0, dtype=np.float64)
        scale[begin : begin + len(total)] = total / np.diff(offsets)[:, None]
    return np.where(scale > 0, scale, np.float32(1))


@dataclass(frozen=True)
class Frame:
    """Where the windows of a batch lie: rows ``begin : begin + lengths`` of each store's history,
    aligned on the right of T = max(lengths) steps.

    position  int64 [B, T], row of the store's history; below ``begin`` on padding.
    valid     bool [B, T], False on padding.
    """

    stores: Ints
    lengths: Ints
    begin: Ints
    position: Ints
    valid: Bools

    @property
    def first(self) -> Ints:
        """[B]: column of each window's first row."""
        return self.valid.shape[1] - self.lengths


def _frame(stores: Ints, lengths: Ints, begin: Ints) -> Frame:
    steps = int(lengths.max())
    position = begin[:, None] + np.arange(steps) - (steps - lengths)[:, None]
    return Frame(stores, lengths, begin, position, position >= begin[:, None])


class Draw(NamedTuple):
    """Windows and their context and target rows, bool [B, T] each."""

    frame: Frame
    context_mask: Bools
    target_mask: Bools

    def part(self, stores: slice) -> Draw:
        """The windows of some of the stores, as long as those of all."""
        frame = Frame(*(getattr(self.frame, field.name)[stores] for field in fields(Frame)))
        return Draw(frame, self.context_mask[stores], self.target_mask[stores])


class Windows:
    """Windows of a panel as batches; holds views of its arrays and small per-store tables only."""

    def __init__(self, data: SeriesData, calendar: Calendar, window: int, memory: int) -> None:
        self.data, self.calendar = data, calendar
        self.window, self.memory = window, memory
        self.scale = series_scale(data)

    def full(self, stores: Ints) -> Batch:
        """The latest window of each store with every row as context, for inference."""
        lengths = np.minimum(self.data.lengths[stores], self.window)
        frame = _frame(stores, lengths, self.data.lengths[stores] - lengths)
        return self.batch(Draw(frame, frame.valid, np.zeros_like(frame.valid)))

    def cross(
        self, stores: Ints, share: float, rng: np.random.Generator, same: bool = False
    ) -> Batch:
        """A random window of each store in which a random contiguous block is the target.

        The block covers ``share`` of the rows that have full lags; all other rows are context.
        With ``same`` every row is context and every row with full lags is a target: the paper's
        objective, kept for comparison.
        """
        return self.batch(self.draw(stores, share, rng, same))

    def draw(
        self, stores: Ints, share: float, rng: np.random.Generator, same: bool = False
    ) -> Draw:
        """What :meth:`cross` draws at random, without the values of the series."""
        available = self.data.lengths[stores]
        lengths = np.minimum(available, self.window)
        frame = _frame(stores, lengths, rng.integers(0, available - lengths + 1))
        column = np.arange(frame.valid.shape[1])
        if same:
            has_memory = column >= (frame.first + self.memory)[:, None]
            return Draw(frame, frame.valid, has_memory)
        block = np.maximum(1, (share * (lengths - self.memory)).astype(np.int64))
        begin = frame.first + self.memory + rng.integers(0, lengths - self.memory - block + 1)
        target = (column >= begin[:, None]) & (column < (begin + block)[:, None])
        return Draw(frame, frame.valid & ~target, target)

    def batch(self, draw: Draw) -> Batch:
        """The values of windows. Padding holds each series' mean over the context rows, so that it
        carries no information about other rows."""
        frame, context_mask, target_mask = draw
        data, stores = self.data, frame.stores
        rows = data.offsets[stores][:, None] + np.maximum(frame.position, frame.begin[:, None])
        scaled = data.values[rows] / self.scale[stores][:, None, :]  # [B, T, N]
        x = torch.from_numpy(np.ascontiguousarray(scaled.transpose(0, 2, 1)))
        context_rows = torch.from_numpy(context_mask)
        if not frame.valid.all():
            valid = torch.from_numpy(frame.valid).unsqueeze(1)
            x = torch.where(valid, x, masked_mean(x, context_rows))
        basis = self.calendar.rows(data.start[stores][:, None] + frame.position)
        if data.controls.shape[1]:
            controls = self.calendar.standardise(data.controls[rows])
            basis = np.concatenate([basis, controls], axis=-1)
        context = data.context[rows if data.context_moves else stores]
        if context.ndim == 3:
            context = np.ascontiguousarray(context.transpose(0, 2, 1))
        return Batch(
            x=x,
            basis=torch.from_numpy(basis),
            context=torch.from_numpy(context),
            context_mask=context_rows,
            target_mask=torch.from_numpy(target_mask),
            store=torch.from_numpy(stores),
        )
