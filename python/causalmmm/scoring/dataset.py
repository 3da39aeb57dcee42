"""Answers for very many stores: ``score`` from Arrow to Arrow, for whatever engine hands out the
tables, and ``score_dataset`` over a partitioned Parquet data set on one machine.

What is asked of a model lives in ``causalmmm.runtime``; no torch here.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import IO, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from causalmmm.data.schema import Schema
from causalmmm.findings import Finding, PanelError, RefusedInput
from causalmmm.runtime import OnnxModel
from causalmmm.scoring.partitions import (
    Partition,
    check_apart,
    digest,
    find_partitions,
    read_partition,
    stores_of,
)

What = Literal["forecasts", "graphs"]
LEVELS = (80, 95)
MANIFEST = "_causalmmm.json"  # readers of Parquet data sets pass over names that begin with _
_FORMAT = 1
_OURS = b"causalmmm.partition"  # Parquet metadata: digest of the partition that was scored
_PARTIAL = ".causalmmm-partial"
_STORES_AT_ONCE = 512


def score(
    table: pa.Table, model: OnnxModel, *, what: What = "forecasts", horizon: int | None = None
) -> pa.Table:
    """Forecasts or graphs of the stores in a table, which must hold their whole histories.

    table    columns as in the schema of the model, one row per store and date; may be empty.
    what     "forecasts": store, date, series, mean, lower_80, upper_80, lower_95, upper_95;
             "graphs": store, source, target, probability, effect, lower, upper.
    horizon  steps to forecast; default: the model's.

    The columns are those of ``answer_schema`` whatever the table. Raises ``PanelError``.
    """
    steps = _steps(model, what, horizon)
    if not table.num_rows:
        return answer_schema(what).empty_table()
    return pa.concat_tables(_answers(table, model, what, steps))


def answer_schema(what: What) -> pa.Schema:
    """The columns of ``score`` and their types; engines such as Spark ask for them beforehand."""
    if what == "graphs":
        text, numbers = ["store", "source", "target"], ["probability", "effect", "lower", "upper"]
    else:
        text = ["store", "date", "series"]
        numbers = ["mean", *(f"{side}_{level}" for level in LEVELS for side in ("lower", "upper"))]
    kinds = {"date": pa.date32()}
    return pa.schema(
        [(name, kinds.get(name, pa.string())) for name in text]
        + [(name, pa.float32()) for name in numbers]
    )


@dataclass(frozen=True)
class Scored:
    """What a run has done: partitions that were missing and are there now, those that were there
    already, and the rows written."""

    done: int
    kept: int
    rows: int


def score_dataset(
    model: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    what: What = "forecasts",
    horizon: int | None = None,
    workers: int | None = None,
    on_partition: Callable[[str, int], None] = lambda name, rows: None,
) -> Scored:
    """``score`` every Parquet file of a folder into a file of the same name in another folder.

    model    an exported file.
    data     folder of Parquet files, plain or in hive folders; every store in one file only.
    out      folder of the answers: new, empty, or one that an earlier run has begun. Files appear
             whole or not at all, and those that are there are kept; a run with another model or
             other settings, or on changed files, is refused.
    workers  processes, each with one file at a time in memory; default: one per core.
    told     called with name and rows of every file that is done.

    What cannot be scored does not stop the rest: ``PanelError`` at the end names those files.
    """
    model, data, out = Path(model), Path(data), Path(out)
    opened = OnnxModel(model, threads=1)
    schema = Schema.check(opened.schema)
    task = _Task(model, out, what, _steps(opened, what, horizon))
    workers = workers or len(os.sched_getaffinity(0))
    if out.resolve().is_relative_to(data.resolve()):
        raise _refuse("place-taken", f"'{out}' lies in '{data}'.", "Choose a folder outside.")
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
        missing = _missing(task, [partition for partition, _ in stores], partitions)
        rows = 0
        for partition, answer in _in_processes(task, missing, workers):
            if isinstance(answer, int):
                rows += answer
                on_partition(partition.name, answer)
            else:
                failures += [_named(found, partition) for found in answer]
    if failures:
        raise PanelError(failures)
    return Scored(len(missing), len(partitions) - len(missing), rows)


# ---- one table --------------------------------------------------------------------------------


def _answers(
    table: pa.Table, model: OnnxModel, what: What, steps: int | None
) -> Iterator[pa.Table]:
    """In panel order, some stores at a time, so that memory does not grow with the answers."""
    panel = model.panel(table)
    schema = answer_schema(what)
    for begin in range(0, panel.n_stores, _STORES_AT_ONCE):
        some = panel.select(panel.stores[begin : begin + _STORES_AT_ONCE].tolist())
        graphs = what == "graphs"
        frame = model.graphs(some) if graphs else model.predict(some, steps, level=LEVELS)
        yield pa.Table.from_pandas(frame, schema, preserve_index=False).replace_schema_metadata()


def _steps(model: OnnxModel, what: What, horizon: int | None) -> int | None:
    if what not in ("forecasts", "graphs"):
        raise ValueError(f"what can be scored is 'forecasts' or 'graphs', not {what!r}")
    if what == "graphs":
        if horizon is not None:
            raise ValueError("graphs have no horizon")
        return None
    steps = model.horizon if horizon is None else horizon
    if not 1 <= steps <= model.max_horizon:
        raise ValueError(f"horizon must be 1 to {model.max_horizon} steps, got {steps}")
    return steps


# ---- the folder of the answers ----------------------------------------------------------------


@dataclass(frozen=True)
class _Task:
    """What every worker has to know."""

    model: Path
    out: Path
    what: What
    horizon: int | None

    def target(self, partition: Partition) -> Path:
        return self.out / partition.name


@contextmanager
def _claimed(task: _Task, model: OnnxModel) -> Iterator[None]:
    """The folder, ours alone until the end, and begun with this model and these settings."""
    out, manifest = task.out, task.out / MANIFEST
    if out.exists() and (not out.is_dir() or (not manifest.exists() and any(out.iterdir()))):
        raise _refuse(
            "place-taken",
            f"'{out}' is there already, and no scoring has begun it.",
            "Choose a new folder.",
        )
    out.mkdir(parents=True, exist_ok=True)
    facts = {
        "format": _FORMAT,
        "model": hashlib.sha256(task.model.read_bytes()).hexdigest(),
        "run": model.info["run"],
        "what": task.what,
        "horizon": task.horizon,
    }
    with manifest.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _refuse(
                "place-taken", f"Another run writes to '{out}'.", "Wait until it has ended."
            ) from None
        _check_manifest(file, facts, out)
        for rest in out.rglob(f".*{_PARTIAL}"):  # of a run that was killed
            rest.unlink(missing_ok=True)
        yield


def _check_manifest(file: IO[str], facts: dict[str, Any], out: Path) -> None:
    file.seek(0)
    text = file.read()
    if not text:
        file.write(json.dumps(facts, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
        return
    try:
        begun = dict(json.loads(text))
    except ValueError:
        begun = {}
    other = [
        f"{name} {begun.get(name)!r}, not {value!r}"
        for name, value in facts.items()
        if begun.get(name) != value
    ]
    if other:
        raise _refuse(
            "other-scoring",
            f"The scores in '{out}' were begun with {'; '.join(other)}.",
            "Choose a new folder, or run with the same model and settings.",
        )


def _missing(
    task: _Task, scorable: Sequence[Partition], partitions: Sequence[Partition]
) -> list[Partition]:
    """Partitions without an answer; refuses answers that are not those of the partitions."""
    names = {partition.name for partition in partitions}
    findings = []
    for path in sorted(task.out.rglob("*.parquet")):
        name = path.relative_to(task.out).as_posix()
        if not path.name.startswith(".") and name not in names:
            findings.append(
                Finding(
                    "error",
                    "answer-without-partition",
                    f"'{path}' is there, but the data have no '{name}'.",
                    "Remove it, or choose a new folder.",
                )
            )
    missing = []
    for partition in scorable:
        target = task.target(partition)
        if not target.exists():
            missing.append(partition)
            continue
        kept = _scored_from(target)
        if kept != digest(partition):
            changed = ("partition-changed", f"'{target}' was scored before its rows changed.")
            foreign = ("place-taken", f"'{target}' is there already, and holds no scores.")
            code, message = foreign if kept is None else changed
            remedy = "Remove it to have it scored again, or choose a new folder."
            findings.append(Finding("error", code, message, remedy))
    if findings:
        raise PanelError(findings)
    return missing


def _scored_from(target: Path) -> str | None:
    try:
        kept = (pq.read_schema(target).metadata or {}).get(_OURS)
    except (pa.ArrowException, OSError):
        return None
    return None if kept is None else kept.decode()


# ---- processes --------------------------------------------------------------------------------


def _in_processes(
    task: _Task, partitions: Sequence[Partition], workers: int
) -> Iterator[tuple[Partition, int | list[Finding]]]:
    """Each partition with the rows of its answer, or with what is wrong, as they are done."""
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
        raise _refuse(
            "worker-died",
            "A worker process was killed, perhaps for want of memory. Files that are done stay.",
            "Run again, with fewer workers or smaller files.",
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass
class _Worker:
    task: _Task
    model: OnnxModel
    schema: Schema


_workers: list[_Worker] = []  # the one of this process


def _begin_worker(task: _Task) -> None:
    pa.set_cpu_count(1)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    model = OnnxModel(task.model, threads=1)
    _workers.append(_Worker(task, model, Schema.check(model.schema)))


def _leave_with_parent() -> None:
    """A killed parent cannot stop its workers, and nobody would ever give them more to do."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _score_partition(partition: Partition) -> int | list[Finding]:
    worker = _workers[0]
    try:
        table = read_partition(partition, worker.schema)
        return _write(worker, partition, table)
    except RefusedInput as error:
        return list(error.report.errors)
    except ValueError as error:
        return [Finding("error", "cannot-be-scored", str(error))]


def _write(worker: _Worker, partition: Partition, table: pa.Table) -> int:
    """The file of answers appears whole or not at all."""
    task = worker.task
    target = task.target(partition)
    target.parent.mkdir(parents=True, exist_ok=True)
    written = target.with_name(f".{target.name}-{os.getpid()}{_PARTIAL}")
    schema = answer_schema(task.what).with_metadata({_OURS: digest(partition)})
    rows = 0
    try:
        with written.open("wb") as file:
            with pq.ParquetWriter(file, schema) as writer:
                if table.num_rows:
                    for part in _answers(table, worker.model, task.what, task.horizon):
                        writer.write_table(part)
                        rows += part.num_rows
            file.flush()
            os.fsync(file.fileno())
        written.rename(target)
    finally:
        written.unlink(missing_ok=True)
    return rows


def _named(found: Finding, partition: Partition) -> Finding:
    return replace(found, message=f"'{partition.name}': {found.message}")


def _refuse(code: str, message: str, remedy: str) -> RefusedInput:
    return RefusedInput([Finding("error", code, message, remedy)])
