"""Table 5: does the forecast use the graph? Influence by pulses, and forecasts
under other graphs.

    python -m bench.experiments.influence --scenario paper-small published-law --seeds 0 1 2
    python -m bench.experiments.influence --quick

On stores never trained on. Influence is compared with the true graph. One-step errors of the target
are of the last 30 % of each history, from which neither graph nor coefficients were estimated.
A forecast passes when its own graph forecasts better than no graph and than a wrong one (paired
over stores, two standard errors): one that ignores its graph has equal errors under all, and fails.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bench.experiments.baselines.forecast_graphless import OneStep, lstm, var_ols
from bench.experiments.influence_methods import (
    Fitted,
    one_step_influence,
    rolled_influence,
    wrong_graphs,
)
from bench.experiments.structure import split
from bench.experiments.structure_methods import histories
from bench.lib.dot_plot import dot_plot
from bench.lib.metrics import normalised_auprc
from bench.lib.options import with_defaults
from bench.lib.record import Row, record, table
from bench.lib.scenarios import SCENARIOS, Dataset, draw
from causalmmm.model.estimator import CausalMMM

Array = NDArray[np.float64]
OURS = "causalmmm, its own graph"
CONTEXT_SHARE = 0.7  # of each history, from which graph and coefficients are estimated
VALUES = ["one_step_nauprc", "rolled_nauprc", "target_mse", "all_mse", "gain_t", "passes"]
QUICK = {"stores": 60, "seeds": [0], "settings": '{"steps": 150}', "updates": 60}


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    rows: list[Row] = []
    for scenario in options.scenario:
        scenario_rows: list[Row] = []
        for seed in options.seeds:
            dataset = draw(scenario, seed, options.stores, options.steps)
            seed_rows = measure(dataset, seed, json.loads(options.settings), options.updates)
            scenario_rows += [{"scenario": scenario, "seed": seed, **row} for row in seed_rows]
            record(options.out, f"influence-{scenario}", scenario_rows, vars(options))
        print(table(scenario_rows, ["method"], VALUES, f"\n{scenario}, held-out stores"))
        panels = [
            ("influence one step ahead, nAUPRC", lambda r: True, "one_step_nauprc"),
            ("influence rolled out, nAUPRC", lambda r: True, "rolled_nauprc"),
            ("one-step MSE of the target", lambda r: True, "target_mse"),
        ]
        title = f"Does the forecast use the graph? {scenario}, held-out stores"
        figure = dot_plot(scenario_rows, by="method", panels=panels, ours=OURS, title=title)
        figure.savefig(options.out / f"influence-{scenario}.png", dpi=120)
        rows += scenario_rows
    return rows


def measure(dataset: Dataset, seed: int, settings: dict, updates: int) -> list[Row]:
    panel = dataset.panel
    train, held_out = split(panel.n_stores, 0.2, seed)
    model = CausalMMM(**{"seed": seed, **dataset.declared, **settings})
    model.fit(panel.select(list(panel.stores[train])), progress=False)
    held_out_panel = panel.select(list(panel.stores[held_out]))
    edges, steps = dataset.edges[held_out], int(held_out_panel.lengths[0])
    context_steps = round(CONTEXT_SHARE * steps)
    fitted = Fitted(model, held_out_panel, context_steps)
    wrong = wrong_graphs(edges, seed)
    empty = np.zeros(edges.shape)
    graphs: dict[str, Array | None] = {
        OURS: None,
        "causalmmm, true graph": edges.astype(float),
        "causalmmm, wrong graph": wrong.astype(float),
        "causalmmm, no graph": empty,
        "causalmmm, full graph": np.ones(edges.shape) - np.eye(edges.shape[-1]),
    }
    errors = {name: fitted.errors(graph)[:, context_steps:] for name, graph in graphs.items()}
    rows = [
        _row(name, fitted.one_step(graph), fitted.rolled_out(graph), errors[name], edges)
        for name, graph in graphs.items()
    ]
    for influence in (fitted.one_step(empty), fitted.rolled_out(empty)):
        if influence.any():
            raise AssertionError("a sender moves a receiver although the graph is empty")
    rows[0] |= _verdict(
        errors[OURS], errors["causalmmm, no graph"], errors["causalmmm, wrong graph"]
    )

    level = np.abs(histories(panel)).mean(1, keepdims=True)
    scaled = histories(panel) / np.where(level > 0.0, level, 1.0)
    x = scaled[held_out]
    var, order = var_ols(x, context_steps)
    rows.append(_graphless("VAR, least squares", var, x, context_steps, edges) | {"lags": order})
    network = lstm(scaled[train], updates=updates, seed=seed)
    rows.append(_graphless("LSTM", network, x, context_steps, edges))
    return rows


def _graphless(
    name: str, predict: OneStep, x: Array, context_steps: int, edges: NDArray[np.bool_]
) -> Row:
    """A forecaster that has no graph to swap: its errors are the same whatever the graph."""
    errors = (x[:, 1:] - predict(x))[:, context_steps:]
    row = _row(name, one_step_influence(predict, x), rolled_influence(predict, x), errors, edges)
    return row | _verdict(errors, errors, errors)


def _row(name: str, one_step: Array, rolled: Array, errors: Array, edges: NDArray[np.bool_]) -> Row:
    return {
        "method": name,
        "one_step_nauprc": normalised_auprc(one_step, edges),
        "rolled_nauprc": normalised_auprc(rolled, edges),
        "target_mse": float((errors[..., -1] ** 2).mean()),
        "all_mse": float((errors**2).mean()),
    }


def _verdict(learned: Array, none: Array, wrong: Array) -> Row:
    """``gain_t``: the smaller of the paired t-values, over stores, of the squared error that the
    learned graph saves."""
    values = []
    for other in (none, wrong):
        saved = (other**2).mean((1, 2)) - (learned**2).mean((1, 2))
        error = saved.std(ddof=1) / np.sqrt(len(saved))
        values.append(float(saved.mean() / error) if error > 0.0 else 0.0)
    return {"gain_t": min(values), "passes": float(min(values) > 2.0)}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scenario", nargs="+", default=["paper-small"], choices=list(SCENARIOS))
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--stores", type=int, help="fewer or more than the scenario's")
    parser.add_argument("--steps", type=int, help="shorter or longer histories")
    parser.add_argument("--settings", help="parameters of CausalMMM as JSON")
    parser.add_argument("--updates", type=int, help="training steps of the LSTM (800)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="small budgets, to see that it runs")
    parser.add_argument("--out", type=Path, default=None)
    usual = {"stores": None, "seeds": [0, 1, 2, 3, 4], "settings": "{}", "updates": 800}
    return with_defaults(parser.parse_args(arguments), usual, QUICK)


if __name__ == "__main__":
    main()
