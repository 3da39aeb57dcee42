"""Table 3: what each part of the model is worth, for the graph and for the forecast.

    python -m bench.experiments.ablations --scenario paper-small airmmm --seeds 0 1 2 3 4
    python -m bench.experiments.ablations --quick      # few stores and epochs, into runs/

Graphs are those of a fifth of the stores, which training never saw. Forecasts are of the target by
rolling origin, from a second fit on the steps before the first origin. The paper's raw-window
encoder is the encoder without lag features, one row for both; there is no BatchNorm to take out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.experiments.forecast import model_forecast
from bench.experiments.forecast_task import HORIZONS, Task, forecast_rows, rolling_origins
from bench.lib.datasets import draw_dataset
from bench.lib.dot_plot import dot_plot
from bench.lib.metrics import edge_metrics
from bench.lib.options import with_defaults
from bench.lib.record import Row, table
from bench.lib.result_log import ResultLog
from causalmmm.data.panel import Panel
from causalmmm.model.estimator import CausalMMM

WHOLE, NO_CONTEXT = "whole model", "no context"
ABLATIONS: dict[str, dict[str, Any]] = {
    WHOLE: {},
    "every edge present": {"structure": "full"},
    "no edge present": {"structure": "empty"},
    "no carry-over": {"carryover": False},
    "no saturation": {"saturation": False},
    NO_CONTEXT: {},  # of the panel: its columns are dropped
    "no lag features (raw window)": {"lags": 0},
    "same-window objective": {"same_window": True},
    "no store effects": {"store_effects": False},
}
STRUCTURE = ["heterogeneous_auroc", "auroc", "auprc"]
QUICK = {"stores": 40, "seeds": [0], "origins": 3, "settings": '{"epochs": 40}'}


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    rows: list[Row] = []
    for scenario in options.scenario:
        rows += measure(scenario, options)
    return rows


def measure(scenario: str, options: argparse.Namespace) -> list[Row]:
    """One row per ablation and seed on one scenario, those of earlier runs included."""
    log = ResultLog(options.out, f"ablations-{scenario}", vars(options))
    for seed in options.seeds:
        panel, truth, declared = draw_dataset(scenario, seed, options.stores)
        if truth is None:
            raise ValueError(f"{scenario} has no truth in the simulator's terms")
        for name in options.ablations:
            settings = {"seed": seed, **declared, **json.loads(options.settings), **ABLATIONS[name]}
            used = without_context(panel) if name == NO_CONTEXT else panel
            key: Row = {"scenario": scenario, "seed": seed, "stores": panel.n_stores}
            key |= {"origins": options.origins, "every": options.every}
            key |= {"settings": options.settings, "ablation": name}
            task = rolling_origins(used, options.origins, options.every, seed=seed)
            log.add(key, partial(ablated, used, truth.edges, task, settings))
    rows = log.rows
    errors_at = [f"mse_{h}" for h in HORIZONS]
    print(table(rows, ["ablation"], [*STRUCTURE, *errors_at, "seconds"], f"\n{scenario}"))
    figure = dot_plot(
        rows,
        by="ablation",
        panels=[
            ("heterogeneous-edge AUROC", lambda row: True, STRUCTURE[0]),
            *((f"MSE of the target at step {h}", lambda row: True, f"mse_{h}") for h in HORIZONS),
        ],
        ours=WHOLE,
        title=f"What each part is worth, {scenario} (mean and standard deviation over seeds)",
    )
    figure.savefig(options.out / f"ablations-{scenario}.png", dpi=120)
    return rows


def ablated(
    panel: Panel, edges: NDArray[np.bool_], task: Task, settings: dict[str, Any]
) -> list[Row]:
    """One row: metrics of held-out graphs, and errors of forecasts at each horizon."""
    row: Row = held_out_structure(panel, edges, task.seed, settings)
    for errors in forecast_rows(task, model_forecast(panel, task, settings)):
        if errors["kind"] == "at step":
            row[f"mse_{errors['horizon']}"] = errors["mse"]
    return [row]


def held_out_structure(
    panel: Panel, edges: NDArray[np.bool_], seed: int, settings: dict[str, Any]
) -> dict[str, float]:
    """Metrics of the graphs of a fifth of the stores, on which the model was not trained."""
    order = np.random.default_rng([seed, 5]).permutation(panel.n_stores)
    held = np.sort(order[: max(1, panel.n_stores // 5)])
    train = np.sort(order[len(held) :])
    model = CausalMMM(**settings).fit(panel.select(panel.stores[train]), progress=False)
    return graph_metrics(model, panel.select(panel.stores[held]), edges[held])


def graph_metrics(model: CausalMMM, panel: Panel, edges: NDArray[np.bool_]) -> dict[str, float]:
    """Metrics of the graphs a fitted model infers for a panel, against edges [S, N, N]."""
    frame = model.graphs(panel)
    if list(frame["store"].unique()) != list(panel.stores):
        raise RuntimeError("graphs do not come in the panel's order of stores")
    probability = np.zeros(edges.shape)
    pairs = ~np.eye(edges.shape[-1], dtype=bool)
    probability[:, pairs] = frame["probability"].to_numpy().reshape(len(edges), -1)
    metrics = edge_metrics(probability, edges)
    return {name: metrics[name] for name in STRUCTURE}


def without_context(panel: Panel) -> Panel:
    frame = panel.to_frame().drop(columns=list(panel.context_names))
    return Panel.from_frame(frame, panel.schema.model_copy(update={"context": []}))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scenario", nargs="+", default=["paper-small", "airmmm"])
    parser.add_argument("--seeds", type=int, nargs="+", default=None, help="0 1 2 3 4 by default")
    parser.add_argument("--ablations", nargs="+", choices=list(ABLATIONS), metavar="ABLATION")
    parser.add_argument("--stores", type=int, help="fewer or more than the scenario's")
    parser.add_argument("--origins", type=int, default=None, help="20 by default")
    parser.add_argument("--every", type=int, default=6, help="steps between origins, at most")
    parser.add_argument("--settings", default=None, help="parameters of CausalMMM as JSON")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="small, into runs/ unless --out")
    parser.add_argument("--again", action="store_true", help="measure rows again that are there")
    parser.add_argument("--out", type=Path)
    usual: dict[str, Any] = {"seeds": [0, 1, 2, 3, 4], "origins": 20, "settings": "{}"}
    options = with_defaults(parser.parse_args(arguments), usual, QUICK)
    options.ablations = options.ablations or list(ABLATIONS)
    return options


if __name__ == "__main__":
    main()
