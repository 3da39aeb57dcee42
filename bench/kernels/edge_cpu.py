"""Time and memory of training the two edge passes on a CPU, beside plain PyTorch, in one run.

    python -m bench.kernels.edge_cpu --out bench/results

One step is forward and backward of both passes, 27 edge features, float32. Formulations take turns,
so that a busy machine burdens all alike; the table shows the CPU time of the median step, and its
ratio to that of the operators. Peak memory is measured in a new process, above what that held
before the step.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median

import torch

from bench.kernels import edge_roofline as roofline
from bench.kernels.edge_formulations import ENCODERS, Operators, check, training_step
from bench.lib import memory
from bench.lib.record import Row, record, table

FEATURES = 27  # as in training with two lags
TWICE = "operators, e computed twice"
FORMULATIONS = {"operators": ENCODERS["operators"], TWICE: partial(Operators, keep=False)}
FORMULATIONS |= ENCODERS


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=16)
    parser.add_argument("--width", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--stores", type=int, nargs="+", default=[8, 64, 256, 1024])
    parser.add_argument("--memory-stores", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", metavar="NAME", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    if options.one:
        print(peak_mib(options.one, options.memory_stores, options.nodes, options.width[-1]))
        return
    check("cpu", torch.float32)
    rows: list[Row] = []
    for width, stores in product(options.width, options.stores):
        rows += timed(stores, options.nodes, width, options.rounds)
    for name in FORMULATIONS:
        rows.append(
            {"formulation": name, "stores": options.memory_stores, **memory_row(name, options)}
        )
    ours = next(r for r in rows if r["formulation"] == "operators" and "peak_mib" in r)
    for row in rows:
        if "peak_mib" in row:
            row["times_the_memory"] = row["peak_mib"] / ours["peak_mib"]
    values = ["milliseconds", "times_as_long", "share_of_floor", "peak_mib", "times_the_memory"]
    print(table(rows, ["width", "stores", "formulation"], values))
    if options.out:
        record(options.out, "edge_cpu", rows, vars(options))


def timed(stores: int, nodes: int, width: int, rounds: int) -> list[Row]:
    steps = {name: step(name, stores, nodes, width) for name in FORMULATIONS}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 1):
        for name, work in steps.items():
            start = time.process_time()
            work()
            seconds[name].append(time.process_time() - start)
    middle = {name: median(values[1:]) for name, values in seconds.items()}
    here, counts = roofline.this_cpu(), (roofline.forward, roofline.backward)
    floor = sum(count(stores, nodes, width, FEATURES, 4).floor(here) for count in counts)
    return [
        {
            "formulation": name,
            "stores": stores,
            "nodes": nodes,
            "width": width,
            "milliseconds": value * 1e3,
            "times_as_long": value / middle["operators"],
            "share_of_floor": floor / value if name == "operators" else None,
        }
        for name, value in middle.items()
    ]


def step(name: str, stores: int, nodes: int, width: int) -> Callable[[], None]:
    torch.manual_seed(0)
    model = FORMULATIONS[name](nodes, width, FEATURES)
    h = torch.randn(stores, nodes, width, requires_grad=True)
    features = torch.randn(stores, nodes, nodes, FEATURES)
    return training_step(model, h, features)


def peak_mib(name: str, stores: int, nodes: int, width: int) -> float:
    """MiB by which this process grows, at most, during one step."""
    step(name, 2, nodes, width)()  # what is loaded on first use does not count
    return memory.growth(step(name, stores, nodes, width)) / 2**20


def memory_row(name: str, options: argparse.Namespace) -> Row:
    command = [sys.executable, "-m", "bench.kernels.edge_cpu", "--one", name]
    for key in ("nodes", "memory_stores", "threads"):
        command += [f"--{key.replace('_', '-')}", str(getattr(options, key))]
    command += ["--width", str(options.width[-1])]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {"nodes": options.nodes, "width": options.width[-1], "peak_mib": float(done.stdout)}


if __name__ == "__main__":
    main()
