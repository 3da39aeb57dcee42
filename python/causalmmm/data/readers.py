"""Tables from files and libraries, handed out one column at a time as plain pandas series.

Knows file formats and table libraries; knows nothing of roles, and judges no values.
Text columns come as categories, so that whatever is done per distinct text is done once.
"""

from __future__ import annotations

import csv
import gzip
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import IO, Any

import narwhals.stable.v2 as nw
import pandas as pd

from causalmmm.findings import Finding, PanelError, counted, first_few

# A path, or a pandas, polars, Arrow or other table that narwhals understands.
Readable = Any
# One policy for all roles, or role -> policy.
Policies = str | Mapping[str, Any] | None

CSV_SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
# what counts as no value in columns of numbers
_MISSING = ["", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "-nan", "NULL", "null", "None", "<NA>"]
_CSV_ERRORS = (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError, csv.Error)
PARQUET_SUFFIXES = (".parquet", ".pq")


@dataclass(frozen=True)
class Source:
    """A table with named columns, each fetched when asked for, whole or its first rows only."""

    names: list[str]
    rows: int
    fetch: Callable[[str, int | None], pd.Series[Any]]
    notices: list[Finding] = field(default_factory=list)

    def column(self, name: str, first: int | None = None) -> pd.Series[Any]:
        """The column as numbers, dates or categories: one entry per row, or per first row."""
        series = self.fetch(name, first)
        if isinstance(series.dtype, pd.ArrowDtype):
            series = _from_arrow(series.array.__arrow_array__())
        if isinstance(series.dtype, (pd.StringDtype, pd.PeriodDtype)) or series.dtype == object:
            series = _as_categories(series)
        return series.reset_index(drop=True)


def open_source(data: Readable, as_text: Callable[[str], bool]) -> Source:
    """Open a path or a table. CSV columns for whose name ``as_text`` holds are read as text,
    whatever they look like, so that a store called 007 keeps its name.

    Raises ``PanelError`` when there is no such file, or it is of an unknown kind or unreadable.
    """
    if isinstance(data, (str, PathLike)):
        return _open_path(Path(data), as_text)
    try:
        frame = nw.from_native(data)
    except TypeError:
        raise _refuse(
            "unknown-format",
            f"Cannot read a table from a {type(data).__name__}.",
            "Give a pandas, polars or Arrow table, or the path of a CSV or Parquet file.",
        ) from None
    return _open_frame(frame.collect() if isinstance(frame, nw.LazyFrame) else frame)


def _open_frame(frame: nw.DataFrame[Any]) -> Source:
    native = frame.to_native()
    if isinstance(native, pd.DataFrame):
        flat = _without_index(native)
        names = [str(name) for name in flat.columns]
        _refuse_repeated(names)
        by_name = dict(zip(names, flat.columns, strict=True))
        return Source(names, len(flat), lambda name, first: flat[by_name[name]][:first])
    _refuse_repeated(list(frame.columns))

    def fetch(name: str, first: int | None) -> pd.Series[Any]:
        column = frame[name] if first is None else frame[name].head(first)
        try:
            return _from_arrow(column.to_arrow())
        except ImportError:  # no pyarrow: slower, and just as right
            return pd.Series(column.to_numpy())

    return Source(list(frame.columns), len(frame), fetch)


def _without_index(frame: pd.DataFrame) -> pd.DataFrame:
    """Named index levels are columns that somebody moved; an unnamed index is only a count."""
    named = [name for name in frame.index.names if name is not None and name not in frame.columns]
    return frame.reset_index(level=named) if named else frame


def _open_path(path: Path, as_text: Callable[[str], bool]) -> Source:
    if not path.is_file():
        raise _refuse("no-such-file", f"There is no file '{path}'.", "Check the path.")
    if path.stat().st_size == 0:
        raise _refuse("empty-file", f"'{path}' is empty.", "Export the table again.")
    name = path.name.lower()
    if name.endswith(PARQUET_SUFFIXES):
        return _open_parquet(path)
    if name.endswith(CSV_SUFFIXES):
        return _open_csv(path, as_text)
    raise _refuse(
        "unknown-format",
        f"'{path}' is neither CSV nor Parquet by its name.",
        "Save the table as .csv or .parquet.",
    )


def _open_parquet(path: Path) -> Source:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise _refuse(
            "no-parquet",
            f"Reading '{path}' needs pyarrow, which is not installed.",
            "pip install pyarrow, or save the table as CSV.",
        ) from None
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise _refuse(
            "unreadable-file",
            f"'{path}' is not a readable Parquet file: {_line(error)}",
            "Write the file again.",
        ) from None
    names = list(file.schema_arrow.names)
    _refuse_repeated(names)

    def fetch(name: str, first: int | None) -> pd.Series[Any]:
        if first is not None:
            return _from_arrow(next(file.iter_batches(first, columns=[name])).column(0))
        return _from_arrow(file.read(columns=[name], use_threads=False).column(0))

    return Source(names, file.metadata.num_rows, fetch)


def _open_csv(path: Path, as_text: Callable[[str], bool]) -> Source:
    try:
        with _open_text(path) as lines:
            header = lines.readline()
        delimiter = _delimiter(header)
        names = next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), [])
        if not any(name.strip() for name in names):
            raise _refuse(
                "no-header", f"'{path}' has no line of column names.", "Begin it with one."
            )
        _refuse_repeated([name for name in names if name])
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # of values lost
            frame = pd.read_csv(
                path,
                sep=delimiter,
                encoding="utf-8-sig",
                skipinitialspace=True,
                index_col=False,
                dtype=dict.fromkeys(filter(as_text, names), "str"),
                keep_default_na=False,  # a store may be called NA
                na_values={name: [""] if as_text(name) else _MISSING for name in names},
                low_memory=False,
            )
    except UnicodeDecodeError as error:
        raise _refuse(
            "encoding",
            f"'{path}' is not UTF-8 text (byte {error.start}).",
            "Save the file as CSV in UTF-8.",
        ) from None
    except (*_CSV_ERRORS, OSError, EOFError) as error:
        raise _refuse(
            "unreadable-file",
            f"'{path}' is not a readable CSV file: {_line(error)}",
            "Every line needs as many values as the header has columns; quote text with commas.",
        ) from None
    unnamed = [c for c in frame.columns if str(c).startswith("Unnamed:") and c not in names]
    source = _open_frame(nw.from_native(frame.drop(columns=unnamed)))
    if unnamed:
        source.notices.append(
            Finding(
                "notice",
                "unnamed-column",
                f"Not used: {counted(len(unnamed), 'column')} without a name (row numbers?).",
            )
        )
    return source


def _open_text(path: Path) -> IO[str]:
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _delimiter(header: str) -> str:
    return max(",;\t|", key=header.count)


def _from_arrow(column: Any) -> pd.Series[Any]:
    """An Arrow column as numpy-backed pandas; text becomes categories without a string per row."""
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
            except ValueError:  # several time zones: their texts still tell them apart
                return _as_categories(series.where(series.isna(), series.astype(str)))
        # Text beside numbers and flags: compare what would be seen in a file.
        series = series.where(series.isna(), series.astype(str))
    codes, distinct = pd.factorize(series)
    return pd.Series(pd.Categorical.from_codes(codes, pd.Index(distinct)))


def _refuse_repeated(names: list[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise PanelError(
            [
                Finding(
                    "error",
                    "repeated-column",
                    f"The table has several columns {first_few([name])}.",
                    "Rename or remove all but one.",
                    column=name,
                )
                for name in repeated
            ]
        )


def _refuse(code: str, message: str, remedy: str) -> PanelError:
    return PanelError([Finding("error", code, message, remedy)])


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
