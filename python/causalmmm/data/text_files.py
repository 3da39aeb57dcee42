"""CSV files: delimiter, encoding and header, and their columns as a ``Source``."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import warnings
import zlib
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import narwhals.stable.v2 as nw
import pandas as pd

from causalmmm.data.sources import MISSING, Source, refuse_repeated, source_of_frame, unreadable
from causalmmm.findings import Finding, RefusedInput, counted, first_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from causalmmm.data.table_file import TableFile

CSV_SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
_CSV_ERRORS = (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError, csv.Error)
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_MAX_HEADER = 10_000_000  # letters; no table has such a line, a binary file may

# Tables shrink by 3 to 30 times; what unfolds by more than this, to more than this, is no table.
_MAX_RATIO, _UNSUSPICIOUS = 100, 256 * 2**20


def open_csv(
    path: Path,
    settings: TableFile,
    as_text: Callable[[str], bool],
    name: str,
    content: bytes | None,
) -> Source:
    """The table in a text file, or in the ``content`` of one, which messages call ``name``."""
    try:
        encoding = settings.encoding
        with _opened(path, content) as file:
            first = file.read(4)
        encoding = next((e for mark, e in _MARKS.items() if first.startswith(mark)), encoding)
        with _opened(path, content) as file, io.TextIOWrapper(file, encoding, newline="") as text:
            header = text.readline(_MAX_HEADER)
        delimiter = max(",;\t|", key=header.count)
        names = next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), [])
        if not any(part.strip() for part in names):
            message = f"The first line of '{name}' has no column names."
            raise unreadable("no-header", message, "Add a header line.")
        refuse_repeated([part for part in names if part])
        with warnings.catch_warnings(), _opened(path, content) as file:
            warnings.simplefilter("error", pd.errors.ParserWarning)  # raised when values are lost
            frame = pd.read_csv(
                file,
                sep=delimiter,
                encoding=encoding,
                decimal=settings.decimal,
                skipinitialspace=True,
                index_col=False,
                dtype=dict.fromkeys(filter(as_text, names), "str"),
                keep_default_na=False,  # a store may be called NA
                na_values={part: [""] if as_text(part) else MISSING for part in names},
                low_memory=False,
            )
    except UnicodeError as error:
        place = f" (byte {error.start})" if isinstance(error, UnicodeDecodeError) else ""
        raise unreadable(
            "encoding",
            f"'{name}' is not {encoding.removesuffix('-sig').upper()} text{place}.",
            "Save the file as CSV in UTF-8, or give its encoding, e.g. data.encoding: cp1252 "
            "('init' tries it).",
        ) from None
    except (*_CSV_ERRORS, OSError, EOFError, zlib.error) as error:
        raise unreadable(
            "unreadable-file",
            f"'{name}' is not a readable CSV file: {first_line(error)}",
            "Give every line as many values as the header has columns; quote text with commas.",
        ) from None
    settings.refuse_doubtful_points(frame, delimiter, name)
    unnamed = [c for c in frame.columns if str(c).startswith("Unnamed:") and c not in names]
    source = source_of_frame(nw.from_native(frame.drop(columns=unnamed)))
    if unnamed:
        source.notices.append(unnamed_columns(len(unnamed)))
    return source


def unnamed_columns(number: int) -> Finding:
    """The notice of columns without a name."""
    message = f"Unused: {counted(number, 'column')} without a name (row numbers?)."
    return Finding("notice", "unnamed-column", message)


@contextmanager
def _opened(path: Path, content: bytes | None) -> Iterator[IO[bytes]]:
    raw: IO[bytes] = path.open("rb") if content is None else io.BytesIO(content)
    with raw:
        if not path.name.lower().endswith(".gz"):
            yield raw
            return
        packed = path.stat().st_size if content is None else len(content)
        with gzip.GzipFile(fileobj=raw) as inner:
            unpacked: IO[bytes] = io.BufferedReader(_Unpacked(inner, packed, path.name))  # type: ignore[type-var]
            yield unpacked


class _Unpacked(io.RawIOBase):
    """Bytes that are unpacked while they are read, up to what a table can be."""

    def __init__(self, inner: gzip.GzipFile, packed: int, name: str) -> None:
        self.inner, self.packed, self.name, self.total = inner, packed, name, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        read = self.inner.read(len(buffer))
        buffer[: len(read)] = read
        self.total += len(read)
        if unfolds(self.packed, self.total):
            raise unfolding(self.name)
        return len(read)


def unfolds(packed: int, unpacked: int) -> bool:
    """Whether so few bytes that become so many cannot be a table."""
    return unpacked > _UNSUSPICIOUS and unpacked > _MAX_RATIO * packed


def unfolding(name: str) -> RefusedInput:
    """The refusal of a file that unfolds to more than a table can be."""
    return unreadable(
        "unfolds",
        f"'{name}' unfolds to more than {_MAX_RATIO} times its size and "
        f"{_UNSUSPICIOUS // 2**20} MB, which no table does.",
        "Check that this is the file you meant; unpacked, it can be read.",
    )
