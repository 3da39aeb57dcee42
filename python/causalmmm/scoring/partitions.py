"""The partitions of a Parquet data set: its files, their stores, and their rows.

A partition is one file, and no store may be in two. What is computed from them is not known here.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc

from causalmmm.data.keys import read_keys
from causalmmm.data.readers import PARQUET_SUFFIXES, open_parquet, open_source, parquet_errors
from causalmmm.data.schema import NATIONAL, Schema
from causalmmm.findings import Finding, PanelError, refusal

_NULL = "__HIVE_DEFAULT_PARTITION__"
_MAX_LISTED = 20
_CLOCK_SECONDS = 2.0  # coarsest time of change among usual file systems


@dataclass(frozen=True)
class Partition:
    """One Parquet file of a data set.

    name  its path in the data set, with forward slashes.
    keys  the values of its hive folders ``key=value``, as text.
    """

    name: str
    path: Path
    keys: tuple[tuple[str, str], ...] = ()


def find_partitions(data: Path) -> list[Partition]:
    """The Parquet files in a folder, plain or in hive folders, by name; or the one file.

    Names that begin with ``.`` or ``_`` are ignored, as in Spark and Arrow. Raises
    ``PanelError`` if there are none.
    """
    if data.is_file():
        return [Partition(data.name, data)]
    partitions = []
    for path in sorted(data.rglob("*")):
        parts = path.relative_to(data).parts
        hidden = any(part.startswith((".", "_")) for part in parts)
        if hidden or not path.is_file() or path.suffix.lower() not in PARQUET_SUFFIXES:
            continue
        pairs = [part.split("=", 1) for part in parts[:-1] if "=" in part]
        keys = tuple((unquote(key), unquote(value)) for key, value in pairs)
        partitions.append(Partition("/".join(parts), path, keys))
    if not partitions:
        message = f"There is no Parquet file in '{data}'."
        raise refusal("no-partition", message, "Pass a folder of Parquet files.", kind=PanelError)
    return partitions


def read_partition(partition: Partition, schema: Schema) -> pa.Table:
    """Its rows, with the columns of the schema; ``PanelError`` if it is unreadable."""
    wanted = [column for column, _ in schema.columns_with_roles()]
    with open_parquet(partition.path, partition.name) as file, parquet_errors(partition.name):
        names = [name for name in file.schema_arrow.names if name in wanted]
        table = file.read(columns=names, use_threads=False)
    for key, text in partition.keys:
        if key in wanted and key not in names:
            table = table.append_column(key, _repeated(text, key, schema, table.num_rows))
    return table


def stores_of(partition: Partition, schema: Schema) -> list[str]:
    """The names of its stores, as a panel would read them; reads no other column."""
    if schema.store is None:
        return [NATIONAL]
    keys = dict(partition.keys)
    with open_parquet(partition.path, partition.name) as file, parquet_errors(partition.name):
        if schema.store in file.schema_arrow.names:
            batches = file.iter_batches(columns=[schema.store], use_threads=False)
            kind = file.schema_arrow.field(schema.store).type
            values = pa.chunked_array([pc.unique(batch.column(0)) for batch in batches], kind)
        elif schema.store in keys:
            values = pa.array([keys[schema.store]])
        else:
            raise refusal(
                "missing-column",
                f"Column '{schema.store}' (store) is missing in '{partition.name}'.",
                f"Add the column, or move the file into a folder '{schema.store}=<name>'.",
                kind=PanelError,
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
                        "by a property that does not change, never by date.",
                        store=name,
                    )
                )
    if findings:
        shown, more = findings[:_MAX_LISTED], len(findings) - _MAX_LISTED
        if more > 0:
            shown.append(Finding("error", "store-in-two-partitions", f"And {more} more."))
        raise PanelError(shown)


@dataclass(frozen=True)
class Fingerprint:
    """What a partition's file contained at one time, as the metadata of its answers keep it.

    digest  of all its bytes, hexadecimal.
    state   device, inode, size and times of its last change: as long as the file system gives the
            same ones, nothing was written to it, and nothing needs to be read again. Empty when the
            file had been changed just before, within what clocks of file systems can tell apart.
    """

    digest: str
    state: str

    def fits(self, partition: Partition) -> bool:
        """Whether the file still contains the same bytes; read only if it may have changed."""
        if self.state and self.state == file_state(partition):
            return True
        return self.digest == _digest(partition)

    @classmethod
    def of(cls, partition: Partition) -> Fingerprint:
        state = file_state(partition)
        settled = time.time() - partition.path.stat().st_ctime > _CLOCK_SECONDS
        return cls(_digest(partition), state if settled else "")


def file_state(partition: Partition) -> str:
    """What changes whenever a file is written to; the time of change cannot be set by users."""
    stat = partition.path.stat()
    return f"{stat.st_dev} {stat.st_ino} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"


def _digest(partition: Partition) -> str:
    with partition.path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _repeated(text: str, key: str, schema: Schema, rows: int) -> pa.Array:
    """A folder's value as a column: text for store and date, else a number if it is one."""
    value: str | float | None = None if text == _NULL else text
    if key not in (schema.store, schema.date) and value is not None:
        try:
            value = float(text)
        except ValueError:
            value = text
    return pa.repeat(pa.scalar(value), rows)
