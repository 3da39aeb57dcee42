"""Several processes that train one model: rate of the whole job, and CPU seconds of all of them.

    python -m bench.system.ranks --out bench/results

One thread a process, started by torchrun. Each number of processes keeps its fastest epoch; on a
machine with other work, use an idle one or compare CPU seconds only. The row "apart" is as many
jobs of one process at once, which share nothing but the machine: what it has for so many processes
at most. ``update_seconds`` are the CPU seconds of the updates of a job, all processes together.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from bench.lib.record import Row, record, table

if TYPE_CHECKING:
    from torch import Tensor


def job(processes: int, options: argparse.Namespace) -> Row:
    """One job of so many processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={processes}"]
    (workers,) = run([command], options)
    assert len(workers) == processes
    return {"job": "together", **summary(workers, max)}


def apart(processes: int, options: argparse.Namespace) -> Row:
    """As many jobs of one process, at once."""
    jobs = run([[sys.executable]] * processes, options)
    return {"job": "apart", **summary([worker for (worker,) in jobs], sum)}


def run(starts: Sequence[list[str]], options: argparse.Namespace) -> list[list[dict[str, float]]]:
    """Results of the workers of each job; the jobs run at once."""
    command = ["-m", "bench.system.ranks", "--worker"]
    for name in ("stores", "series", "steps", "hidden", "epochs"):
        command += [f"--{name}", str(getattr(options, name))]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    jobs = [
        subprocess.Popen([*start, *command], env=environment, stdout=subprocess.PIPE, text=True)
        for start in starts
    ]
    outputs = [job.communicate()[0] for job in jobs]
    assert all(job.returncode == 0 for job in jobs), outputs
    return [[json.loads(x) for x in out.splitlines() if x.startswith("{")] for out in outputs]


def summary(
    workers: list[dict[str, float]], rate: Callable[[Iterable[float]], float]
) -> dict[str, float]:
    return {
        "processes": len(workers),
        "stores_per_second": rate(worker["stores_per_second"] for worker in workers),
        "cpu_seconds": sum(worker["cpu_seconds"] for worker in workers),
        "update_seconds": sum(worker["update_seconds"] for worker in workers),
        "loss": workers[0]["loss"],
    }


def work(options: argparse.Namespace) -> None:
    """What one process of a job does."""
    from causalmmm import CausalMMM, simulate
    from causalmmm.engine.training.cuda_graphs import Updates

    panel, _ = simulate(
        "paper-small", stores=options.stores, channels=options.series - 2, steps=options.steps
    )
    fixed = {"structure": "learned", "patience": options.epochs + 1, "hidden": options.hidden}
    model = CausalMMM(seed=0, epochs=options.epochs, **fixed)
    update_seconds, update = 0.0, Updates.__call__

    def timed(self: Updates, *args: Any, **kwargs: Any) -> Tensor:
        nonlocal update_seconds
        began = time.process_time()
        losses = update(self, *args, **kwargs)
        update_seconds += time.process_time() - began
        return losses

    began = time.process_time()
    with mock.patch.object(Updates, "__call__", timed):
        model.fit(panel, progress=False)
    history = model.history_
    result = {
        "stores_per_second": float(history["stores_per_second"].iloc[1:].max()),
        "cpu_seconds": time.process_time() - began,
        "update_seconds": update_seconds,
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
    rows += [apart(processes, options) for processes in options.processes if processes > 1]
    for row in rows:
        row["times_one"] = row["stores_per_second"] / rows[0]["stores_per_second"]
    values = ["stores_per_second", "times_one", "cpu_seconds", "update_seconds", "loss"]
    print(table(rows, ["job", "processes"], values))
    if options.out:
        record(options.out, "ranks", rows, vars(options))


if __name__ == "__main__":
    main()
