"""Excel workbooks: one sheet of them as a ``Source``. Needs the optional package openpyxl."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from causalmmm.data.sources import MISSING, Source, refuse_repeated, unreadable
from causalmmm.data.text_files import unfolding, unfolds, unnamed_columns
from causalmmm.findings import Finding, RefusedInput, first_few, first_line

if TYPE_CHECKING:
    from causalmmm.data.table_file import TableFile

EXCEL_SUFFIXES = (".xlsx", ".xlsm")
_MAX_CELLS = 50_000_000


def open_workbook(
    path: Path,
    settings: TableFile,
    as_text: Callable[[str], bool],
    name: str,
    content: bytes | None,
) -> Source:
    """The table in a sheet, whose first row that is not empty names the columns."""
    try:
        import openpyxl
    except ImportError:
        raise unreadable(
            "no-excel",
            f"Reading '{name}' needs openpyxl, which is not installed.",
            "pip install 'causalmmm[excel]', or save the sheet as CSV.",
        ) from None
    file = path if content is None else io.BytesIO(content)
    try:
        with zipfile.ZipFile(file) as parts:
            packed = path.stat().st_size if content is None else len(content)
            if unfolds(packed, sum(part.file_size for part in parts.infolist())):
                raise unfolding(name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about styles and extensions
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            try:
                return _table(book, settings.sheet, as_text, name)
            finally:
                book.close()
    except (RefusedInput, MemoryError):
        raise
    except Exception as error:  # a damaged workbook raises almost anything
        raise unreadable(
            "unreadable-file",
            f"'{name}' is not a readable Excel file: {first_line(error)}",
            "Save the workbook again as .xlsx, without a password, or the sheet as CSV.",
        ) from None


def _table(book: Any, wanted: str | None, as_text: Callable[[str], bool], name: str) -> Source:
    sheets = {sheet.title: sheet for sheet in book.worksheets}
    if wanted is not None and wanted not in sheets:
        message = f"'{name}' has no sheet '{wanted}'."
        raise unreadable("no-such-sheet", message, f"Its sheets are {first_few(sheets)}.")
    for title in [wanted] if wanted is not None else sheets:
        rows = _rows(sheets[title], name)
        header = next(rows, None)
        if header is not None:
            source = _source(header, rows, as_text)
            others = [other for other in sheets if other != title]
            if wanted is None and others:
                told = f"Of '{name}' the sheet '{title}' is read; not read: {first_few(others)}."
                remedy = "Name another one by data.sheet."
                source.notices.append(Finding("notice", "other-sheets", told, remedy))
            return source
    empty = f"'{name}' has no cells" if wanted is None else f"Sheet '{wanted}' of '{name}' is empty"
    raise unreadable("empty-file", f"{empty}.", "Export the table again.")


def _rows(sheet: Any, name: str) -> Iterator[tuple[Any, ...]]:
    """Rows with a value in them."""
    sheet.reset_dimensions()  # what a file claims about its size may be anything
    cells = 0
    for row in sheet.iter_rows(values_only=True):
        cells += len(row) + 1
        if cells > _MAX_CELLS:
            message = f"'{name}' has more than {_MAX_CELLS // 1_000_000} million cells."
            raise unreadable("large-workbook", message, "Save the sheet as CSV or Parquet.")
        if any(cell is not None for cell in row):
            yield row


def _source(
    header: tuple[Any, ...], rows: Iterator[tuple[Any, ...]], as_text: Callable[[str], bool]
) -> Source:
    names = ["" if cell is None else str(cell).strip() for cell in header]
    refuse_repeated([part for part in names if part])
    columns: list[list[Any]] = [[] for _ in names]
    nameless = names.count("") if any(names) else 0
    count = 0
    for row in rows:
        count += 1
        for k, column in enumerate(columns):
            column.append(row[k] if k < len(row) else None)
        nameless += any(cell is not None for cell in row[len(names) :])
    series = {
        part: pd.Series(_without_missing(cells) if not as_text(part) else cells, dtype=object)
        for part, cells in zip(names, columns, strict=True)
        if part
    }
    notices = [unnamed_columns(1)] if nameless else []
    return Source(list(series), count, lambda part, first: series[part][:first], notices)


def _without_missing(cells: list[Any]) -> list[Any]:
    return [None if isinstance(cell, str) and cell.strip() in MISSING else cell for cell in cells]
