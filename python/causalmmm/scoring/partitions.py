"""The partitions of a Parquet data set: which files there are, their stores, and their rows.

A partition is one file, and no store may be in two. Nothing here knows what is computed from it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from causalmmm.data.keys import read_keys
from causalmmm.data.readers import PARQUET_SUFFIXES, open_source
from causalmmm.data.schema import NATIONAL, Schema
from causalmmm.findings import Finding, PanelError

_NULL = "__HIVE_DEFAULT_PARTITION__"
_LISTED = 20


@dataclass(frozen=True)
class Partition:
    """One Parquet file of a data set.

    name  its path in the data set, with forward slashes.
    keys  what the folders ``key=value`` above it say, as text.
    """

    name: str
    path: Path
    keys: tuple[tuple[str, str], ...] = ()


def find_partitions(data: Path) -> list[Partition]:
    """The Parquet files in a folder, plain or in hive folders, by name; or the one file.

    Names that begin with ``.`` or ``_`` are not data, as in Spark and Arrow. Raises ``PanelError``
    where there are none.
    """
    if data.is_file():
        return [Partition(data.name, data)]
    found = []
    for path in sorted(data.rglob("*")):
        parts = path.relative_to(data).parts
        hidden = any(part.startswith((".", "_")) for part in parts)
        if hidden or not path.is_file() or path.suffix.lower() not in PARQUET_SUFFIXES:
            continue
        pairs = [part.split("=", 1) for part in parts[:-1] if "=" in part]
        keys = tuple((unquote(key), unquote(value)) for key, value in pairs)
        found.append(Partition("/".join(parts), path, keys))
    if not found:
        raise PanelError(
            [
                Finding(
                    "error",
                    "no-partition",
                    f"There is no Parquet file in '{data}'.",
                    "Give a folder of Parquet files.",
                )
            ]
        )
    return found


def read_partition(partition: Partition, schema: Schema) -> pa.Table:
    """Its rows, with those columns that the schema names; ``PanelError`` if it is unreadable."""
    wanted = [column for column, _ in schema.columns_with_roles()]
    with _opened(partition) as file:
        names = [name for name in file.schema_arrow.names if name in wanted]
        table = _readable(partition, lambda: file.read(columns=names, use_threads=False))
    for key, text in partition.keys:
        if key in wanted and key not in names:
            table = table.append_column(key, _repeated(text, key, schema, table.num_rows))
    return table


def stores_of(partition: Partition, schema: Schema) -> list[str]:
    """The names of its stores, as a panel would read them, from that one column."""
    if schema.store is None:
        return [NATIONAL]
    keys = dict(partition.keys)
    with _opened(partition) as file:
        if schema.store in file.schema_arrow.names:
            batches = file.iter_batches(columns=[schema.store], use_threads=False)
            seen = _readable(partition, lambda: [pc.unique(batch.column(0)) for batch in batches])
            kind = file.schema_arrow.field(schema.store).type
            values = pa.chunked_array(seen, kind)
        elif schema.store in keys:
            values = pa.array([keys[schema.store]])
        else:
            raise _refuse(
                "missing-column",
                f"There is no column '{schema.store}' in '{partition.name}'.",
                "Write the store's name into every row, or give the file a folder of that name.",
            )
    if not len(values):
        return []
    days = pa.array(["2000-01-01"] * len(values))
    source = open_source(pa.table({schema.store: values, schema.date: days}), lambda _: True)
    names: list[str] = read_keys(source, schema.store, schema.date).stores.tolist()
    return names


def check_apart(stores: Sequence[tuple[Partition, list[str]]]) -> None:
    """Raise ``PanelError`` naming every store that is in two partitions."""
    home: dict[str, str] = {}
    findings = []
    for partition, names in stores:
        for name in names:
            first = home.setdefault(name, partition.name)
            if first != partition.name:
                findings.append(
                    Finding(
                        "error",
                        "store-in-two-partitions",
                        f"Store '{name}' is in '{first}' and in '{partition.name}'.",
                        "Write the whole history of a store into one file: partition by store, or "
                        "by something that a store keeps, never by date.",
                        store=name,
                    )
                )
    if findings:
        shown, more = findings[:_LISTED], len(findings) - _LISTED
        if more > 0:
            shown.append(Finding("error", "store-in-two-partitions", f"And {more} more."))
        raise PanelError(shown)


def digest(partition: Partition) -> str:
    """Hexadecimal digest of the file's size and footer, which change when its rows do.

    The footer holds the place, size and least and largest value of every column chunk.
    """
    with partition.path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - 8, 0))
        length = int.from_bytes(file.read(4), "little")
        file.seek(max(size - 8 - length, 0))
        found = hashlib.blake2b(file.read(), digest_size=16)
    found.update(str(size).encode())
    return found.hexdigest()


def _opened(partition: Partition) -> pq.ParquetFile:
    return _readable(partition, lambda: pq.ParquetFile(partition.path))


def _readable(partition: Partition, read: Any) -> Any:
    try:
        return read()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _refuse(
            "unreadable-file",
            f"'{partition.name}' is not a readable Parquet file: {reason}",
            "Write the file again.",
        ) from None


def _repeated(text: str, key: str, schema: Schema, rows: int) -> pa.Array:
    """A folder's value as a column: text for store and date, else a number where it is one."""
    value: str | float | None = None if text == _NULL else text
    if key not in (schema.store, schema.date) and value is not None:
        try:
            value = float(text)
        except ValueError:
            value = text
    return pa.repeat(pa.scalar(value), rows)


def _refuse(code: str, message: str, remedy: str) -> PanelError:
    return PanelError([Finding("error", code, message, remedy)])
