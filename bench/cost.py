"""What training costs: seconds per epoch against the number of stores, and peak memory at scale.

    python bench/cost.py --out bench/results            # N = 8, T = 100, H = 32, two threads
    python bench/cost.py --memory-only --out bench/results

Rates are of the fastest epoch, first ones apart; memory is the peak resident set of a process of
its own that draws ``marketplace`` (100,000 stores x 180 days x 16 series) and trains on it.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from record import Row, record, table

from causalmmm.simulation import simulate

SIZES = (1_000, 2_000, 4_000, 8_000, 16_000, 32_000)
MEMORY_GIB = 4.0


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    options = _parser().parse_args(arguments)
    settings = json.loads(options.settings)
    if options.measure_memory:
        print(json.dumps(peak_memory(options.memory_stores, options.memory_steps, settings)))
        return []
    rows: list[Row] = []
    if not options.memory_only:
        rows = epochs(options.sizes, options.epochs, options.rounds, settings)
        print(table(rows, ["stores"], ["seconds_per_epoch", "stores_per_second", "fit_seconds"]))
        print(f"slope of log seconds per epoch on log stores: {slope(rows):.3f}")
        record(options.out, "cost-epoch", rows, vars(options) | {"slope": slope(rows)})
    if not options.epochs_only:
        row = _peak_memory_of_own_process(options)
        print(table([row], ["stores", "steps"], ["peak_gib", "drawn_gib", "stores_per_second"]))
        record(options.out, "cost-memory", [row], vars(options) | {"limit_gib": MEMORY_GIB})
        rows = [*rows, row]
    return rows


def epochs(sizes: Sequence[int], count: int, rounds: int, settings: dict[str, Any]) -> list[Row]:
    """One row per number of stores: N = 8, T = 100, hidden width 32, ``count`` epochs.

    The sizes take turns, ``rounds`` times, and each keeps its fastest epoch: on a shared machine a
    slow minute would otherwise bend the slope.
    """
    from causalmmm.estimator import CausalMMM

    rows: dict[int, Row] = {}
    for stores in [size for _ in range(rounds) for size in sizes]:
        panel, _ = simulate("paper-small", stores=stores, seed=0)
        # Patience beyond the run: early stopping must not decide how many epochs are timed.
        fixed = {"hidden": 32, "epochs": count, "patience": count + 1, "seed": 0, "device": "cpu"}
        began = time.perf_counter()
        model = CausalMMM(**{**fixed, **settings}).fit(panel, progress=False)
        total = time.perf_counter() - began
        rate = float(model.history_["stores_per_second"].iloc[1:].max())
        if stores not in rows or rate > rows[stores]["stores_per_second"]:
            rows[stores] = {
                "stores": stores,
                "seconds_per_epoch": stores / rate,
                "stores_per_second": rate,
                "epochs": count,
                "fit_seconds": total,
            }
        del panel, model
        gc.collect()
    return list(rows.values())


def slope(rows: Sequence[Row]) -> float:
    """Least-squares slope of log seconds per epoch on log stores; 1 is linear growth."""
    if len(rows) < 2:
        return math.nan
    x, y = (np.log([row[name] for row in rows]) for name in ("stores", "seconds_per_epoch"))
    return float(np.polyfit(x, y, 1)[0])


def peak_memory(stores: int, steps: int | None, settings: dict[str, Any]) -> Row:
    """Draw the marketplace preset and train one epoch on it, in this process."""
    from causalmmm.estimator import CausalMMM

    panel, truth = simulate("marketplace", stores=stores, steps=steps, seed=0)
    drawn = _peak_gib()
    del truth
    model = CausalMMM(**{"epochs": 1, "device": "cpu", **settings}).fit(panel, progress=False)
    return {
        "stores": panel.n_stores,
        "steps": int(panel.lengths.max()),
        "series": len(panel.nodes),
        "peak_gib": _peak_gib(),
        "drawn_gib": drawn,
        "stores_per_second": float(model.history_["stores_per_second"].iloc[-1]),
    }


def _peak_memory_of_own_process(options: argparse.Namespace) -> Row:
    command = [sys.executable, __file__, "--measure-memory", "--settings", options.settings]
    command += ["--memory-stores", str(options.memory_stores)]
    if options.memory_steps is not None:
        command += ["--memory-steps", str(options.memory_steps)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    row: Row = json.loads(done.stdout.splitlines()[-1])
    return row


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory-stores", type=int, default=100_000)
    parser.add_argument("--memory-steps", type=int, default=None)
    parser.add_argument("--settings", default="{}", help="parameters of CausalMMM as JSON")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--epochs-only", action="store_true")
    only.add_argument("--memory-only", action="store_true")
    parser.add_argument("--measure-memory", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    return parser


if __name__ == "__main__":
    main()
