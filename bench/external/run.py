"""Graphs of stores from laws of others, beside methods of others.

    make external                                        # environment of the peers, then all rows
    python -m bench.external.run --out bench/results
    python -m bench.external.run --quick                 # own recipes and methods only, into runs/

Every store is scored by itself, off-diagonal pairs only. Laws: CausalCompass and graphsimulacrum as
software of their authors, violations after TCD-Arena and skeletons after NetSim by published
recipes. PCMCI+ and VARLiNGAM run in build/external; a method that fails gets a row that says so.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from bench.external.bold import brains
from bench.external.ours import METHODS, Estimate
from bench.external.violations import VIOLATIONS, violated
from bench.external.world import World, read_world
from bench.lib.metrics import calibration, edge_metrics
from bench.lib.options import with_defaults
from bench.lib.record import Row, table
from bench.lib.result_log import ResultLog

PYTHON = Path("build/external/bin/python")
DRAWS = Path("build/external-draws")
PEERS = ("PCMCI+", "VARLiNGAM")
STORES, SEED = 4, 0
VALUES = ["auroc", "auprc", "ece", "seconds_a_store"]
OWN: dict[str, Callable[[], World]] = {
    **{f"violation: {name}": partial(violated, name, STORES, SEED) for name in VIOLATIONS},
    **{f"NetSim-like, {n} nodes": partial(brains, n, STORES, SEED) for n in (5, 10)},
}
ALL_METHODS = [*METHODS, *PEERS]
QUICK = {"worlds": ["violation: none"], "methods": ["pretrained", "evidence", "receiver variance"]}


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--worlds", nargs="+", help="some of the laws")
    parser.add_argument("--methods", nargs="+", choices=ALL_METHODS, metavar="METHOD")
    parser.add_argument("--again", action="store_true", help="measure rows again that are there")
    parser.add_argument("--quick", action="store_true", help="own methods, one law, into runs/")
    parser.add_argument("--out", type=Path)
    usual = {"worlds": None, "methods": ALL_METHODS}
    options = with_defaults(parser.parse_args(arguments), usual, QUICK)
    torch.set_num_threads(1)
    log = ResultLog(options.out, "external", vars(options))
    for world in worlds(options.worlds):
        key = {"source": world.source, "world": world.name, "stores": len(world.series)}
        for method in options.methods:
            log.add(key | {"method": method}, partial(measured, world, method))
    print(table(log.rows, ["world", "method"], VALUES, "stores of other laws"))
    return log.rows


def worlds(names: Sequence[str] | None) -> list[World]:
    """Laws of these names, or all; draws of software that is not installed are left out."""
    known = [OWN[name]() for name in OWN if names is None or name in names]
    if names is None or not set(names) <= set(OWN):
        if PYTHON.exists():
            command = [str(PYTHON.absolute()), "-m", "bench.external.fetched", str(DRAWS)]
            subprocess.run(command, check=True, env=_environment())
        else:
            print(f"{PYTHON} is missing: laws and methods of others are left out (make external)")
        drawn = [read_world(path) for path in sorted(DRAWS.glob("*.npz"))]
        known += [world for world in drawn if names is None or world.name in names]
    return known


def measured(world: World, method: str) -> list[Row]:
    """The row of one method on one law."""
    try:
        found = METHODS[method](world) if method in METHODS else _by_peer(world, method)
    except (ValueError, RuntimeError, subprocess.CalledProcessError) as error:
        return [{"note": f"failed: {str(error).splitlines()[0][:160]}"}]
    row: Row = {**edge_metrics(found.scores, world.edges), "seconds_a_store": found.seconds}
    row.pop("stores")
    return [row | calibration(found.scores, world.edges) if found.probability else row]


def _by_peer(world: World, method: str) -> Estimate:
    if not PYTHON.exists():
        raise ValueError(f"{PYTHON} is missing")
    path = world.save(DRAWS / "peers")
    answer = path.with_name("answer.npz")
    command = [str(PYTHON.absolute()), "-m", "bench.external.peers", str(path), method, str(answer)]
    done = subprocess.run(command, env=_environment(), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
    with np.load(answer) as file:
        return Estimate(file["scores"], float(file["seconds"]), probability=False)


def _environment() -> dict[str, str]:
    """One thread, and nothing of this environment's packages."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return kept | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


if __name__ == "__main__":
    main()
