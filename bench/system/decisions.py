"""What returns and budgets of many stores cost: seconds and peak memory.

    python -m bench.system.decisions --out bench/results       # 1, 8 and 1,000 stores

Panels of weekly-mmm with twelve channels and 156 weeks. The model is fitted beforehand on at most
eight of the stores; a row is one answer in a new process, in which one store was asked before:
``optimize`` of 13 weeks, and ``roi`` of the whole history with marginal returns. ``cpu_seconds``
counts all threads; ``again`` is the same question a second time, when the prior has read the stores
already; peak memory is the largest resident set, libraries included.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from bench.lib.record import Row, record, table

WEEKS, FITTED = 13, 8
QUESTIONS = ("optimize", "roi")


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    options = _parser().parse_args(arguments)
    if options.measure is not None:
        print(json.dumps(measured(options.measure, options.question, options.threads)))
        return []
    rows: list[Row] = []
    for stores in options.stores:
        with tempfile.TemporaryDirectory() as folder:
            prepare(Path(folder), stores)
            for question in QUESTIONS:
                command = [sys.executable, "-m", "bench.system.decisions", "--measure", folder]
                command += ["--question", question, "--threads", str(options.threads)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                rows.append(json.loads(done.stdout.splitlines()[-1]))
                print(table(rows[-1:], ["question", "stores"], list(rows[-1])[2:]))
    if options.out is not None:
        record(options.out, "decisions-speed", rows, {k: str(v) for k, v in vars(options).items()})
    return rows


def prepare(folder: Path, stores: int) -> None:
    """A model, and the panel to ask it about, in a folder."""
    from causalmmm import CausalMMM
    from causalmmm.simulation import simulate

    panel, _ = simulate("weekly-mmm", seed=0, stores=max(stores, FITTED), channels=12)
    names = panel.stores.tolist()
    CausalMMM(seed=0).fit(panel.select(names[:FITTED]), progress=False).save(folder / "model")
    asked = panel.select(names[:stores])
    asked.to_frame().to_parquet(folder / "panel.parquet", index=False)


def measured(folder: Path, question: str, threads: int) -> Row:
    """One answer in this process."""
    from causalmmm import CausalMMM, Panel

    torch.set_num_threads(threads)
    model = CausalMMM.load(folder / "model")
    panel = Panel.read(folder / "panel.parquet", model.schema_)
    model.roi(panel.select(panel.stores[:1].tolist()))
    spent = []  # wall and CPU, when asked first and when asked again
    for _ in range(2):
        begin, cpu = time.perf_counter(), time.process_time()
        if question == "optimize":
            model.optimize(WEEKS, panel=panel)
        else:
            model.roi(panel)
        spent += [time.perf_counter() - begin, time.process_time() - cpu]
    return {
        "question": question,
        "stores": panel.n_stores,
        "threads": threads,
        **dict(zip(("seconds", "cpu_seconds", "seconds_again", "cpu_again"), spent, strict=True)),
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure returns and budgets.")
    parser.add_argument("--stores", type=int, nargs="+", default=[1, 8, 1000])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--measure", type=Path, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--question", choices=QUESTIONS, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
