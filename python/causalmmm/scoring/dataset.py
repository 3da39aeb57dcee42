"""``score_dataset``: a partitioned Parquet data set, scored in processes on one machine.

Files, processes and what may be resumed; a single table is scored in ``arrow``. No torch.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from causalmmm.data.panel import Panel
from causalmmm.data.readers import open_source
from causalmmm.data.schema import Schema
from causalmmm.data.sources import Source
from causalmmm.data.table_file import TableFile
from causalmmm.files import PARTIAL, atomic_file, remove_leftover
from causalmmm.findings import Finding, PanelError, RefusedInput, refusal
from causalmmm.runtime import OnnxModel
from causalmmm.scoring.arrow import What, answer_schema, answers, steps_ahead
from causalmmm.scoring.partitions import (
    Fingerprint,
    Partition,
    check_apart,
    file_state,
    find_partitions,
    read_partition,
    stores_of,
)

MANIFEST = "_causalmmm.json"  # readers of Parquet data sets ignore names that begin with _
_FORMAT = 2  # since 2 a partition is known by all its bytes
_DIGEST, _STATE = b"causalmmm.partition", b"causalmmm.state"  # Parquet metadata: a Fingerprint


@dataclass(frozen=True)
class Scored:
    """Result of a run: partitions scored now, partitions kept from earlier runs, rows written.

    ``changed`` of those scored now had been scored before, from other data; ``left_out`` are the
    stores that ``skip_bad_stores`` left out of them.

    >>> Scored(done=3, kept=5, rows=1200).changed
    0
    """

    done: int
    kept: int
    rows: int
    changed: int = 0
    left_out: tuple[str, ...] = ()


def score_dataset(
    model: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    what: What = "forecasts",
    horizon: int | None = None,
    workers: int | None = None,
    skip_bad_stores: bool = False,
    decimal: str = ".",
    thousands: str = "",
    on_partition: Callable[[str, int], None] = lambda name, rows: None,
) -> Scored:
    """``score`` every Parquet file of a folder into a file of the same name in another folder.

    model         an exported file.
    data          folder of Parquet files, plain or in hive folders; every store in one file only.
    out           output folder: new, empty, or begun by an earlier run, whose files are kept. Files
                  appear whole or not at all. Files whose data have changed by a single bit are
                  scored again; a run with another model or other settings is refused.
    workers       processes, each with one file at a time in memory; default: one per core.
    skip_bad_stores  leave stores with errors of their own out of the answers, and name them.
    decimal, thousands  signs of numbers that the files hold as text, as in ``TableFile``.
    on_partition  called with name and rows of every finished file.

    Files that cannot be scored do not stop the others: ``PanelError`` at the end names them.

    >>> daily.to_frame().to_parquet("daily.parquet")
    >>> score_dataset("model.onnx", "daily.parquet", "scores", workers=1).done
    1
    """
    model, data, out = Path(model), Path(data), Path(out)
    opened = OnnxModel(model, threads=1)
    schema = Schema.check(opened.schema)
    text = TableFile(data, decimal, thousands)
    task = _Task(model, out, what, steps_ahead(opened, what, horizon), skip_bad_stores, text)
    workers = workers or len(os.sched_getaffinity(0))
    if out.resolve().is_relative_to(data.resolve()):
        message = f"Output folder '{out}' lies in the data folder '{data}'."
        raise refusal("place-taken", message, "Choose a folder outside.")
    partitions = find_partitions(data)
    failures: list[Finding] = []
    stores = []
    for partition in partitions:
        try:
            stores.append((partition, stores_of(partition, schema)))
        except PanelError as error:
            failures += error.report.findings
    check_apart(stores)
    with _claimed(task, opened):
        scorable = [partition for partition, _ in stores]
        missing, changed = _missing(task, scorable, partitions, workers)
        rows, left_out = 0, list[str]()
        for partition, result in _in_processes(task, missing, workers):
            if isinstance(result, _Written):
                rows += result.rows
                left_out += result.left_out
                on_partition(partition.name, result.rows)
            else:
                failures += [_named(finding, partition) for finding in result]
    if failures:
        raise PanelError(failures)
    kept = len(partitions) - len(missing)
    return Scored(len(missing), kept, rows, changed, tuple(left_out))


# ---- the output folder ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Task:
    """What every worker needs to know."""

    model: Path
    out: Path
    what: What
    horizon: int | None
    skip_bad_stores: bool
    text: TableFile

    def target(self, partition: Partition) -> Path:
        return self.out / partition.name


@contextmanager
def _claimed(task: _Task, model: OnnxModel) -> Iterator[None]:
    """Lock the output folder, checked to belong to this model and these settings."""
    out, manifest = task.out, task.out / MANIFEST
    if out.exists() and (not out.is_dir() or (not manifest.exists() and any(out.iterdir()))):
        raise refusal(
            "place-taken",
            f"'{out}' already exists and does not belong to an earlier run of scoring.",
            "Choose a new folder.",
        )
    out.mkdir(parents=True, exist_ok=True)
    facts = {
        "format": _FORMAT,
        "model": hashlib.sha256(task.model.read_bytes()).hexdigest(),
        "run": model.info["run"],
        "what": task.what,
        "horizon": task.horizon,
        "signs": [task.text.decimal, task.text.thousands],
    }
    with manifest.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise refusal(
                "place-taken", f"Another run is writing to '{out}'.", "Wait until it has finished."
            ) from None
        _check_manifest(file, facts, out)
        for leftover in out.rglob(f".*{PARTIAL}"):  # of a run that was killed
            remove_leftover(leftover)
        yield


def _check_manifest(file: IO[str], facts: dict[str, Any], out: Path) -> None:
    file.seek(0)
    try:
        earlier = dict(json.loads(file.read()))
    except ValueError:  # new, or cut off by a full disk before anything was scored
        earlier = {}
    if not earlier and not any(out.rglob("*.parquet")):
        file.truncate(0)
        file.write(json.dumps(facts, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
        return
    earlier.setdefault("signs", [".", ""])  # those that do not say had no others
    differences = [
        f"{name} {earlier.get(name)!r}, not {value!r}"
        for name, value in facts.items()
        if earlier.get(name) != value
    ]
    if differences:
        raise refusal(
            "other-scoring",
            f"The scores in '{out}' were begun with {'; '.join(differences)}.",
            "Choose a new folder, or run with the same model and settings.",
        )


def _missing(
    task: _Task, scorable: Sequence[Partition], partitions: Sequence[Partition], workers: int
) -> tuple[list[Partition], int]:
    """Partitions to score, and how many of them were scored before their data changed.

    Refuses files that belong to no partition or contain no scores.
    """
    names = {partition.name for partition in partitions}
    findings = []
    for path in sorted(task.out.rglob("*.parquet")):
        name = path.relative_to(task.out).as_posix()
        if not path.name.startswith(".") and name not in names:
            findings.append(
                Finding(
                    "error",
                    "answer-without-partition",
                    f"'{path}' exists, but there is no '{name}' in the data.",
                    "Remove it, or choose a new folder.",
                )
            )
    missing, scored = [], []
    for partition in scorable:
        target = task.target(partition)
        if not target.exists():
            missing.append(partition)
        elif (seen := _scored_from(target)) is None:
            message = f"'{target}' already exists, but does not contain scores."
            remedy = "Remove it to score it again, or choose a new folder."
            findings.append(Finding("error", "place-taken", message, remedy))
        else:
            scored.append((partition, seen))
    if findings:
        raise PanelError(findings)
    with ThreadPoolExecutor(workers) as threads:
        same = list(threads.map(lambda pair: pair[1].fits(pair[0]), scored))
    changed = [partition for (partition, _), fits in zip(scored, same, strict=True) if not fits]
    return [*missing, *changed], len(changed)


def _scored_from(target: Path) -> Fingerprint | None:
    """What a file of scores was computed from; None for other files."""
    try:
        facts = pq.read_schema(target).metadata or {}
    except (pa.ArrowException, OSError):
        return None
    if _DIGEST not in facts or _STATE not in facts:
        return None
    return Fingerprint(facts[_DIGEST].decode(), facts[_STATE].decode())


# ---- processes --------------------------------------------------------------------------------


def _in_processes(
    task: _Task, partitions: Sequence[Partition], workers: int
) -> Iterator[tuple[Partition, _Written | list[Finding]]]:
    """Each partition with its rows of scores, or with its errors, in order of completion."""
    if not partitions:
        return
    pool = ProcessPoolExecutor(
        min(workers, len(partitions)),
        multiprocessing.get_context("spawn"),
        _begin_worker,
        (task,),
    )
    try:
        pending = {pool.submit(_score_partition, partition): partition for partition in partitions}
        for future in as_completed(pending):
            yield pending.pop(future), future.result()
    except BrokenProcessPool:
        raise refusal(
            "worker-died",
            "A worker process was killed, perhaps for lack of memory. Finished files are kept.",
            "Run again with fewer workers or smaller files.",
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class _Written:
    """Rows of answers for a partition, and the stores that were left out of it."""

    rows: int
    left_out: tuple[str, ...]


@dataclass
class _Worker:
    task: _Task
    model: OnnxModel
    schema: Schema


_workers: list[_Worker] = []  # of this process: one


def _begin_worker(task: _Task) -> None:
    pa.set_cpu_count(1)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    model = OnnxModel(task.model, threads=1)
    _workers.append(_Worker(task, model, Schema.check(model.schema)))


def _exit_with_parent() -> None:
    """A killed parent cannot stop its workers; without it they would wait forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _score_partition(partition: Partition) -> _Written | list[Finding]:
    worker = _workers[0]
    try:
        state, seen = file_state(partition), Fingerprint.of(partition)
        table = read_partition(partition, worker.schema)
        if file_state(partition) != state:
            message = "The file was written to while it was read."
            return [Finding("error", "partition-changed", message, "Run again.")]
        return _write(worker, partition, table, seen)
    except RefusedInput as error:
        return list(error.report.errors)
    except ValueError as error:
        return [Finding("error", "cannot-be-scored", str(error))]


def _write(worker: _Worker, partition: Partition, table: pa.Table, seen: Fingerprint) -> _Written:
    """Score a partition into its file."""
    task = worker.task
    schema = answer_schema(task.what).with_metadata({_DIGEST: seen.digest, _STATE: seen.state})
    rows, left_out = 0, tuple[str, ...]()
    keys = (worker.schema.store, worker.schema.date)
    source = task.text.reads_numbers(open_source(table, keys.__contains__), keys.__contains__)
    given: Source | Panel = source
    if task.skip_bad_stores and table.num_rows:
        given = Panel.from_frame(
            source, worker.schema, min_steps=worker.model.min_steps, skip_bad_stores=True
        )
        told = [f for f in given.notices if f.code == "stores-left-out"]
        left_out = told[0].stores if told else ()
    with (
        atomic_file(task.target(partition)) as partial,
        pq.ParquetWriter(partial, schema, write_page_checksum=True) as writer,
    ):
        if table.num_rows:
            for batch in answers(given, worker.model, task.what, task.horizon):
                writer.write_table(batch)
                rows += batch.num_rows
    return _Written(rows, left_out)


def _named(finding: Finding, partition: Partition) -> Finding:
    return replace(finding, message=f"'{partition.name}': {finding.message}")
