"""``Panel``: the series of many stores with their names, dates and money, checked and complete.

Holds arrays, never a table; checks live in ``validation``, roles in ``schema``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalmmm.data.schema import FREQUENCIES, NATIONAL, Schema
from causalmmm.dates import WEEKDAYS, on_step, steps_from, weekday
from causalmmm.engine.spec.series import SeriesData
from causalmmm.findings import Finding, Report, closest, first_few

if TYPE_CHECKING:
    import pandas as pd

    from causalmmm.data.readers import Policies, Readable


@dataclass(frozen=True, eq=False, repr=False)
class Panel:
    """Stores x steps x series, ready for the model. Make one with ``from_frame`` or ``read``.

    schema              what each column is.
    stores              str [S]; names, in the order in which the arrays hold the stores.
    data                the arrays that the model reads (see ``causalmmm.engine.spec.series``).
    spend               float32 [rows, n_paid]; money per paid channel, NaN for a channel whose
                        schema names no spend column. Shares memory with ``data.values`` where
                        spend itself feeds the model.
    notices             what was recognised, repaired on request, or doubted while loading.
    revenue_per_target  float32 [rows] or None.
    population          float32 [S] or None.
    """

    schema: Schema
    stores: NDArray[np.str_]
    data: SeriesData
    spend: NDArray[np.float32]
    notices: tuple[Finding, ...] = ()
    revenue_per_target: NDArray[np.float32] | None = None
    population: NDArray[np.float32] | None = None

    @classmethod
    def from_frame(
        cls,
        data: Readable,
        schema: Schema | Mapping[str, Any] | None = None,
        *,
        nan: Policies = None,
        min_steps: int = 8,
    ) -> Panel:
        """Check a long table and hold it as arrays.

        data       a pandas, polars or Arrow table, or a path to a CSV or Parquet file, one row
                   per store and date in any order. It is not changed.
        schema     roles of the columns; guessed from their names when None.
        nan        what to do with missing values: "error" (default), "zero" or "interpolate",
                   for all roles or per role, as in {"channels": "zero"}. Each use is recorded
                   in ``notices``.
        min_steps  fewest steps that a store may have.

        Raises ``PanelError``, whose report lists everything that is wrong, not only the first.
        """
        from causalmmm.data.validation import examine

        examined = examine(data, schema, nan=nan, min_steps=min_steps)
        examined.report.raise_for_errors()
        parts = examined.parts
        assert parts is not None
        return cls(
            schema=parts.schema,
            stores=parts.stores,
            data=parts.data,
            spend=parts.spend,
            notices=examined.report.findings,
            revenue_per_target=parts.revenue_per_target,
            population=parts.population,
        )

    @classmethod
    def read(
        cls,
        path: str | Path,
        schema: Schema | Mapping[str, Any] | None = None,
        *,
        nan: Policies = None,
        min_steps: int = 8,
    ) -> Panel:
        """``from_frame`` for a CSV or Parquet file, Parquet one column at a time."""
        return cls.from_frame(Path(path), schema, nan=nan, min_steps=min_steps)

    @classmethod
    def from_arrays(
        cls,
        values: ArrayLike,
        *,
        schema: Schema,
        first_date: str | np.datetime64,
        freq: str,
        stores: Sequence[str] | NDArray[np.str_] | None = None,
        lengths: ArrayLike | None = None,
        start: ArrayLike | None = None,
        controls: ArrayLike | None = None,
        context: ArrayLike | None = None,
        spend: ArrayLike | None = None,
        revenue_per_target: ArrayLike | None = None,
        population: ArrayLike | None = None,
    ) -> Panel:
        """Wrap arrays that are already complete; float32 arrays are not copied.

        values      [S, T, N], or [rows, N] store after store with ``lengths`` int [S].
                    Columns follow ``schema.nodes``.
        first_date  earliest date of the panel, a step of ``freq`` ("D", "W", "W-MON" ..., "MS").
        stores      names; default store_0, store_1, ... (``national`` when there is only one).
        start       int [S]; steps between ``first_date`` and each store's first; default 0.
        controls    [S, T, R] or [rows, R] as ``schema.controls``.
        context     [S, C] fixed per store, or [S, T, C] / [rows, C] moving in time.
        spend       [S, T, n_paid] or [rows, n_paid]; default: the channels' own values.

        Raises ``ValueError`` where shapes, names, dates or finiteness do not agree.
        """
        block = np.asarray(values, dtype=np.float32)
        n = len(schema.nodes)
        if block.ndim not in (2, 3) or block.shape[-1] != n:
            raise ValueError(f"values must end in the {n} series of the schema, got {block.shape}")
        if block.ndim == 3:
            if lengths is not None:
                raise ValueError("lengths go with values of shape [rows, N], not [S, T, N]")
            counts = np.full(block.shape[0], block.shape[1], dtype=np.int64)
        elif lengths is None:
            raise ValueError("values of shape [rows, N] need the lengths of the stores")
        else:
            counts = np.asarray(lengths, dtype=np.int64)
        if not FREQUENCIES.fullmatch(freq):
            raise ValueError(f"freq must be D, W, W-MON ... W-SUN or MS, got {freq!r}")
        first = np.array([first_date], "datetime64[D]")
        if freq == "W":
            freq = f"W-{WEEKDAYS[weekday(first)[0]]}"
        if not on_step(first, freq).all():
            raise ValueError(f"first_date {first[0]} is no step of freq {freq!r}")
        flat = block.reshape(-1, n)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        rows, n_stores = len(flat), len(counts)
        if n_stores == 0 or counts.min() < 1 or offsets[-1] != rows:
            raise ValueError(f"lengths must be positive and sum to the {rows} rows of values")
        starts = np.zeros(n_stores, np.int64) if start is None else np.asarray(start, np.int64)
        if starts.shape != (n_stores,) or starts.min() < 0:
            raise ValueError(f"start must hold one step number >= 0 for each of {n_stores} stores")
        if stores is None:
            names = np.array([NATIONAL] if n_stores == 1 else _numbered(n_stores))
        else:
            names = np.asarray(stores, dtype=np.str_)
        if names.shape != (n_stores,) or len(np.unique(names)) != n_stores:
            raise ValueError(f"stores must be {n_stores} different names")
        grid = steps_from(first[0], int((starts + counts).max()), freq)
        known = _rows_of(controls, rows, len(schema.controls), "controls")
        described = _context_of(context, rows, n_stores, len(schema.context))
        n_paid = len(schema.channels)
        money = flat[:, :n_paid] if spend is None else _rows_of(spend, rows, n_paid, "spend")
        for name, array in (("values", flat), ("controls", known), ("context", described)):
            if not all_finite(array):
                raise ValueError(f"{name} must be finite everywhere")
        data = SeriesData(flat, offsets, starts, grid, freq, schema.roles, known, described)
        return cls(
            schema=schema,
            stores=names,
            data=data,
            spend=money,
            revenue_per_target=_vector(revenue_per_target, rows, "revenue_per_target"),
            population=_vector(population, n_stores, "population"),
        )

    @property
    def nodes(self) -> list[str]:
        """Names of the series in model order; the target is last."""
        return self.schema.nodes

    @property
    def control_names(self) -> list[str]:
        return self.schema.control_names

    @property
    def context_names(self) -> list[str]:
        return list(self.schema.context)

    @property
    def freq(self) -> str:
        return self.data.freq

    @property
    def n_stores(self) -> int:
        return self.data.n_stores

    @property
    def lengths(self) -> NDArray[np.int64]:
        """int64 [S]: number of steps of each store."""
        return self.data.lengths

    @property
    def report(self) -> Report:
        """The notices as a report, for printing."""
        return Report.of(self.notices)

    def __len__(self) -> int:
        return self.n_stores

    def __repr__(self) -> str:
        steps = self.lengths
        span = f"{steps.min()}" if steps.min() == steps.max() else f"{steps.min()}-{steps.max()}"
        first, last = self.data.grid[0], self.data.grid[-1]
        return (
            f"Panel({self.n_stores} stores x {span} steps x {len(self.nodes)} series, "
            f"{self.freq}, {first} to {last})"
        )

    def position(self, store: str) -> int:
        """Index of a store in ``stores``; ``KeyError`` when there is none of that name."""
        return int(self._positions([store])[0])

    def dates(self, store: str) -> pd.DatetimeIndex:
        """The dates of one store's steps."""
        import pandas as pd

        s = self.position(store)
        first = self.data.start[s]
        return pd.DatetimeIndex(self.data.grid[first : first + self.lengths[s]])

    def select(self, stores: Iterable[str] | str) -> Panel:
        """The panel of these stores, in this order. ``KeyError`` names those that are unknown."""
        chosen = self._positions([stores] if isinstance(stores, str) else list(stores))
        if not len(chosen):
            raise ValueError("a panel needs at least one store")
        if len(np.unique(chosen)) < len(chosen):
            raise ValueError("a store can be selected once only: names of stores are unique")
        return self._cut(chosen, np.zeros(len(chosen), np.int64), self.lengths[chosen])

    def head(self, steps: int) -> Panel:
        """The first steps of every store, all of them where there are fewer."""
        kept = np.minimum(self._positive(steps), self.lengths)
        return self._cut(None, np.zeros(self.n_stores, np.int64), kept)

    def tail(self, steps: int) -> Panel:
        """The last steps of every store, all of them where there are fewer."""
        kept = np.minimum(self._positive(steps), self.lengths)
        return self._cut(None, self.lengths - kept, kept)

    def split(self, last: int = 13) -> tuple[Panel, Panel]:
        """(train, test): every store without its last steps, and those last steps alone."""
        short = self.stores[self.lengths <= self._positive(last)]
        if len(short):
            raise ValueError(
                f"cannot hold out {last} steps: nothing would be left of {first_few(short)}; "
                "hold out fewer, or select() the stores with longer histories"
            )
        train = self._cut(None, np.zeros(self.n_stores, np.int64), self.lengths - last)
        return train, self.tail(last)

    def to_frame(self, stores: Iterable[str] | str | None = None) -> pd.DataFrame:
        """The panel as a long table under the user's own column names, store after store.

        Columns: store (absent for a national panel without one), date, then as in the schema.
        """
        import pandas as pd

        panel = self if stores is None else self.select(stores)
        data, schema, lengths = panel.data, panel.schema, panel.lengths
        row_store = np.repeat(np.arange(panel.n_stores), lengths)
        step = np.arange(len(data.values)) - np.repeat(data.offsets[:-1] - data.start, lengths)
        columns: dict[str, Any] = {}
        if schema.store is not None:
            columns[schema.store] = pd.array(panel.stores.astype(object), dtype="str")[row_store]
        columns[schema.date] = data.grid[step].astype("datetime64[s]")
        paid = enumerate(schema.channels.values())
        for j, channel in paid:
            if channel.spend is not None:
                columns[channel.spend] = panel.spend[:, j]
            if channel.exposure is not None:
                columns[channel.exposure] = data.values[:, j]
        for j, name in list(enumerate(schema.nodes))[len(schema.channels) :]:
            columns[name] = data.values[:, j]
        for j, name in enumerate(schema.control_names):
            columns[name] = data.controls[:, j]
        for j, name in enumerate(schema.context):
            column = data.context[:, j]
            columns[name] = column if data.context_moves else column[row_store]
        if schema.revenue_per_target is not None and panel.revenue_per_target is not None:
            columns[schema.revenue_per_target] = panel.revenue_per_target
        if schema.population is not None and panel.population is not None:
            columns[schema.population] = panel.population[row_store]
        return pd.DataFrame(columns)

    def _positions(self, stores: Sequence[str]) -> NDArray[np.int64]:
        place = {name: s for s, name in enumerate(self.stores.tolist())}
        unknown = [name for name in map(str, stores) if name not in place]
        if unknown:
            hint = closest(unknown[0], place) if len(place) <= 10_000 else ""
            raise KeyError(f"no store {first_few(unknown)} in this panel. {hint}".strip())
        return np.array([place[str(name)] for name in stores], dtype=np.int64)

    @staticmethod
    def _positive(steps: int) -> int:
        if steps < 1:
            raise ValueError(f"the number of steps must be at least 1, got {steps}")
        return steps

    def _cut(
        self,
        chosen: NDArray[np.int64] | None,
        skip: NDArray[np.int64],
        kept: NDArray[np.int64],
    ) -> Panel:
        """The chosen stores (None: all), each without its first ``skip`` steps, ``kept`` long."""
        data = self.data
        take = np.arange(self.n_stores) if chosen is None else chosen
        offsets = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
        begin = data.offsets[take] + skip
        rows: Any = np.arange(offsets[-1]) + np.repeat(begin - offsets[:-1], kept)
        if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
            rows = slice(int(rows[0]), int(rows[-1]) + 1)  # a view, not a copy
        start = data.start[take] + skip
        first, last = int(start.min()), int((start + kept).max())
        n_paid = len(self.schema.channels)
        values = data.values[rows]
        own = np.may_share_memory(self.spend, data.values)
        revenue, population = self.revenue_per_target, self.population
        return replace(
            self,
            stores=self.stores[take],
            data=replace(
                data,
                values=values,
                offsets=offsets,
                start=start - first,
                grid=data.grid[first:last],
                controls=data.controls[rows],
                context=data.context[rows if data.context_moves else take],
            ),
            spend=values[:, :n_paid] if own else self.spend[rows],
            revenue_per_target=None if revenue is None else revenue[rows],
            population=None if population is None else population[take],
        )


def all_finite(array: NDArray[np.float32]) -> bool:
    """Whether no entry is NaN or infinite, looked at in pieces to need no mask of its size."""
    flat = array.reshape(-1)
    step = 1 << 22
    return all(bool(np.isfinite(flat[i : i + step]).all()) for i in range(0, len(flat), step))


def _numbered(count: int) -> list[str]:
    width = len(str(count - 1))
    return [f"store_{s:0{width}d}" for s in range(count)]


def _rows_of(array: ArrayLike | None, rows: int, columns: int, name: str) -> NDArray[np.float32]:
    if array is None:
        if columns:
            raise ValueError(f"the schema has {columns} columns of {name}, but none are given")
        return np.zeros((rows, 0), np.float32)
    block = np.asarray(array, np.float32)
    flat = block.reshape(-1, block.shape[-1])
    if flat.shape != (rows, columns):
        raise ValueError(f"{name} must be [{rows}, {columns}] in rows, got {block.shape}")
    return flat


def _context_of(
    array: ArrayLike | None, rows: int, n_stores: int, columns: int
) -> NDArray[np.float32]:
    given = None if array is None else np.asarray(array, np.float32)
    if given is not None and given.shape == (n_stores, columns):
        return given
    if given is None and columns == 0:
        return np.zeros((n_stores, 0), np.float32)
    return _rows_of(given, rows, columns, "context")


def _vector(array: ArrayLike | None, length: int, name: str) -> NDArray[np.float32] | None:
    if array is None:
        return None
    flat = np.asarray(array, np.float32).reshape(-1)
    if flat.shape != (length,):
        raise ValueError(f"{name} must have {length} entries, got {flat.shape[0]}")
    return flat
