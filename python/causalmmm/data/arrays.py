"""The content of a panel, and making it from arrays: shapes, names and dates are checked.

Tables and files do not come here; they go through ``validation``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalmmm.data.columns import LARGEST
from causalmmm.data.schema import FREQUENCIES, NATIONAL, Schema
from causalmmm.dates import WEEKDAYS, describe_step, on_step, steps_from, weekday
from causalmmm.engine.spec.series import SeriesData

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Content:
    """What a ``Panel`` is made of; see there."""

    schema: Schema
    stores: NDArray[np.str_]
    data: SeriesData
    spend: Floats
    revenue_per_target: Floats | None
    population: Floats | None


def content_of_arrays(
    values: ArrayLike,
    *,
    schema: Schema,
    first_date: str | np.datetime64,
    freq: str,
    stores: Sequence[str] | NDArray[np.str_] | None,
    lengths: ArrayLike | None,
    start: ArrayLike | None,
    controls: ArrayLike | None,
    context: ArrayLike | None,
    spend: ArrayLike | None,
    revenue_per_target: ArrayLike | None,
    population: ArrayLike | None,
) -> Content:
    """See ``Panel.from_arrays``."""
    flat, counts = _rows_and_lengths(values, lengths, len(schema.nodes))
    first, freq = _first_step(first_date, freq)
    rows, n_stores, n_paid = len(flat), len(counts), len(schema.channels)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    if n_stores == 0 or counts.min() < 1 or offsets[-1] != rows:
        raise ValueError(f"lengths must be positive and sum to the {rows} rows of values")
    starts = np.zeros(n_stores, np.int64) if start is None else np.asarray(start, np.int64)
    if starts.shape != (n_stores,) or starts.min() < 0:
        raise ValueError(f"start must hold one step number >= 0 for each of {n_stores} stores")
    names = _store_names(stores, n_stores)
    grid = steps_from(first, int((starts + counts).max()), freq)
    control_rows = _rows_of(controls, rows, len(schema.controls), "controls")
    context_rows = _context_of(context, rows, n_stores, len(schema.context))
    money = flat[:, :n_paid] if spend is None else _rows_of(spend, rows, n_paid, "spend")
    for name, array in (("values", flat), ("controls", control_rows), ("context", context_rows)):
        if not _all_within(array, LARGEST):
            raise ValueError(f"{name} must be finite, and within {LARGEST:g}, everywhere")
    data = SeriesData(flat, offsets, starts, grid, freq, schema.roles, control_rows, context_rows)
    return Content(
        schema=schema,
        stores=names,
        data=data,
        spend=money,
        revenue_per_target=_vector(revenue_per_target, rows, "revenue_per_target"),
        population=_vector(population, n_stores, "population"),
    )


def _rows_and_lengths(
    values: ArrayLike, lengths: ArrayLike | None, n_nodes: int
) -> tuple[Floats, NDArray[np.int64]]:
    """float32 [rows, N] and the number of rows of each store, int64 [S]."""
    block = np.asarray(values, dtype=np.float32)
    if block.ndim not in (2, 3) or block.shape[-1] != n_nodes:
        raise ValueError(
            f"the last axis of values must hold the {n_nodes} series of the schema, "
            f"got shape {block.shape}"
        )
    if block.ndim == 3:
        if lengths is not None:
            raise ValueError("lengths go with values of shape [rows, N], not [S, T, N]")
        return block.reshape(-1, n_nodes), np.full(block.shape[0], block.shape[1], np.int64)
    if lengths is None:
        raise ValueError("values of shape [rows, N] need the lengths of the stores")
    return block, np.asarray(lengths, dtype=np.int64)


def _first_step(first_date: str | np.datetime64, freq: str) -> tuple[np.datetime64, str]:
    """The first date and the frequency; "W" becomes the weekday of the date."""
    if not FREQUENCIES.fullmatch(freq):
        raise ValueError(f"freq must be D, W, W-MON ... W-SUN or MS, got {freq!r}")
    first = np.array([first_date], "datetime64[D]")
    if freq == "W":
        freq = f"W-{WEEKDAYS[weekday(first)[0]]}"
    if not on_step(first, freq).all():
        raise ValueError(f"first_date {first[0]} is not {describe_step(freq)} (freq {freq!r})")
    return first[0], freq


def _store_names(
    stores: Sequence[str] | NDArray[np.str_] | None, n_stores: int
) -> NDArray[np.str_]:
    if stores is None and n_stores == 1:
        return np.array([NATIONAL])
    if stores is None:
        width = len(str(n_stores - 1))
        return np.array([f"store_{s:0{width}d}" for s in range(n_stores)])
    names = np.asarray(stores, dtype=np.str_)
    if names.shape != (n_stores,) or len(np.unique(names)) != n_stores:
        raise ValueError(f"stores must be {n_stores} different names")
    return names


def _all_within(array: Floats, largest: float) -> bool:
    """Whether no entry is NaN or larger; in blocks, to avoid a mask as large as the array."""
    flat = array.reshape(-1)
    step = 1 << 22
    blocks = (flat[i : i + step] for i in range(0, len(flat), step))
    return all(bool((np.abs(block) <= largest).all()) for block in blocks)


def _rows_of(array: ArrayLike | None, rows: int, columns: int, name: str) -> Floats:
    if array is None:
        if columns:
            raise ValueError(f"the schema has {columns} columns of {name}, but there are no values")
        return np.zeros((rows, 0), np.float32)
    block = np.asarray(array, np.float32)
    flat = block.reshape(-1, block.shape[-1])
    if flat.shape != (rows, columns):
        raise ValueError(f"{name} must be [{rows}, {columns}] in rows, got {block.shape}")
    return flat


def _context_of(array: ArrayLike | None, rows: int, n_stores: int, columns: int) -> Floats:
    """float32 [S, C], or [rows, C] if the context changes over time."""
    block = None if array is None else np.asarray(array, np.float32)
    if block is not None and block.shape == (n_stores, columns):
        return block
    if block is None and columns == 0:
        return np.zeros((n_stores, 0), np.float32)
    return _rows_of(block, rows, columns, "context")


def _vector(array: ArrayLike | None, length: int, name: str) -> Floats | None:
    if array is None:
        return None
    flat = np.asarray(array, np.float32).reshape(-1)
    if flat.shape != (length,):
        raise ValueError(f"{name} must have {length} entries, got {flat.shape[0]}")
    return flat
