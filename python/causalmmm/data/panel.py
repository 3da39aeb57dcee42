"""``Panel``: the series of many stores with their names, dates and spend, checked and complete.

Holds arrays, never a table. Checks of tables live in ``validation``, roles in ``schema``, making
panels from arrays in ``arrays``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalmmm.data.schema import Schema
from causalmmm.engine.spec.series import SeriesData
from causalmmm.findings import (
    Finding,
    PanelError,
    Report,
    counted,
    first_few,
    refusal,
    unknown_store,
)

if TYPE_CHECKING:
    import pandas as pd

    from causalmmm.data.readers import Policies, Readable

# What questions to a model accept: a panel, or a table or file that becomes one.
PanelLike: TypeAlias = "Panel | Readable"


@dataclass(frozen=True, eq=False, repr=False)
class Panel:
    """Stores x steps x series, ready for the model. Made by ``from_frame``, ``read`` or
    ``from_arrays``.

    schema              roles of the columns.
    stores              str [S]; names, in the order of the arrays.
    data                the model's arrays (see ``causalmmm.engine.spec.series``).
    spend               float32 [rows, n_paid]; money per paid channel, NaN for channels without a
                        spend column. Shares memory with ``data.values`` if the model's input is
                        spend.
    notices             findings of loading: guesses, conversions, filled values, doubts.
    revenue_per_target  float32 [rows] or None.
    population          float32 [S] or None.

    >>> panel.n_stores, panel.freq, panel.nodes[-1]
    (2, 'W-MON', 'gmv')
    >>> history, future = panel.split(13)
    >>> len(future.to_frame()) == 13 * panel.n_stores
    True
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
        gaps: str = "error",
        business_days: bool = False,
        skip_bad_stores: bool = False,
    ) -> Panel:
        """Check a long table and convert it to arrays.

        data       a pandas, polars or Arrow table, a path as ``read`` takes it, with one row per
                   store and date in any order. It is not modified.
        schema     roles of the columns; None guesses them from the names.
        nan        what to do with missing values: "error" (default), "zero", "interpolate" or
                   "carry" (the last value goes on, as with monthly controls in a weekly table),
                   for all roles or per role, as in {"channels": "zero"}. Each use is recorded
                   in ``notices``.
        min_steps  minimum number of steps per store.
        gaps       what to do with steps that have no row: "error" (default); "zero": nothing was
                   spent or sold then, controls and context go on; "carry": all goes on as in the
                   step before; "leave-out": the history begins after its last gap.
        business_days  a daily table without Saturdays and Sundays: nothing was spent or sold then.
        skip_bad_stores  leave out stores with errors of their own, with a warning in ``notices``
                   that names them and why; errors of the whole table still refuse it.

        Raises ``PanelError``, whose report lists all errors, not only the first.

        >>> frame = panel.to_frame()
        >>> Panel.from_frame(frame, panel.schema).n_stores
        2
        """
        from causalmmm.data.validation import check_table

        checked = check_table(
            data,
            schema,
            nan=nan,
            min_steps=min_steps,
            gaps=gaps,
            business_days=business_days,
            skip_bad_stores=skip_bad_stores,
        )
        checked.report.raise_for_errors()
        assert checked.content is not None
        return cls(**vars(checked.content), notices=checked.report.findings)

    @classmethod
    def read(
        cls,
        path: str | PathLike[str],
        schema: Schema | Mapping[str, Any] | None = None,
        *,
        nan: Policies = None,
        min_steps: int = 8,
        gaps: str = "error",
        business_days: bool = False,
        skip_bad_stores: bool = False,
    ) -> Panel:
        """``from_frame`` for a CSV, Parquet or Excel file, a zip archive or a folder of them.

        A ``TableFile`` says how text is written (decimal comma, encoding, sheet). Parquet is read
        one column at a time; Excel needs the extra ``excel``.

        >>> panel.to_frame().to_csv("panel.csv", index=False)
        >>> Panel.read("panel.csv", panel.schema).n_stores
        2
        """
        if not isinstance(path, str | PathLike):
            raise refusal(
                "no-path",
                f"Panel.read takes the path of a file, not a {type(path).__name__}.",
                "Pass tables to Panel.from_frame.",
                kind=PanelError,
            )
        return cls.from_frame(
            path,
            schema,
            nan=nan,
            min_steps=min_steps,
            gaps=gaps,
            business_days=business_days,
            skip_bad_stores=skip_bad_stores,
        )

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
        """Wrap arrays without missing values; float32 arrays are not copied.

        values      [S, T, N], or [rows, N] store after store with ``lengths`` int [S].
                    Columns follow ``schema.nodes``.
        first_date  earliest date of the panel, a step of ``freq`` ("D", "W", "W-MON" ..., "MS").
        stores      names; default store_0, store_1, ... (``national`` if there is only one).
        start       int [S]; steps from ``first_date`` to each store's first date; default 0.
        controls    [S, T, R] or [rows, R] as ``schema.controls``.
        context     [S, C] constant per store, or [S, T, C] / [rows, C] changing over time.
        spend       [S, T, n_paid] or [rows, n_paid]; default: the channels' own values.

        Raises ``ValueError`` for inconsistent shapes, names or dates, and values not finite.

        >>> schema = Schema(date="day", target="sales", channels=["tv"])
        >>> values = np.ones((1, 30, 2))
        >>> Panel.from_arrays(values, schema=schema, first_date="2024-05-06", freq="W-MON").nodes
        ['tv', 'sales']
        """
        from causalmmm.data.arrays import content_of_arrays

        content = content_of_arrays(
            values,
            schema=schema,
            first_date=first_date,
            freq=freq,
            stores=stores,
            lengths=lengths,
            start=start,
            controls=controls,
            context=context,
            spend=spend,
            revenue_per_target=revenue_per_target,
            population=population,
        )
        return cls(**vars(content))

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
            f"Panel({counted(self.n_stores, 'store')} x {span} steps x {len(self.nodes)} series, "
            f"{self.freq}, {first} to {last})"
        )

    def position(self, store: str) -> int:
        """Index of a store in ``stores``; ``KeyError`` if there is no store of that name."""
        return int(self._positions([store])[0])

    def dates(self, store: str) -> pd.DatetimeIndex:
        """The dates of one store."""
        import pandas as pd

        s = self.position(store)
        start = self.data.start[s]
        return pd.DatetimeIndex(self.data.grid[start : start + self.lengths[s]])

    def select(self, stores: Iterable[str] | str) -> Panel:
        """The panel of these stores, in this order. ``KeyError`` names unknown ones."""
        chosen = self._positions([stores] if isinstance(stores, str) else list(stores))
        if not len(chosen):
            raise ValueError("a panel needs at least one store")
        if len(np.unique(chosen)) < len(chosen):
            raise ValueError("each store can be selected once only")
        return self._cut(chosen, np.zeros(len(chosen), np.int64), self.lengths[chosen])

    def head(self, steps: int) -> Panel:
        """The first ``steps`` steps of every store, or all if it has fewer."""
        kept = np.minimum(self._positive(steps), self.lengths)
        return self._cut(None, np.zeros(self.n_stores, np.int64), kept)

    def tail(self, steps: int) -> Panel:
        """The last ``steps`` steps of every store, or all if it has fewer."""
        kept = np.minimum(self._positive(steps), self.lengths)
        return self._cut(None, self.lengths - kept, kept)

    def split(self, last: int = 13) -> tuple[Panel, Panel]:
        """(train, test): every store without its ``last`` steps, and only those steps."""
        short = self.stores[self.lengths <= self._positive(last)]
        if len(short):
            raise ValueError(
                f"cannot hold out {last} steps: nothing would be left of {first_few(short)}; "
                "hold out fewer, or select() the stores with longer histories"
            )
        train = self._cut(None, np.zeros(self.n_stores, np.int64), self.lengths - last)
        return train, self.tail(last)

    def to_frame(self, stores: Iterable[str] | str | None = None) -> pd.DataFrame:
        """The panel as a long table with the user's column names, store after store.

        Columns: store (unless the schema has none), date, then in the order of the schema.
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
        for j, channel in enumerate(schema.channels.values()):
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
        index = {name: s for s, name in enumerate(self.stores.tolist())}
        unknown = [name for name in map(str, stores) if name not in index]
        if unknown:
            hint = unknown_store(unknown[0], self.stores.tolist())
            raise KeyError(f"no store {first_few(unknown)} in this panel. {hint}")
        return np.array([index[str(name)] for name in stores], dtype=np.int64)

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
        """``kept`` steps of the chosen stores (None: all), after their first ``skip`` steps."""
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
        shared = np.may_share_memory(self.spend, data.values)
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
            spend=values[:, :n_paid] if shared else self.spend[rows],
            revenue_per_target=None if revenue is None else revenue[rows],
            population=None if population is None else population[take],
        )
