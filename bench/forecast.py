"""Forecast error of the target by rolling origin, this package's model beside the naive rows.

    python bench/forecast.py --preset airmmm --seeds 0 1 2 --out bench/results

All methods learn from the steps before the first origin only and read each later history as it
becomes known; nobody is told future spend.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from forecast_baselines import Task, linear_var, pooled_ridge, seasonal_naive, store_mean
from numpy.typing import NDArray
from record import Row, record, table
from scores import forecast_scores

from causalmmm.panel import Panel
from causalmmm.simulation import simulate

Array = NDArray[np.float64]
HORIZONS = (1, 7, 30)
LEVELS = (80, 90, 95)
BASELINES: dict[str, Callable[[Task], Array]] = {
    "seasonal naive": seasonal_naive,
    "store mean": store_mean,
    "pooled ridge, Fourier": pooled_ridge,
    "linear VAR": lambda task: linear_var(task, season=False),
    "linear VAR, Fourier": linear_var,
}


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    options = _parser().parse_args(arguments)
    rows: list[Row] = []
    for seed in options.seeds:
        panel, _ = simulate(options.preset, seed=seed, stores=options.stores)
        task = rolling_origins(panel, options.origins, options.every)
        for method, forecast in BASELINES.items():
            began = time.perf_counter()
            rows += score(task, forecast(task), seed, method, time.perf_counter() - began)
        if not options.baselines_only:
            rows += model_rows(panel, task, seed, json.loads(options.settings))
    values = ["mse", "wape", "r2_median", "r2_pooled", *(f"cover_{level}" for level in LEVELS)]
    for kind in ("at step", "steps up to"):
        chosen = [row for row in rows if row["kind"] == kind]
        print(table(chosen, ["horizon", "method"], values, f"\n{options.preset}, {kind} horizon"))
    record(options.out, f"forecast-{options.preset}", rows, vars(options))
    return rows


def rolling_origins(panel: Panel, origins: int, every: int) -> Task:
    """``origins`` forecasts, ``every`` steps apart, the last of them ending with the panel."""
    data = panel.data
    steps = int(data.lengths.min())
    if steps != int(data.lengths.max()):
        raise ValueError("rolling origins are drawn on histories of equal length")
    history = data.values.reshape(data.n_stores, steps, data.n_nodes).astype(np.float64)
    last = steps - max(HORIZONS)
    at = tuple(range(last - every * (origins - 1), last + 1, every))
    return Task(history, data.grid, at, max(HORIZONS))


def score(
    task: Task,
    forecast: Array,
    seed: int,
    method: str,
    seconds: float,
    bounds: dict[int, tuple[Array, Array]] | None = None,
) -> list[Row]:
    """Rows for forecasts [origins, S, H]: at each horizon's own step, and over all up to it."""
    rows: list[Row] = []
    for horizon in HORIZONS:
        for kind, steps in (
            ("at step", slice(horizon - 1, horizon)),
            ("steps up to", slice(0, horizon)),
        ):
            actual, predicted = (_by_store(a[..., steps]) for a in (task.actual, forecast))
            row: Row = {"seed": seed, "method": method, "horizon": horizon, "kind": kind}
            row |= forecast_scores(actual, predicted) | {"seconds": seconds}
            for level, (lower, upper) in (bounds or {}).items():
                inside = (_by_store(lower[..., steps]) <= actual) & (
                    actual <= _by_store(upper[..., steps])
                )
                row[f"cover_{level}"] = float(inside.mean())
            rows.append(row)
    return rows


def model_rows(panel: Panel, task: Task, seed: int, settings: dict[str, Any]) -> list[Row]:
    from causalmmm.estimator import CausalMMM

    began = time.perf_counter()
    model = CausalMMM(seed=seed, **settings).fit(panel.head(task.fit_steps))
    columns = ["mean", *(f"{side}_{level}" for level in LEVELS for side in ("lower", "upper"))]
    parts = []
    for origin in task.origins:
        frame = model.predict(panel.head(origin), horizon=task.horizon, level=LEVELS)
        target = frame[frame["series"] == panel.nodes[-1]]
        if list(target["store"].unique()) != list(panel.stores):
            raise RuntimeError("forecasts do not come in the panel's order of stores")
        parts.append(target[columns].to_numpy(float).reshape(panel.n_stores, task.horizon, -1))
    drawn = np.stack(parts)
    bounds = {
        level: (drawn[..., 1 + 2 * k], drawn[..., 2 + 2 * k]) for k, level in enumerate(LEVELS)
    }
    seconds = time.perf_counter() - began
    return score(task, drawn[..., 0], seed, "causalmmm", seconds, bounds)


def _by_store(values: Array) -> Array:
    """[origins, S, steps] -> [S, origins x steps]."""
    return values.swapaxes(0, 1).reshape(values.shape[1], -1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--preset", default="airmmm")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--stores", type=int, default=None, help="fewer or more than the preset's")
    parser.add_argument("--origins", type=int, default=20)
    parser.add_argument("--every", type=int, default=6, help="steps between origins")
    parser.add_argument("--settings", default="{}", help="parameters of CausalMMM as JSON")
    parser.add_argument("--baselines-only", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    return parser


if __name__ == "__main__":
    main()
