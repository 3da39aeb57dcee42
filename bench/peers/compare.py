"""Peers beside this package on the same weekly draws: forecasts, contributions, ROI, price.

    make peers                                             # environments, then all rows
    python -m bench.peers.compare --methods meridian --seeds 0 1 2 3 4
    python -m bench.peers.compare --quick                  # cheap methods, one draw, into runs/

The last weeks are hidden and the plan is known. Each method is a process of its own, with files in
and out, in the environment that it needs; a method that fails or takes longer than ``--limit`` gets
a row that says so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.lib.options import with_defaults
from bench.lib.record import Row, table
from bench.lib.result_log import ResultLog
from bench.peers.judge import judged
from bench.peers.task import Task
from causalmmm.simulation import simulate

ROOT = Path(__file__).parents[2]  # from where modules of bench are run
# Method: environment ("" is this one), module, what the module reads from its environment.
METHODS: dict[str, tuple[str, str, dict[str, str]]] = {
    "causalmmm": ("", "ours", {}),
    "pymc-marketing, logistic": ("pymc", "fit_pymc", {"SATURATION": "logistic"}),
    "pymc-marketing, Michaelis-Menten": (
        "pymc",
        "fit_pymc",
        {"SATURATION": "michaelis-menten"},
    ),
    "meridian": ("meridian", "fit_meridian", {}),
    "ridge, pooled": ("", "plain", {"METHOD": "ridge-pooled"}),
    "ridge, per store": ("", "plain", {"METHOD": "ridge-store"}),
    "seasonal naive": ("", "plain", {"METHOD": "seasonal-naive"}),
    "oracle": ("", "plain", {"METHOD": "oracle"}),
}
VALUES = [
    *("wmape", "contribution_pooled", "contribution_apart", "roi_error"),
    *("cover_contributions", "cover_future", "cpu_seconds", "peak_mb"),
]
CHEAP = [name for name, (where, module, _) in METHODS.items() if module == "plain"]
QUICK: dict[str, Any] = {"seeds": [0], "methods": CHEAP}
# One thread each: CPU seconds then say what a fit costs, not how well it spreads.
ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "NPROC": "1",  # of XLA's own pool of threads
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "JAX_PLATFORMS": "cpu",
}


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    options = _options(arguments)
    rows: list[Row] = []
    for preset in options.preset:
        log = ResultLog(options.out, f"peers-{preset}", vars(options))
        for seed in options.seeds:
            task, truth = draw(preset, seed, options)
            key: Row = {"preset": preset, "seed": seed, "stores": len(task.stores)}
            for method in options.methods:
                known = key | {"weeks": task.weeks, "holdout": task.holdout, "method": method}
                log.add(known, partial(measure, method, task, truth, options))
        print(table(log.rows, ["method"], VALUES, f"\n{preset}"))
        rows += log.rows
    return rows


def draw(preset: str, seed: int, options: argparse.Namespace) -> tuple[Task, dict[str, np.ndarray]]:
    """A task in files, and the truth, in a file that the oracle alone reads."""
    panel, truth = simulate(preset, seed=seed)
    law, schema = truth.config, panel.schema
    folder = options.work / "draws" / f"{preset}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    task = Task(
        folder=str(folder),
        store=schema.store or "",
        date=schema.date,
        target=schema.target,
        channels=list(truth.channels),
        mediators=list(schema.mediators),
        controls=schema.control_names,
        stores=panel.stores.tolist(),
        weeks=law.steps,
        holdout=options.holdout,
        seed=seed,
    )
    values = panel.data.values.reshape(panel.n_stores, law.steps, -1).astype(float)
    frame = panel.to_frame()
    late = np.tile(np.arange(law.steps) >= task.train, panel.n_stores)
    frame.loc[late, [task.target, *task.mediators]] = np.nan
    frame.to_csv(folder / "panel.csv", index=False)
    task.save()
    off = dict.fromkeys(truth.channels, 0.0)
    known = {
        "contributions": truth.contributions()[:, : task.train].sum(1, dtype=float),
        "media": (truth.history() - truth.history(spend=off))[..., -1],
        "future": values[:, task.train :, -1],
    }
    np.savez(folder.parent / f"{folder.name}.truth.npz", **known)
    return task, known


def measure(
    method: str, task: Task, truth: dict[str, np.ndarray], options: argparse.Namespace
) -> list[Row]:
    """The row of one method on one draw, or a row that says why there is none."""
    where, module, settings = METHODS[method]
    python = options.work / where / "bin" / "python" if where else Path(sys.executable)
    if not python.exists():
        return [{"note": f"not installed: {python} is missing"}]
    out = options.work / "answers" / f"{Path(task.folder).name}-{method}.npz"
    out.parent.mkdir(parents=True, exist_ok=True)
    command = [
        str(python),
        "-m",
        f"bench.peers.{module}",
        str(Path(task.folder).absolute()),
        str(out.absolute()),
    ]
    environment = {**os.environ, **ONE_THREAD, **settings}
    if where:
        environment.pop("PYTHONPATH", None)
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=options.limit,
        )
    except subprocess.TimeoutExpired:
        return [{"note": f"stopped after {options.limit} s"}]
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        return [{"note": f"failed: {last[0][:200]}"}]
    price = json.loads(out.with_suffix(".json").read_text())
    with np.load(out) as answer:
        return [judged(answer, truth) | price]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--preset", nargs="+", default=["weekly-mmm", "weekly-national"])
    parser.add_argument("--seeds", type=int, nargs="+", default=None, help="0 1 by default")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), metavar="METHOD")
    parser.add_argument("--holdout", type=int, default=13, help="weeks hidden")
    parser.add_argument("--limit", type=int, default=1800, help="seconds a method may take")
    parser.add_argument(
        "--work", type=Path, default=Path("build/peers"), help="environments, files"
    )
    parser.add_argument("--quick", action="store_true", help="cheap methods, into runs/")
    parser.add_argument("--again", action="store_true", help="measure what is there already too")
    parser.add_argument("--out", type=Path)
    usual = {"seeds": [0, 1], "methods": list(METHODS)}
    return with_defaults(parser.parse_args(arguments), usual, QUICK)


if __name__ == "__main__":
    main()
