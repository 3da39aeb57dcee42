"""From a path or a table to a ``Source``: which kind of file it is decides who opens it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import narwhals.stable.v2 as nw

from causalmmm.data.bundles import open_folder, open_zip
from causalmmm.data.sources import (
    Source,
    from_arrow,
    refuse_repeated,
    source_of_frame,
    unreadable,
)
from causalmmm.data.table_file import TableFile
from causalmmm.data.text_files import CSV_SUFFIXES, open_csv
from causalmmm.data.workbooks import EXCEL_SUFFIXES, open_workbook
from causalmmm.files import require_file
from causalmmm.findings import PanelError, first_line

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow.parquet as pq
    from narwhals.stable.v2.typing import IntoFrame

# A path, or a pandas, polars, Arrow or other table that narwhals understands.
Readable: TypeAlias = "str | PathLike[str] | IntoFrame | Source"
# One policy for all roles, or role -> policy.
Policies: TypeAlias = str | Mapping[str, Any] | None

PARQUET_SUFFIXES = (".parquet", ".pq")
_SUFFIXES = (*CSV_SUFFIXES, *PARQUET_SUFFIXES, *EXCEL_SUFFIXES)
_KINDS = "a CSV, Parquet or Excel file, a zip archive or a folder of them"


def open_source(data: Readable, as_text: Callable[[str], bool]) -> Source:
    """Open a path, a ``TableFile`` or a table; a ``Source`` is returned as it is.

    as_text  whether a column of that name is read as text whatever it looks like, so that a
             store called 007 keeps its name.

    Raises ``PanelError`` for a missing, unreadable or unknown kind of file.
    """
    if isinstance(data, Source):
        return data
    if isinstance(data, (str, PathLike)):
        settings = data if isinstance(data, TableFile) else TableFile(data)
        return settings.reads_numbers(_open_path(settings, as_text), as_text)
    try:
        frame = nw.from_native(data)
    except TypeError:
        raise unreadable(
            "unknown-format",
            f"An object of type {type(data).__name__} is not a table.",
            f"Pass a pandas, polars or Arrow table, or the path of {_KINDS}.",
        ) from None
    return source_of_frame(frame.collect() if isinstance(frame, nw.LazyFrame) else frame)


def _open_path(settings: TableFile, as_text: Callable[[str], bool]) -> Source:
    path = Path(settings)

    def open_file(path: Path, name: str, content: bytes | None) -> Source:
        if not (path.stat().st_size if content is None else len(content)):
            raise unreadable("empty-file", f"'{name}' is empty.", "Export the table again.")
        if path.name.lower().endswith(PARQUET_SUFFIXES):
            return _open_parquet(path, name, content)
        excel = path.name.lower().endswith(EXCEL_SUFFIXES)
        opened = open_workbook if excel else open_csv
        return opened(path, settings, as_text, name, content)

    if path.is_dir():
        return open_folder(path, _SUFFIXES, open_file)
    require_file(path, kind=PanelError)
    if path.name.lower().endswith(".zip"):
        return open_zip(path, _SUFFIXES, open_file)
    if path.name.lower().endswith(_SUFFIXES) or not path.stat().st_size:
        return open_file(path, str(path), None)
    raise unreadable(
        "unknown-format",
        f"The name '{path}' does not end like {_KINDS.partition(', a zip')[0]}.",
        "Save the table as .csv, .parquet or .xlsx.",
    )


def _open_parquet(path: Path, name: str, content: bytes | None) -> Source:
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise unreadable(
            "no-parquet",
            f"Reading '{name}' needs pyarrow, which is not installed.",
            "pip install pyarrow, or save the table as CSV.",
        ) from None
    file = open_parquet(path if content is None else io.BytesIO(content), name)
    names = list(file.schema_arrow.names)
    refuse_repeated(names)

    def fetch(name: str, first: int | None) -> pd.Series[Any]:
        if first is not None:
            return from_arrow(next(file.iter_batches(first, columns=[name])).column(0))
        return from_arrow(file.read(columns=[name], use_threads=False).column(0))

    return Source(names, file.metadata.num_rows, fetch)


def open_parquet(file: Path | IO[bytes], name: str) -> pq.ParquetFile:
    """An open Parquet file; ``PanelError`` under ``name`` if it is damaged."""
    import pyarrow.parquet as pq

    with parquet_errors(name):
        return pq.ParquetFile(file)


@contextmanager
def parquet_errors(name: str) -> Iterator[None]:
    """Turn what pyarrow raises for a damaged file into a ``PanelError`` about ``name``."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise unreadable(
            "unreadable-file",
            f"'{name}' is not a readable Parquet file: {first_line(error)}",
            "Write the file again.",
        ) from None
