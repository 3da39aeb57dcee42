"""Edges of held-out stores against the truth: this package's model beside baselines.

    python bench/structure.py --preset paper-small --seeds 0 1 2 --out bench/results

Stores are split: the model is fitted on the training stores and scores the others without training.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from record import Row, record, table
from scores import calibration, edge_scores
from structure_baselines import (
    granger_by_bic,
    granger_orders,
    receiver_variance,
    training_frequency,
)

from causalmmm.panel import Panel
from causalmmm.simulation import Truth, simulate

ORDERS = range(1, 8)


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    options = _parser().parse_args(arguments)
    rows: list[Row] = []
    for seed in options.seeds:
        panel, truth = simulate(
            options.preset, seed=seed, stores=options.stores, steps=options.steps
        )
        train, held_out = split(panel, options.held_out, seed)
        known = {"seed": seed, "training stores": len(train), "held-out stores": len(held_out)}
        found = list(baseline_rows(panel, truth, train, held_out))
        if not options.baselines_only:
            found.append(
                model_row(panel, truth, train, held_out, seed, json.loads(options.settings))
            )
        rows += [known | row for row in found]
    values = ["auroc", "auprc", "heterogeneous_auroc", "pooled_auroc", "pooled_auprc"]
    calibrated = ["true_share_80_100", "pairs_80_100", "ece", "seconds"]
    print(table(rows, ["method"], values + calibrated, f"\n{options.preset}, held-out stores"))
    name = f"structure-{options.preset}" + (f"-{options.tag}" if options.tag else "")
    record(options.out, name, rows, vars(options))
    return rows


def split(panel: Panel, share: float, seed: int) -> tuple[list[str], list[str]]:
    """Names of training and held-out stores, each in the panel's order."""
    order = np.random.default_rng([seed, 7]).permutation(panel.n_stores)
    count = max(1, round(share * panel.n_stores))
    names = np.asarray(panel.stores)
    return list(names[np.sort(order[count:])]), list(names[np.sort(order[:count])])


def baseline_rows(
    panel: Panel, truth: Truth, train: list[str], held_out: list[str]
) -> Iterator[Row]:
    edges = truth.select(held_out).edges
    series = histories(panel.select(held_out))
    began = time.perf_counter()
    tests = granger_orders(series, ORDERS)
    seconds = (time.perf_counter() - began) / len(tests)
    scored = {lags: edge_scores(test.statistic, edges) for lags, test in tests.items()}
    best = max(scored, key=lambda lags: scored[lags]["auroc"])
    yield {"method": "linear Granger, best lag", "lags": best, "seconds": seconds, **scored[best]}
    yield {"method": "linear Granger, BIC", **edge_scores(granger_by_bic(series, ORDERS), edges)}
    for lags, scores in scored.items():
        yield {"method": f"linear Granger, lag {lags}", "lags": lags, **scores}
    yield {"method": "receiver variance", **edge_scores(receiver_variance(series), edges)}
    frequency = training_frequency(truth.select(train).edges, len(held_out))
    yield {
        "method": "training edge frequency",
        **edge_scores(frequency, edges),
        **calibration(frequency, edges),
    }


def model_row(
    panel: Panel,
    truth: Truth,
    train: list[str],
    held_out: list[str],
    seed: int,
    settings: dict[str, Any],
) -> Row:
    from causalmmm.estimator import CausalMMM

    began = time.perf_counter()
    model = CausalMMM(seed=seed, **settings).fit(panel.select(train))
    seconds = time.perf_counter() - began
    probability = edge_array(model.graphs(panel.select(held_out)), held_out, panel.nodes)
    edges = truth.select(held_out).edges
    return {
        "method": "causalmmm",
        "seconds": seconds,
        "epochs": len(model.history_),
        **edge_scores(probability, edges),
        **calibration(probability, edges),
    }


def histories(panel: Panel) -> NDArray[np.float64]:
    """[S, T, N] of a panel whose histories are equally long."""
    steps = np.unique(panel.lengths)
    if len(steps) > 1:
        raise ValueError(f"histories differ in length: {steps.min()} to {steps.max()} steps")
    return panel.data.values.reshape(panel.n_stores, int(steps[0]), -1).astype(np.float64)


def edge_array(
    frame: pd.DataFrame, stores: Sequence[str], nodes: Sequence[str]
) -> NDArray[np.float64]:
    """Probabilities [S, N, N] from rows store, source, target, probability; 0 where none."""
    array = np.zeros((len(stores), len(nodes), len(nodes)))
    at = (
        pd.Index(stores).get_indexer(pd.Index(frame["store"])),
        pd.Index(nodes).get_indexer(pd.Index(frame["source"])),
        pd.Index(nodes).get_indexer(pd.Index(frame["target"])),
    )
    if any((index < 0).any() for index in at):
        raise ValueError("the frame names a store or series that the panel does not have")
    array[at] = frame["probability"].to_numpy(float)
    return array


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--preset", default="paper-small")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--stores", type=int, default=None, help="fewer or more than the preset's")
    parser.add_argument("--steps", type=int, default=None, help="shorter or longer histories")
    parser.add_argument(
        "--held-out", type=float, default=0.2, help="share of stores not trained on"
    )
    parser.add_argument("--settings", default="{}", help="parameters of CausalMMM as JSON")
    parser.add_argument("--baselines-only", action="store_true")
    parser.add_argument("--tag", default="", help="added to the names of the result files")
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    return parser


if __name__ == "__main__":
    main()
