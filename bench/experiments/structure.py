"""Table 1: edges of held-out stores against the truth, on every scenario, for every method.

    python -m bench.experiments.structure --scenario paper-small lag7 --seeds 0 1 2 3 4
    python -m bench.experiments.structure --draw       # table and picture of what was measured

Methods that are trained learn from the training stores; all are evaluated on the others. Rows go to
``structure-SCENARIO.csv`` one by one; those that are there already are not measured again, unless
``--again``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bench.experiments.structure_methods import METHODS, EdgeEstimate, Task
from bench.experiments.structure_picture import picture
from bench.lib.metrics import calibration, decision_metrics, edge_metrics
from bench.lib.options import with_defaults
from bench.lib.record import Row, table
from bench.lib.result_log import ResultLog, read_rows
from bench.lib.scenarios import SCENARIOS, draw

VALUES = [
    *("heterogeneous_auroc", "auroc", "auprc", "pooled_auroc", "pooled_auprc"),
    *("accuracy", "ece", "shd", "seconds"),
]
QUICK = {"stores": 60, "few": 2, "seeds": [0]}


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    options = _options(arguments)
    if options.draw:
        return draw_table(options.out)
    torch.set_num_threads(options.threads)
    rows: list[Row] = []
    for scenario in options.scenario:
        rows += measure(scenario, options)
    return rows


def measure(scenario: str, options: argparse.Namespace) -> list[Row]:
    """Rows of all methods and seeds on one scenario, those of earlier runs included."""
    log = ResultLog(options.out, f"structure-{scenario}", vars(options))
    for seed in options.seeds:
        dataset = draw(scenario, seed, options.stores, options.steps)
        train, held_out = split(dataset.panel.n_stores, options.held_out, seed)
        few = min(options.few, len(held_out))
        settings = json.loads(options.settings)
        task = Task(dataset, train, held_out, few, seed, settings, options.quick)
        key = {
            "scenario": scenario,
            "seed": seed,
            "training stores": len(train),
            "steps": task.series.shape[1],
            "settings": options.settings,
        }
        for method in options.methods:
            log.add(key | {"method": method}, partial(method_rows, method, task))
    print(table(log.rows, ["method"], VALUES, f"\n{scenario}, held-out stores"))
    return log.rows


def method_rows(method: str, task: Task) -> list[Row]:
    return [evaluated(METHODS[method](task), task)]


def evaluated(estimate: EdgeEstimate, task: Task) -> Row:
    """All metrics of an estimate, against the true edges of the stores that it covers."""
    edges = task.edges[: len(estimate.scores)]
    row: Row = {"scored stores": len(edges), **edge_metrics(estimate.scores, edges)}
    if estimate.edges is not None:
        row |= decision_metrics(estimate.edges, edges)
    if estimate.probability is not None:
        row |= calibration(estimate.probability, edges)
    return row | estimate.extra


def split(stores: int, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of training and of held-out stores, each in order."""
    order = np.random.default_rng([seed, 7]).permutation(stores)
    count = max(1, round(share * stores))
    return np.sort(order[count:]), np.sort(order[:count])


def draw_table(out: Path) -> list[Row]:
    """All measurements in ``out`` as one table and one picture."""
    rows = [row for name in SCENARIOS for row in read_rows(out / f"structure-{name}.csv")]
    if not rows:
        raise SystemExit(f"nothing measured yet: no structure-*.csv in {out}")
    print(table(rows, ["scenario", "method"], VALUES, "held-out stores"))
    picture(rows, "heterogeneous_auroc").savefig(out / "structure.png", dpi=150)
    print(f"\npicture: {out / 'structure.png'}")
    return rows


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scenario", nargs="+", default=["paper-small"], choices=list(SCENARIOS))
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--stores", type=int, help="fewer or more than the scenario's")
    parser.add_argument("--steps", type=int, help="shorter or longer histories")
    parser.add_argument("--held-out", type=float, default=0.2, help="share not trained on")
    parser.add_argument("--few", type=int, help="held-out stores that slow methods are run on (20)")
    parser.add_argument("--settings", default="{}", help="parameters of CausalMMM as JSON")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="small budgets, to see that it runs")
    parser.add_argument("--again", action="store_true", help="measure rows again that are there")
    parser.add_argument("--draw", action="store_true", help="draw what was measured, no more")
    parser.add_argument("--out", type=Path, help="bench/results, or runs with --quick")
    usual = {"stores": None, "few": 20, "seeds": [0, 1, 2, 3, 4]}
    return with_defaults(parser.parse_args(arguments), usual, QUICK)


if __name__ == "__main__":
    main()
