"""Table 2: forecast error of the target by rolling origin, at horizons 1, 7 and 30.

    python -m bench.experiments.forecast --scenario airmmm --seeds 0 1 2 3 4
    python -m bench.experiments.forecast --quick       # a few stores and origins, into runs/

All methods learn from the steps before the first origin only and read each later history as it
becomes known; future spend is unknown to all. Every scenario has a CSV, a JSON and a figure; rows
that the CSV holds already are not measured again, unless ``--again``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.experiments.baselines.forecast_btvc import btvc
from bench.experiments.baselines.forecast_linear import (
    linear_var,
    pooled_ridge,
    seasonal_naive,
    store_mean,
)
from bench.experiments.baselines.forecast_neural import lstm, wide_deep
from bench.experiments.forecast_task import (
    HORIZONS,
    LEVELS,
    Forecast,
    Task,
    forecast_rows,
    rolling_origins,
)
from bench.lib.datasets import draw_dataset
from bench.lib.dot_plot import dot_plot
from bench.lib.options import with_defaults
from bench.lib.record import Row, table
from bench.lib.result_log import ResultLog
from causalmmm.data.panel import Panel

BASELINES: dict[str, Callable[[Task], Forecast]] = {
    "seasonal naive": seasonal_naive,
    "store mean": store_mean,
    "pooled ridge, Fourier": pooled_ridge,
    "linear VAR": lambda task: linear_var(task, season=False),
    "linear VAR, Fourier": linear_var,
    "LSTM": lstm,
    "Wide & Deep": wide_deep,
    "BTVC": btvc,
}
OURS = "causalmmm"
VALUES = ["mse", "mae", "wape", "crps", "r2_median", *(f"cover_{level}" for level in LEVELS)]
QUICK = {"stores": 8, "seeds": [0], "origins": 4}


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    rows: list[Row] = []
    for scenario in options.scenario:
        rows += measure(scenario, options)
    return rows


def measure(scenario: str, options: argparse.Namespace) -> list[Row]:
    """Rows of all methods and seeds on one scenario, those of earlier runs included."""
    log = ResultLog(options.out, f"forecast-{scenario}", vars(options))
    settings = json.loads(options.settings)
    for seed in options.seeds:
        panel, _, declared = draw_dataset(scenario, seed, options.stores, options.steps)
        task = rolling_origins(
            panel, options.origins, options.every, seed=seed, quick=options.quick
        )
        for method in options.methods:
            key = {"scenario": scenario, "seed": seed, "stores": panel.n_stores}
            key |= {"origins": len(task.origins), "every": options.every, "method": method}
            if method == OURS:
                key["settings"] = options.settings
            log.add(key, partial(method_rows, method, panel, task, declared | settings))
    rows = log.rows
    for kind in ("at step", "steps up to"):
        chosen = [row for row in rows if row["kind"] == kind]
        print(table(chosen, ["horizon", "method"], VALUES, f"\n{scenario}, {kind} horizon"))
    figure = dot_plot(
        [row for row in rows if row["kind"] == "at step"],
        by="method",
        panels=[(f"MSE at step {h}", lambda r, h=h: r["horizon"] == h, "mse") for h in HORIZONS],
        ours=OURS,
        title=f"Error of target forecasts, {scenario} (mean and standard deviation over seeds)",
    )
    figure.savefig(options.out / f"forecast-{scenario}.png", dpi=120)
    return rows


def method_rows(method: str, panel: Panel, task: Task, settings: dict[str, Any]) -> list[Row]:
    if method == OURS:
        return forecast_rows(task, model_forecast(panel, task, settings))
    return forecast_rows(task, BASELINES[method](task))


def model_forecast(panel: Panel, task: Task, settings: dict[str, Any]) -> Forecast:
    """This package's model through its public interface."""
    from causalmmm.model.estimator import CausalMMM

    quick = {"epochs": 20} if task.quick else {}
    model = CausalMMM(**{"seed": task.seed, **quick, **settings})
    model.fit(panel.head(task.fit_steps), progress=False)
    levels = list(range(5, 100, 5))
    lower, upper = ([f"{side}_{level}" for level in levels] for side in ("lower", "upper"))
    origins = []
    for origin in task.origins:
        frame = model.predict(panel.head(origin), horizon=task.horizon, level=levels)
        target = frame[frame["series"] == panel.nodes[-1]]
        if list(target["store"].unique()) != list(panel.stores):
            raise RuntimeError("forecasts do not come in the panel's order of stores")
        columns = target[["mean", *reversed(lower), *upper]].to_numpy(float)
        origins.append(columns.reshape(panel.n_stores, task.horizon, -1))
    statistics = np.stack(origins)
    below, above = statistics[..., 1 : 1 + len(levels)], statistics[..., 1 + len(levels) :]
    median = (below[..., -1:] + above[..., :1]) / 2  # no level asks for the median itself
    return Forecast(statistics[..., 0], np.concatenate([below, median, above], axis=-1))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scenario", "--preset", nargs="+", default=["airmmm"])
    parser.add_argument("--seeds", type=int, nargs="+", default=None, help="0 1 2 3 4 by default")
    parser.add_argument("--methods", nargs="+", choices=[*BASELINES, OURS], metavar="METHOD")
    parser.add_argument("--stores", type=int, help="fewer or more than the scenario's")
    parser.add_argument("--steps", type=int, help="shorter or longer than the scenario's")
    parser.add_argument("--origins", type=int, default=None, help="20 by default")
    parser.add_argument("--every", type=int, default=6, help="steps between origins, at most")
    parser.add_argument("--settings", default="{}", help="parameters of CausalMMM as JSON")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="small, into runs/ unless --out")
    parser.add_argument("--again", action="store_true", help="measure rows again that are there")
    parser.add_argument("--out", type=Path)
    usual: dict[str, Any] = {"seeds": [0, 1, 2, 3, 4], "origins": 20}
    options = with_defaults(parser.parse_args(arguments), usual, QUICK)
    options.methods = options.methods or [*BASELINES, OURS]
    return options


if __name__ == "__main__":
    main()
