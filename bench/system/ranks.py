"""Several processes that train one model: rate of the whole job, and CPU seconds of all of them.

    python -m bench.system.ranks --out bench/results

One thread a process, started by torchrun. Each number of processes keeps its fastest epoch; on a
machine with other work, use an idle one or compare CPU seconds only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.lib.record import Row, record, table


def job(processes: int, options: argparse.Namespace) -> Row:
    """One job of so many processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={processes}", "-m", "bench.system.ranks", "--worker"]
    for name in ("stores", "series", "steps", "hidden", "epochs"):
        command += [f"--{name}", str(getattr(options, name))]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    workers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(workers) == processes, done.stdout
    return {
        "processes": processes,
        "stores_per_second": max(worker["stores_per_second"] for worker in workers),
        "cpu_seconds": sum(worker["cpu_seconds"] for worker in workers),
        "loss": workers[0]["loss"],
    }


def work(options: argparse.Namespace) -> None:
    """What one process of a job does."""
    from causalmmm import CausalMMM, simulate

    panel, _ = simulate(
        "paper-small", stores=options.stores, channels=options.series - 2, steps=options.steps
    )
    fixed = {"structure": "learned", "patience": options.epochs + 1, "hidden": options.hidden}
    model = CausalMMM(seed=0, epochs=options.epochs, **fixed)
    began = time.process_time()
    model.fit(panel, progress=False)
    history = model.history_
    result = {
        "stores_per_second": float(history["stores_per_second"].iloc[1:].max()),
        "cpu_seconds": time.process_time() - began,
        "loss": float(history["train"].iloc[-1]),
    }
    sys.stdout.write(json.dumps(result) + "\n")  # one write: processes share the pipe


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--stores", type=int, default=2000)
    parser.add_argument("--series", type=int, default=8)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    if options.worker:
        work(options)
        return
    rows = [job(processes, options) for processes in options.processes]
    for row in rows:
        row["times_one"] = row["stores_per_second"] / rows[0]["stores_per_second"]
    print(table(rows, ["processes"], ["stores_per_second", "times_one", "cpu_seconds", "loss"]))
    if options.out:
        record(options.out, "ranks", rows, vars(options))


if __name__ == "__main__":
    main()
