"""``Source``: a table whose columns are fetched one at a time as plain pandas series.

Knows table libraries, not files; does not know roles or check values. Text columns are returned as
categories, so that work per distinct text is done once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import narwhals.stable.v2 as nw
import pandas as pd

from causalmmm.findings import Finding, PanelError, RefusedInput, first_few, refusal

# Texts that mean "no value" in numeric columns.
MISSING = ["", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "-nan", "NULL", "null", "None", "<NA>"]


@dataclass(frozen=True)
class Source:
    """A table whose columns are fetched on request, completely or only their first rows."""

    names: list[str]
    rows: int
    fetch: Callable[[str, int | None], pd.Series[Any]]
    notices: list[Finding] = field(default_factory=list)

    def column(self, name: str, first: int | None = None) -> pd.Series[Any]:
        """The column as numbers, dates or categories; with ``first``, only so many rows."""
        series = self.fetch(name, first)
        if isinstance(series.dtype, pd.ArrowDtype):
            series = from_arrow(series.array.__arrow_array__())
        if isinstance(series.dtype, (pd.StringDtype, pd.PeriodDtype)) or series.dtype == object:
            series = _as_categories(series)
        return series.reset_index(drop=True)


def source_of_frame(frame: nw.DataFrame[Any]) -> Source:
    """The columns of a pandas, polars, Arrow or other table; named index levels are columns."""
    native = frame.to_native()
    if isinstance(native, pd.DataFrame):
        flat = _without_index(native)
        names = [str(name) for name in flat.columns]
        refuse_repeated(names)
        by_name = dict(zip(names, flat.columns, strict=True))
        return Source(names, len(flat), lambda name, first: flat[by_name[name]][:first])
    refuse_repeated(list(frame.columns))

    def fetch(name: str, first: int | None) -> pd.Series[Any]:
        column = frame[name] if first is None else frame[name].head(first)
        try:
            return from_arrow(column.to_arrow())
        except ImportError:  # without pyarrow: slower, same result
            return pd.Series(column.to_numpy())

    return Source(list(frame.columns), len(frame), fetch)


def _without_index(frame: pd.DataFrame) -> pd.DataFrame:
    """Named index levels become columns again; an unnamed index is a mere row number."""
    levels = [name for name in frame.index.names if name is not None and name not in frame.columns]
    return frame.reset_index(level=levels) if levels else frame


def from_arrow(column: Any) -> pd.Series[Any]:
    """An Arrow column as numpy-backed pandas; text becomes categories, not a string per row."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_decimal(kind) or pa.types.is_null(kind):
        column = column.cast(pa.float64())
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or _is_string_view(kind):
        text = column.cast(pa.large_string()) if _is_string_view(kind) else column
        column = text.dictionary_encode()
    series = column.to_pandas(date_as_object=False)
    return series if isinstance(series, pd.Series) else pd.Series(series)


def _is_string_view(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string_view(kind))


def _as_categories(series: pd.Series[Any]) -> pd.Series[Any]:
    if not isinstance(series.dtype, pd.StringDtype):
        inferred = pd.api.types.infer_dtype(series, skipna=True)
        if inferred in ("boolean", "integer", "floating", "mixed-integer-float", "decimal"):
            return series.astype("boolean") if inferred == "boolean" else series.astype("float64")
        if inferred in ("datetime64", "datetime", "date"):
            try:
                return pd.to_datetime(series)
            except ValueError:  # several time zones: keep them as text, which tells them apart
                return _as_categories(series.where(series.isna(), series.astype(str)))
        # Text mixed with numbers and flags: use what a file would show.
        series = series.where(series.isna(), series.astype(str))
    codes, distinct = pd.factorize(series)
    return pd.Series(pd.Categorical.from_codes(codes, pd.Index(distinct)))


def refuse_repeated(names: list[str]) -> None:
    """Raise ``PanelError`` for every name that several columns have."""
    repeated = sorted(name for name, times in Counter(names).items() if times > 1)
    if repeated:
        raise PanelError(
            [
                Finding(
                    "error",
                    "repeated-column",
                    f"The table has several columns named {first_few([name])}.",
                    "Rename or remove all but one of them.",
                    column=name,
                )
                for name in repeated
            ]
        )


def unreadable(code: str, message: str, remedy: str) -> RefusedInput:
    """The refusal of a table, to be raised."""
    return refusal(code, message, remedy, kind=PanelError)
