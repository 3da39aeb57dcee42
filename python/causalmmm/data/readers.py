"""Tables from files and dataframe libraries, read one column at a time as plain pandas series.

Knows file formats and table libraries; does not know roles or check values. Text columns are
returned as categories, so that work per distinct text is done once.
"""

from __future__ import annotations

import csv
import gzip
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import narwhals.stable.v2 as nw
import pandas as pd

from causalmmm.files import require_file
from causalmmm.findings import (
    Finding,
    PanelError,
    RefusedInput,
    counted,
    first_few,
    first_line,
    refusal,
)

if TYPE_CHECKING:
    import pyarrow.parquet as pq
    from narwhals.stable.v2.typing import IntoFrame

# A path, or a pandas, polars, Arrow or other table that narwhals understands.
Readable: TypeAlias = "str | PathLike[str] | IntoFrame | Source"
# One policy for all roles, or role -> policy.
Policies: TypeAlias = str | Mapping[str, Any] | None

CSV_SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
# Texts that mean "no value" in numeric columns.
_MISSING = ["", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "-nan", "NULL", "null", "None", "<NA>"]
_CSV_ERRORS = (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError, csv.Error)
PARQUET_SUFFIXES = (".parquet", ".pq")


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
            series = _from_arrow(series.array.__arrow_array__())
        if isinstance(series.dtype, (pd.StringDtype, pd.PeriodDtype)) or series.dtype == object:
            series = _as_categories(series)
        return series.reset_index(drop=True)


def open_source(data: Readable, as_text: Callable[[str], bool]) -> Source:
    """Open a path or a table; a ``Source`` is returned as it is.

    as_text  whether a CSV column of that name is read as text whatever it looks like, so that a
             store called 007 keeps its name.

    Raises ``PanelError`` for a missing, unreadable or unknown kind of file.
    """
    if isinstance(data, Source):
        return data
    if isinstance(data, (str, PathLike)):
        return _open_path(Path(data), as_text)
    try:
        frame = nw.from_native(data)
    except TypeError:
        raise _refusal(
            "unknown-format",
            f"An object of type {type(data).__name__} is not a table.",
            "Pass a pandas, polars or Arrow table, or the path of a CSV or Parquet file.",
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
        except ImportError:  # without pyarrow: slower, same result
            return pd.Series(column.to_numpy())

    return Source(list(frame.columns), len(frame), fetch)


def _without_index(frame: pd.DataFrame) -> pd.DataFrame:
    """Named index levels become columns again; an unnamed index is a mere row number."""
    levels = [name for name in frame.index.names if name is not None and name not in frame.columns]
    return frame.reset_index(level=levels) if levels else frame


def _open_path(path: Path, as_text: Callable[[str], bool]) -> Source:
    require_file(path, kind=PanelError)
    if path.stat().st_size == 0:
        raise _refusal("empty-file", f"'{path}' is empty.", "Export the table again.")
    name = path.name.lower()
    if name.endswith(PARQUET_SUFFIXES):
        return _open_parquet(path)
    if name.endswith(CSV_SUFFIXES):
        return _open_csv(path, as_text)
    raise _refusal(
        "unknown-format",
        f"The name '{path}' does not end like a CSV or Parquet file.",
        "Save the table as .csv or .parquet.",
    )


def _open_parquet(path: Path) -> Source:
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise _refusal(
            "no-parquet",
            f"Reading '{path}' needs pyarrow, which is not installed.",
            "pip install pyarrow, or save the table as CSV.",
        ) from None
    file = open_parquet(path)
    names = list(file.schema_arrow.names)
    _refuse_repeated(names)

    def fetch(name: str, first: int | None) -> pd.Series[Any]:
        if first is not None:
            return _from_arrow(next(file.iter_batches(first, columns=[name])).column(0))
        return _from_arrow(file.read(columns=[name], use_threads=False).column(0))

    return Source(names, file.metadata.num_rows, fetch)


def open_parquet(path: Path, name: str | None = None) -> pq.ParquetFile:
    """An open Parquet file; ``PanelError`` if it is damaged, under ``name`` if one is given."""
    import pyarrow.parquet as pq

    with parquet_errors(name or str(path)):
        return pq.ParquetFile(path)


@contextmanager
def parquet_errors(name: str) -> Iterator[None]:
    """Turn what pyarrow raises for a damaged file into a ``PanelError`` about ``name``."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise _refusal(
            "unreadable-file",
            f"'{name}' is not a readable Parquet file: {first_line(error)}",
            "Write the file again.",
        ) from None


def _open_csv(path: Path, as_text: Callable[[str], bool]) -> Source:
    try:
        with _open_text(path) as lines:
            header = lines.readline()
        delimiter = _delimiter(header)
        names = next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), [])
        if not any(name.strip() for name in names):
            raise _refusal(
                "no-header",
                f"The first line of '{path}' has no column names.",
                "Add a header line.",
            )
        _refuse_repeated([name for name in names if name])
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # raised when values are lost
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
        raise _refusal(
            "encoding",
            f"'{path}' is not UTF-8 text (byte {error.start}).",
            "Save the file as CSV in UTF-8.",
        ) from None
    except (*_CSV_ERRORS, OSError, EOFError) as error:
        raise _refusal(
            "unreadable-file",
            f"'{path}' is not a readable CSV file: {first_line(error)}",
            "Give every line as many values as the header has columns; quote text with commas.",
        ) from None
    unnamed = [c for c in frame.columns if str(c).startswith("Unnamed:") and c not in names]
    source = _open_frame(nw.from_native(frame.drop(columns=unnamed)))
    if unnamed:
        source.notices.append(
            Finding(
                "notice",
                "unnamed-column",
                f"Unused: {counted(len(unnamed), 'column')} without a name (row numbers?).",
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


def _refuse_repeated(names: list[str]) -> None:
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


def _refusal(code: str, message: str, remedy: str) -> RefusedInput:
    return refusal(code, message, remedy, kind=PanelError)
