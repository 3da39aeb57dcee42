"""What it takes before a command answers, and to export and load a model: seconds of CPU.

    python -m bench.system.startup --label after

A model of three stores is fitted once; then every command runs ``--rounds`` times in a process of
its own, and the least CPU time counts: what a busy machine adds is no property of the program.
Byte code is kept in a folder of this run, as pip leaves it with an installed package; two rows
show what a command takes where ``PYTHONDONTWRITEBYTECODE`` has every process compile its imports.
Rows of other labels that are recorded already stay, so that two revisions lie side by side: put the
other's ``python`` folder before this one's on PYTHONPATH and name it by ``--revision``. The column
``cpu`` tells which rows were measured on one machine and may be compared. "import of torch and
pandas" is the part of a command that is none of this package's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.lib.record import Row, environment, record, table
from bench.lib.result_log import read_rows

CLI = "import sys; from causalmmm.cli import main; sys.argv[0] = 'causalmmm'; main()"
EXPORT = """
import resource, sys
from causalmmm import CausalMMM
model = CausalMMM.load(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF)
model.export_onnx(sys.argv[2])
after = resource.getrusage(resource.RUSAGE_SELF)
print(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
"""
LOAD = """
import sys, time
from causalmmm.runtime import OnnxModel
before = time.process_time()
OnnxModel(sys.argv[1], threads=1)
print(time.process_time() - before)
"""
IMPORT = """
import time
before = time.process_time()
import torch, pandas
print(time.process_time() - before)
"""
FIT = """
import sys
from causalmmm import CausalMMM
from causalmmm.simulation import simulate
panel, _ = simulate("airmmm", stores=3, steps=200, seed=0)
panel.to_frame().to_csv(sys.argv[2], index=False)
CausalMMM(epochs=2, seed=0, device="cpu").fit(panel, progress=False).save(sys.argv[1])
"""


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PYTHONPYCACHEPREFIX"] = str(Path(folder) / "byte-code")
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        run, panel, file = (str(Path(folder) / name) for name in ("run", "panel.csv", "model.onnx"))
        _python(FIT, run, panel)
        _python(EXPORT, run, file)
        rows: list[Row] = [
            _command(options, "--version"),
            _command(options, "info", run),
            _command(options, "graph", run, "--data", panel),
            _command(options, "predict", run, "--data", panel),
            _printed(options, "export (in a process that has the model)", EXPORT, run, file),
            _printed(options, "load of the exported file", LOAD, file),
            _printed(options, "import of torch and pandas", IMPORT),
        ]
        os.environ.update(
            PYTHONDONTWRITEBYTECODE="1", PYTHONPYCACHEPREFIX=str(Path(folder) / "none")
        )
        for words in (("graph", run, "--data", panel), ("predict", run, "--data", panel)):
            row = _command(options, *words)
            rows.append({**row, "what": f"{row['what']}, byte code not kept"})
    cpu = environment()["machine"]["cpu"]
    rows = [
        {"label": options.label, "revision": options.revision, "cpu": cpu, **row} for row in rows
    ]
    print(table(rows, ["label", "what"], ["cpu_seconds", "seconds"]))
    others = [r for r in read_rows(options.out / "startup.csv") if r["label"] != options.label]
    record(options.out, "startup", [*others, *rows], vars(options))
    return rows


def _command(options: argparse.Namespace, *words: str) -> Row:
    """CPU seconds and seconds of a command in a process of its own."""
    rounds = []
    for _ in range(options.rounds):
        before, began = os.times(), time.perf_counter()
        _python(CLI, *words)
        after, ended = os.times(), time.perf_counter()
        cpu = after.children_user + after.children_system
        rounds.append((cpu - before.children_user - before.children_system, ended - began))
    cpu_seconds, seconds = (min(values) for values in zip(*rounds, strict=True))
    return {"what": f"causalmmm {words[0]}", "cpu_seconds": cpu_seconds, "seconds": seconds}


def _printed(options: argparse.Namespace, what: str, code: str, *arguments: str) -> Row:
    """CPU seconds that a program prints of a part of itself."""
    cpu_seconds = min(float(_python(code, *arguments)) for _ in range(options.rounds))
    return {"what": what, "cpu_seconds": cpu_seconds}


def _python(code: str, *arguments: str) -> str:
    command = [sys.executable, "-P", "-W", "ignore", "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--label", default="now", help="names the rows")
    parser.add_argument("--revision", default=environment()["revision"], help="that is measured")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    return parser


if __name__ == "__main__":
    main()
