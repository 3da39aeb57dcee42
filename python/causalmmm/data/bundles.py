"""Several files as one table: folders and zip archives, whose files have the same columns."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from causalmmm.data.sources import Source, unreadable
from causalmmm.data.text_files import unfolding, unfolds
from causalmmm.findings import Finding, PanelError, counted, first_few, first_line

_MAX_FILES = 10_000
OpenFile = Callable[[Path, str, bytes | None], Source]  # path, its name in messages, content


def open_folder(folder: Path, suffixes: tuple[str, ...], open_file: OpenFile) -> Source:
    """The rows of all tables that lie directly in a folder, in the order of their names."""
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith((".", "_")))
    tables = [path for path in files if path.name.lower().endswith(suffixes)]
    _check_number(str(folder), len(tables), suffixes)
    others = [path.name for path in files if path not in set(tables)]
    return _stacked(((p.name, open_file(p, str(p), None)) for p in tables), others)


def open_zip(path: Path, suffixes: tuple[str, ...], open_file: OpenFile) -> Source:
    """The rows of all tables in a zip archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = [p for p in archive.infolist() if not p.is_dir() and not _hidden(p.filename)]
            tables = [part for part in parts if part.filename.lower().endswith(suffixes)]
            _check_number(str(path), len(tables), suffixes)
            if unfolds(path.stat().st_size, sum(part.file_size for part in tables)):
                raise unfolding(str(path))
            locked = [part.filename for part in tables if part.flag_bits & 0x1]
            if locked:
                message = f"'{path}' is locked by a password: {first_few(locked)}."
                raise unreadable("unreadable-file", message, "Unpack it first.")
            others = [part.filename for part in parts if part not in tables]
            opened = (  # no more bytes than the sizes that were just added up
                (p.filename, open_file(Path(p.filename), f"{path}: {p.filename}", archive.read(p)))
                for p in sorted(tables, key=lambda part: part.filename)
            )
            return _stacked(opened, others)
    except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, zlib.error) as error:
        raise unreadable(
            "unreadable-file",
            f"'{path}' is not a readable zip archive: {first_line(error)}",
            "Pack the tables again, or unpack them into a folder.",
        ) from None


def _hidden(name: str) -> bool:
    """Files of the packing program, such as ``__MACOSX/._sales.csv``."""
    return any(part.startswith((".", "_")) for part in Path(name).parts)


def _check_number(name: str, number: int, suffixes: tuple[str, ...]) -> None:
    known = f"Tables end in {', '.join(suffixes)}"
    if not number:
        message = f"There is no table in '{name}'."
        raise unreadable("no-table", message, f"{known}; folders below it are not read.")
    if number > _MAX_FILES:
        message = f"There are {number:,} tables in '{name}', more than {_MAX_FILES:,}."
        raise unreadable("many-files", message, "Join them, or write one Parquet file.")


def _stacked(opened: Iterable[tuple[str, Source]], others: list[str]) -> Source:
    """One table of several with the same columns; a finding says which files it consists of."""
    tables = list(opened)
    first_name, first = tables[0]
    wrong = [_other_columns(name, t, first_name, first) for name, t in tables]
    if any(wrong):
        raise PanelError([finding for finding in wrong if finding is not None])
    names = [name for name, _ in tables]
    told = f"{counted(len(tables), 'file')} read as one table: {first_few(names)}."
    notices = [Finding("notice", "several-files", told)] if len(tables) > 1 else []
    if others:
        told = f"Not read, because they are no tables: {first_few(others)}."
        notices.append(Finding("notice", "other-files", told))
    notices += dict.fromkeys(found for _, table in tables for found in table.notices)

    def fetch(name: str, rows: int | None) -> pd.Series[Any]:
        parts, missing = [], rows
        for _, table in tables:
            parts.append(table.column(name, missing))
            missing = None if missing is None else missing - len(parts[-1])
            if missing == 0:
                break
        return _joined(parts)

    return Source(first.names, sum(table.rows for _, table in tables), fetch, notices)


def _other_columns(name: str, table: Source, first_name: str, first: Source) -> Finding | None:
    lacking = [column for column in first.names if column not in table.names]
    further = [column for column in table.names if column not in first.names]
    if not lacking and not further:
        return None
    what = " and ".join(
        f"{verb} {first_few(columns, 4)}"
        for verb, columns in (("lacks", lacking), ("has", further))
        if columns
    )
    message = f"'{name}' has other columns than '{first_name}': it {what}."
    remedy = "Give all files the same columns, or move those of another table elsewhere."
    return Finding("error", "other-columns", message, remedy, column=(lacking or further)[0])


def _joined(parts: list[pd.Series[Any]]) -> pd.Series[Any]:
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part.dtype, pd.CategoricalDtype) for part in parts):
        return pd.Series(pd.api.types.union_categoricals(parts))
    if len({part.dtype for part in parts}) == 1:
        return pd.concat(parts, ignore_index=True)
    return pd.concat([part.astype(object) for part in parts], ignore_index=True)
