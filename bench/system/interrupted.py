"""Runs that end early: ``fit`` and ``score`` killed or out of disk at some moment, then run again.

Commands run in processes of a fork server that has imported the package, so that the moment falls
into the work and not into its start. A full disk is a small tmpfs that is filled to its last byte
while the command runs; mounting it takes root, or ``unshare -rm``.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from causalmmm import Panel

GOLDEN = Path("tests/golden/format-1")
_DISK_MB = 64
_FILES = 6  # of the data set that is scored
_SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
_servers = multiprocessing.get_context("forkserver")
_servers.set_forkserver_preload(["causalmmm.cli", "causalmmm.model.estimator", __name__])


class Command:
    """A command line of the package, its files, and what it leaves when nothing goes wrong."""

    def __init__(self, folder: Path, name: str, arguments: list[str], result: str) -> None:
        self.folder = folder
        self.name = name
        self.arguments = arguments
        self.result = result  # files below the output that hold its result
        self.errors = folder / f"{name}.stderr"
        began = time.monotonic()
        whole = folder / f"{name}-whole"
        process = self.start(whole)
        process.join()
        if process.exitcode:
            raise RuntimeError(self.errors.read_text())
        self.seconds = time.monotonic() - began
        self.whole = self.content(whole)

    def start(self, out: Path, *more: str) -> ForkServerProcess:
        self.errors.write_text("")
        arguments = [*self.arguments, "-o", str(out), "-q", *more]
        process = _servers.Process(target=_run, args=(arguments, self.errors))
        process.start()
        return process

    def content(self, out: Path) -> dict[str, bytes]:
        """The bytes of every file of a result, by name."""
        return {path.name: path.read_bytes() for path in sorted(out.glob(self.result))}

    def ends_whole(self, out: Path) -> str:
        """Run again: "answered" if all is there as if nothing had happened, and nothing else."""
        checkpoint = out.with_name(f"{out.name}.checkpoint")
        again = self.start(out, *(["--resume"] if checkpoint.exists() else []))
        again.join()
        if "Traceback" in self.errors.read_text():
            return self.told("tracebacks")
        if again.exitcode or self.content(out) != self.whole or left_behind(out.parent):
            return self.told("lost")
        return "answered"

    def told(self, end: str) -> str:
        print(f"{self.name}: {end}\n{self.errors.read_text()}", file=sys.stderr)
        return end


def fit_command(folder: Path, panel: Panel, settings: dict[str, Any]) -> Command:
    data = folder / "panel.csv"
    panel.to_frame().to_csv(data, index=False)
    chosen = [
        part for name, value in settings.items() for part in ("--set", f"model.{name}={value}")
    ]
    arguments = ["fit", str(data), "--device", "cpu", *chosen]
    return Command(folder, "fit", arguments, "model.safetensors")


def score_command(folder: Path) -> Command:
    """Stores of the golden panel under ever new names, in several files."""
    panel = pd.read_csv(GOLDEN / "panel.csv")
    store = panel.columns[0]
    (folder / "parts").mkdir()
    for k in range(_FILES):
        renamed = panel.assign(**{store: panel[store].astype(str) + f"-{k}"})
        renamed.to_parquet(folder / "parts" / f"{k}.parquet", index=False)
    arguments = ["score", str(GOLDEN / "model.onnx"), "--data", str(folder / "parts")]
    return Command(folder, "score", [*arguments, "--workers", "1"], "*.parquet")


def killed(command: Command, rng: random.Random) -> str:
    """Killed at some moment, then run again."""
    out = command.folder / f"{command.name}-killed"
    process = command.start(out)
    process.join(rng.random() * command.seconds)
    if process.is_alive() and process.pid is not None:
        os.kill(process.pid, rng.choice(_SIGNALS))
    process.join()
    if "Traceback" in command.errors.read_text():
        return command.told("tracebacks")
    end = "answered" if command.content(out) == command.whole else ""
    end = end or command.ends_whole(out)
    _remove(out)
    return end


def out_of_disk(command: Command, rng: random.Random) -> str:
    """On a disk that is full from some moment on; then with space, run again."""
    with small_disk(command.folder / "disk") as disk:
        out = disk / command.name
        process = command.start(out)
        process.join(rng.random() * command.seconds)
        filler = disk / "filler"
        _fill(filler)
        process.join()
        said = command.errors.read_text()
        if "Traceback" in said or process.exitcode not in (0, 2):
            return command.told("tracebacks")
        left = left_behind(disk)
        filler.unlink()
        if left:
            return command.told("lost")
        if not process.exitcode:
            return "answered" if command.content(out) == command.whole else command.told("silent")
        end = command.ends_whole(out)
        return "refused" if end == "answered" else end


def left_behind(folder: Path) -> list[Path]:
    """Temporary files of writes that did not end."""
    return list(folder.rglob("*.causalmmm-partial*"))


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of some megabytes at this place; ``OSError`` where that is not allowed."""
    folder.mkdir(exist_ok=True)
    size = f"size={_DISK_MB}m"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        raise PermissionError(mounted.stderr.strip())
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def may_mount(folder: Path) -> bool:
    try:
        with small_disk(folder):
            return True
    except OSError:
        return False


def _fill(filler: Path) -> None:
    with filler.open("wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue


def _remove(out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    out.with_name(f"{out.name}.checkpoint").unlink(missing_ok=True)


def _run(arguments: list[str], errors: Path) -> None:
    """In the new process: the command, with its messages in a file."""
    from causalmmm.cli import main

    with errors.open("w") as file:
        os.dup2(file.fileno(), 2)
        os.dup2(file.fileno(), 1)
    sys.modules["__main__"] = ModuleType("__main__")  # workers of score need not import this one
    sys.argv = ["causalmmm", *arguments]
    main()
