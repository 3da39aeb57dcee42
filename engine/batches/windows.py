"""Draws batches from a panel: window positions, scaling, padding, and context and target rows.

Padding on the left lets histories of different length share a batch; it is in neither mask.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from causalmmm.engine.batches.batch import Batch
from causalmmm.engine.batches.masks import masked_mean
from causalmmm.engine.spec.calendar import Calendar
from causalmmm.engine.spec.series import SeriesData

_STORES_AT_ONCE = 1024

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
class Draw:
    """Windows of a batch, one per store: rows ``begin : begin + lengths`` of its history, aligned
    on the right of T = ``steps`` columns; all arrays int64 [B].

    target_begin, target_length  the target block of each window, from its first row on.
    overlap  True if target rows are context rows too.
    """

    stores: Ints
    lengths: Ints
    begin: Ints
    target_begin: Ints
    target_length: Ints
    steps: int
    overlap: bool = False

    def part(self, stores: slice) -> Draw:
        """The windows of some of the stores, in as many columns as those of all."""
        chosen = {name: getattr(self, name)[stores] for name in _PER_STORE}
        return replace(self, **chosen)


_PER_STORE = ("stores", "lengths", "begin", "target_begin", "target_length")


class _Arrays(NamedTuple):
    """The panel's arrays as tensors on one device; ``calendar`` is its table of terms by date."""

    values: Tensor
    scale: Tensor
    offsets: Tensor
    start: Tensor
    controls: Tensor
    context: Tensor
    calendar: Tensor
    control_mean: Tensor
    control_scale: Tensor


class Windows:
    """Windows of a panel as batches, on the device on which the panel lives.

    On a CPU that is views of its arrays. What is drawn at random is drawn on the host, a few
    numbers a store, so that a seed gives the same windows on every device.
    """

    def __init__(self, data: SeriesData, calendar: Calendar, window: int, memory: int) -> None:
        self.data, self.calendar = data, calendar
        self.window, self.memory = window, memory
        self.scale = series_scale(data)
        self._resident: _Arrays | None = None

    def on(self, device: torch.device) -> Windows:
        """The same windows of a panel that lives on ``device``, where half of its free memory
        holds it; else these, whose batches are to be copied there."""
        if device.type != "cuda":
            return self
        arrays = self._views()
        needed = sum(array.numel() * array.element_size() for array in arrays)
        if needed > torch.cuda.mem_get_info(device)[0] // 2:
            return self
        moved = copy.copy(self)
        moved._resident = _Arrays(*(array.to(device) for array in arrays))
        return moved

    def full(self, stores: Ints) -> Batch:
        """The latest window of each store with every row as context, for inference."""
        lengths = np.minimum(self.data.lengths[stores], self.window)
        begin, none = self.data.lengths[stores] - lengths, np.zeros_like(lengths)
        return self.batch(Draw(stores, lengths, begin, none, none, int(lengths.max())))

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
        begin = rng.integers(0, available - lengths + 1)
        memory = np.full_like(lengths, self.memory)
        steps = int(lengths.max())
        if same:
            return Draw(stores, lengths, begin, memory, lengths - memory, steps, overlap=True)
        block = np.maximum(1, (share * (lengths - self.memory)).astype(np.int64))
        first = self.memory + rng.integers(0, lengths - self.memory - block + 1)
        return Draw(stores, lengths, begin, first, block, steps)

    def batch(self, draw: Draw) -> Batch:
        """The values of windows. Padding holds each series' mean over the context rows, so that it
        carries no information about other rows."""
        arrays = self._views() if self._resident is None else self._resident
        device = arrays.values.device
        drawn = torch.from_numpy(np.stack([getattr(draw, name) for name in _PER_STORE]))
        if device.type == "cuda":  # copied while the host goes on
            drawn = drawn.pin_memory().to(device, non_blocking=True)
        store, (lengths, begin, target_begin, target_length) = drawn[0], drawn[1:].unsqueeze(-1)
        column = torch.arange(draw.steps, device=device)
        position = begin + column - (draw.steps - lengths)  # [B, T], row of the store's history
        valid = position >= begin
        offset = position - begin - target_begin
        target = (offset >= 0) & (offset < target_length)
        context_rows = valid if draw.overlap else valid & ~target
        rows = arrays.offsets[store].unsqueeze(-1) + torch.maximum(position, begin)
        chosen = arrays.values.index_select(0, rows.flatten()).view(*rows.shape, -1)  # [B, T, N]
        x = (chosen / arrays.scale[store].unsqueeze(1)).transpose(1, 2).contiguous()
        if (draw.lengths < draw.steps).any():
            x = torch.where(valid.unsqueeze(1), x, masked_mean(x, context_rows))
        basis = self._basis(arrays, arrays.start[store].unsqueeze(-1) + position)
        if self.data.controls.shape[1]:
            controls = (arrays.controls[rows] - arrays.control_mean) / arrays.control_scale
            basis = torch.cat([basis, controls], dim=-1)
        context = arrays.context[rows if self.data.context_moves else store]
        if context.ndim == 3:
            context = context.transpose(1, 2).contiguous()
        return Batch(x, basis, context, context_rows, target, store)

    def _basis(self, arrays: _Arrays, position: Tensor) -> Tensor:
        """As ``Calendar.rows``, which takes arrays."""
        table = arrays.calendar
        basis = table.index_select(0, position.clamp(0, len(table) - 1).flatten())
        basis = basis.view(*position.shape, -1)
        since = (position - position[:, -1:]).double() / self.calendar.steps_per_year
        basis[..., 1] = since.to(basis.dtype)
        return basis

    def _views(self) -> _Arrays:
        data, calendar = self.data, self.calendar
        arrays = (
            *(data.values, self.scale, data.offsets, data.start, data.controls, data.context),
            *(calendar.table, calendar.control_mean, calendar.control_scale),
        )
        with warnings.catch_warnings():  # nothing writes to them
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            return _Arrays(*map(torch.from_numpy, arrays))
