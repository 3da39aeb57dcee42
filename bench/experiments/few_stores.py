"""Panels of 1, 8 and 50 stores: edges of the very stores learned from, beside per-store evidence.

    python -m bench.experiments.few_stores --sizes 1 8 50 --out bench/results

No method sees an edge, so the stores fitted on can be evaluated. Small panels are drawn several
times; every method is run on the same draws.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from bench.experiments.structure import evaluated
from bench.experiments.structure_methods import METHODS, Task
from bench.lib.options import with_defaults
from bench.lib.record import Row, record, table
from bench.lib.scenarios import SCENARIOS, draw

COMPARED = (
    *("causalmmm", "pretrained"),
    *("eb-granger-7", "eb-granger-14", "granger-bic", "granger-oracle"),
)
DRAWS = {1: 8, 8: 3, 50: 2}  # by number of stores; others are drawn once
VALUES = ["auroc", "auprc", "ece", "seconds"]


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scenario", default="paper-small", choices=list(SCENARIOS))
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 8, 50])
    parser.add_argument("--methods", nargs="+", default=list(COMPARED), choices=list(METHODS))
    parser.add_argument("--draws", type=int, help="instead of 8, 3, 2 for 1, 8, 50 stores")
    parser.add_argument("--quick", action="store_true", help="small, into runs/ unless --out")
    parser.add_argument("--out", type=Path)
    options = with_defaults(parser.parse_args(arguments), {}, {})
    torch.set_num_threads(1)
    rows: list[Row] = []
    for size in options.sizes:
        everyone = np.arange(size)
        for seed in range(options.draws or DRAWS.get(size, 1)):
            dataset = draw(options.scenario, seed, size)
            task = Task(dataset, everyone, everyone, size, seed, {}, options.quick)
            for method in options.methods:
                began = time.perf_counter()
                estimate = METHODS[method](task)
                seconds = time.perf_counter() - began
                row = {"stores": size, "seed": seed, "method": method, **evaluated(estimate, task)}
                rows.append(row | {"stores": size, "seconds": seconds})
    print(table(rows, ["stores", "method"], VALUES, f"\n{options.scenario}, few stores"))
    record(options.out, f"few-stores-{options.scenario}", rows, vars(options))
    return rows


if __name__ == "__main__":
    main()
