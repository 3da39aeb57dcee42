"""Edges of weekly panels: the response regression, the pretrained prior, and both together.

    python -m bench.experiments.combined_edges --out bench/results

Log odds of both are averaged. The ``best`` weight of the regression, by log loss, is searched on
draws of the training law "weekly" alone; ``combined`` is what ``CausalMMM.graphs``
answers with the weight in the package. Draws of the presets and of logistic saturation, on which
nothing was trained or chosen, say what it is worth. Means over stores, off-diagonal pairs only.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.experiments.structure_methods import edge_array
from bench.lib.metrics import edge_metrics, pair_calibration
from bench.lib.options import with_defaults
from bench.lib.record import Row, table
from bench.lib.result_log import ResultLog
from causalmmm import CausalMMM, Panel, simulate
from causalmmm.data.schema import Schema
from causalmmm.engine.regression import combined_edges
from causalmmm.simulation.laws import draw_law

Array = NDArray[np.float64]
TRAINED = "weekly (chosen on)"
# law: preset or family, stores, weeks (0: the law's), draws
LAWS: dict[str, tuple[str, int, int, int]] = {
    TRAINED: ("weekly", 2, 0, 10),
    "weekly-mmm, 1 store, 104 weeks": ("weekly-mmm", 1, 104, 4),
    "weekly-mmm, 1 store, 156 weeks": ("weekly-mmm", 1, 156, 4),
    "weekly-mmm, 8 stores, 104 weeks": ("weekly-mmm", 8, 104, 1),
    "weekly-mmm, 8 stores, 156 weeks": ("weekly-mmm", 8, 156, 1),
    "weekly-national": ("weekly-national", 1, 0, 3),
    "weekly-foreign, 8 stores": ("weekly-foreign", 8, 0, 1),
    "logistic saturation": ("logistic", 2, 0, 3),
}
FAMILIES = ("weekly", "logistic")
SEED, FAMILY_SEED = 300, 3_000_000  # neither trained on
WEIGHTS = np.linspace(0.0, 1.0, 21)
VALUES = ["auroc", "auprc", "ece", "log_loss", "weight"]
_SURE = 1e-4
QUICK = {"laws": ["weekly-national"], "draws": 1}


@dataclass(frozen=True)
class Found:
    """Probabilities of both, alone and combined, and the edges: [S, N, N] each."""

    regression: Array
    prior: Array
    combined: Array
    edges: NDArray[np.bool_]


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--laws", nargs="+", choices=list(LAWS), metavar="LAW")
    parser.add_argument("--draws", type=int, help="of every law at most")
    parser.add_argument("--again", action="store_true", help="measure rows again that are there")
    parser.add_argument("--quick", action="store_true", help="one draw, into runs/ unless --out")
    parser.add_argument("--out", type=Path)
    usual = {"laws": list(LAWS), "draws": 10}
    options = with_defaults(parser.parse_args(arguments), usual, QUICK)
    torch.set_num_threads(1)
    log = ResultLog(options.out, "combined-edges", vars(options))
    for law in options.laws:
        source, stores, weeks, draws = LAWS[law]
        count = min(draws, options.draws)
        key = {"law": law, "stores": stores, "draws": count}
        log.add(key, partial(measured, source, stores, weeks, count, law == TRAINED))
    print(table(log.rows, ["law", "method"], VALUES, "edges of weekly panels"))
    return log.rows


def measured(source: str, stores: int, weeks: int, draws: int, search: bool) -> list[Row]:
    """A row per method over all draws of a law."""
    began = time.process_time()
    draw = _family if source in FAMILIES else _preset
    found = [_found(*draw(source, seed, stores, weeks)) for seed in range(draws)]
    cpu = {"cpu_seconds": (time.process_time() - began) / draws}
    by_method: dict[str, Callable[[Found], Array]] = {
        name: partial(lambda name, f: getattr(f, name), name)
        for name in ("regression", "prior", "combined")
    }
    rows = [{"method": name, **_scores(found, of)} | cpu for name, of in by_method.items()]
    if search:
        losses = [_scores(found, partial(_averaged, w))["log_loss"] for w in WEIGHTS]
        best = float(WEIGHTS[int(np.argmin(losses))])
        scores = _scores(found, partial(_averaged, best))
        rows.append({"method": "best weight", "weight": best, **scores} | cpu)
    return rows


def _found(panel: Panel, edges: NDArray[np.bool_]) -> Found:
    """Both on one panel, by the package's own way from a fit to its graphs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = CausalMMM(regime="regression").fit(panel, progress=False)
    kept = combined_edges.REGRESSION_WEIGHT
    answers = []
    try:
        for weight in (1.0, 0.0, kept):
            combined_edges.REGRESSION_WEIGHT = weight
            answers.append(edge_array(model.graphs(panel), list(panel.stores), panel.nodes))
    finally:
        combined_edges.REGRESSION_WEIGHT = kept
    return Found(*answers, edges)


def _averaged(weight: float, found: Found) -> Array:
    odds = weight * _log_odds(found.regression) + (1.0 - weight) * _log_odds(found.prior)
    return np.asarray(1.0 / (1.0 + np.exp(-odds)))


def _log_odds(p: Array) -> Array:
    bounded = np.clip(p, _SURE, 1.0 - _SURE)
    return np.asarray(np.log(bounded / (1.0 - bounded)))


def _scores(found: Sequence[Found], of: Callable[[Found], Array]) -> dict[str, float]:
    """Mean over stores of AUROC and AUPRC; calibration and log loss over all pairs at once."""
    metrics = [edge_metrics(of(f), f.edges) for f in found]
    counted = np.array([m["stores"] for m in metrics])
    means = {
        name: float(np.nansum([m[name] * m["stores"] for m in metrics]) / counted.sum())
        for name in ("auroc", "auprc")
    }
    off = [~np.eye(f.edges.shape[-1], dtype=bool) for f in found]
    p = np.concatenate([of(f)[:, o].ravel() for f, o in zip(found, off, strict=True)])
    e = np.concatenate([f.edges[:, o].ravel() for f, o in zip(found, off, strict=True)])
    sure = np.clip(p, _SURE, 1.0 - _SURE)
    loss = -np.where(e, np.log(sure), np.log(1.0 - sure)).mean()
    return means | {"ece": pair_calibration(p, e)["ece"], "log_loss": float(loss)}


def _preset(name: str, seed: int, stores: int, weeks: int) -> tuple[Panel, NDArray[np.bool_]]:
    panel, truth = simulate(name, seed=SEED + seed, stores=stores, steps=weeks or None)
    return panel, truth.edges


def _family(name: str, seed: int, stores: int, weeks: int) -> tuple[Panel, NDArray[np.bool_]]:
    """A draw of a family of laws as a panel with names."""
    drawn = draw_law(name, FAMILY_SEED + seed, stores)
    data, controls = drawn.data, drawn.data.controls
    names = [f"x{k}" for k in range(data.n_nodes)]
    by_role: dict[str, list[str]] = {}
    for series, role in zip(names, data.roles, strict=True):
        by_role.setdefault(role, []).append(series)
    schema: dict[str, Any] = {
        "store": "store",
        "date": "date",
        "target": names[-1],
        "channels": by_role["channel"],
        "mediators": by_role.get("mediator", []),
        "controls": [{"name": f"c{k}", "future_known": True} for k in range(controls.shape[1])],
        "freq": data.freq,
    }
    panel = Panel.from_arrays(
        data.values.reshape(stores, -1, data.n_nodes),
        schema=Schema.model_validate(schema),
        first_date=str(data.grid[0]),
        freq=data.freq,
        controls=controls if controls.shape[1] else None,
    )
    return panel, drawn.edges


if __name__ == "__main__":
    main()
