"""Table 6: sizes of effects and response curves against the truth, and coverage of their intervals.

    python -m bench.experiments.effects --scenario paper-small airmmm --seeds 0 1
    python -m bench.experiments.effects --quick        # a few stores and epochs, into runs/

What the sender of a true edge adds to its receiver per step, on average over the window and in the
long run. The model is judged on the edges that it finds. Beside it, on all edges: an autoregressive
distributed lag regression of each receiver on the last seven steps of itself and of its true
senders (statsmodels; intervals by the delta method), which is given the true graph. It is linear,
so its effect is slope times mean. Curves are those of channels that drive the target, at half, one
and two times the usual spend.

median_ratio is of learned to true; log_error the median size of its logarithm (a learned effect of
the wrong sign counts as a hundredth); cover_90 the share of true values inside 90 % intervals, and
width the median ratio of their ends.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import statsmodels.api as sm
import torch
from numpy.typing import NDArray

from bench.lib.datasets import draw_dataset
from bench.lib.options import with_defaults
from bench.lib.record import Row, table
from bench.lib.result_log import ResultLog
from causalmmm.data.panel import Panel
from causalmmm.model.estimator import CausalMMM
from causalmmm.simulation import Truth
from causalmmm.simulation.process import hill

Array = NDArray[np.float64]
OURS, ARDL = "causalmmm", "ARDL, graph known"
FACTORS = (0.5, 1.0, 2.0)
LAGS = 7
VALUES = ["edges", "median_ratio", "log_error", "cover_90", "width", "seconds"]
QUICK = {"stores": 20, "seeds": [0], "settings": '{"epochs": 40}'}


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    log = ResultLog(options.out, "effects", vars(options))
    for scenario in options.scenario:
        for seed in options.seeds:
            panel, truth, declared = draw_dataset(scenario, seed, options.stores)
            if truth is None:
                raise ValueError(f"{scenario} has no truth in the simulator's terms")
            key: Row = {"scenario": scenario, "seed": seed, "stores": panel.n_stores}
            settings = {"seed": seed, **declared, **json.loads(options.settings)}
            ours = {"method": OURS, "settings": options.settings}
            log.add(key | ours, partial(learned_rows, panel, truth, settings))
            log.add(key | {"method": ARDL}, partial(ardl_rows, panel, truth))
    print(table(log.rows, ["scenario", "of", "method"], VALUES))
    return log.rows


def learned_rows(panel: Panel, truth: Truth, settings: dict[str, Any]) -> list[Row]:
    """Rows of the model's effects on the target and on all series, and of its curves."""
    model = CausalMMM(**settings).fit(panel, progress=False)
    frame = model.graphs(panel)
    pairs = ~np.eye(len(panel.nodes), dtype=bool)

    def matrix(column: str) -> Array:
        values = np.zeros(truth.edges.shape)
        values[:, pairs] = frame[column].to_numpy(float).reshape(len(values), -1)
        return values

    learned_edges = truth.edges & (matrix("probability") >= 0.5)
    learned = [matrix(column) for column in ("effect", "lower", "upper")]
    rows = _effect_rows(learned_edges, learned, true_effects(truth))
    return [*rows, curve_row(model, panel, truth, learned_edges[:, : len(truth.channels), -1])]


def true_effects(truth: Truth) -> Array:
    """[S, N, N]: what every sender adds to every receiver per step, on average, in the long run."""
    mean = truth.responses().mean(1)[:, :, None] * truth.effects
    return mean * truth.levels[:, None] / (1 - truth.own_memory)


def true_curve(truth: Truth, store: int, channel: int, amount: Array) -> Array:
    """What constant amounts [K] on a channel add to the target per step, directly, in the long
    run."""
    levels, at = truth.levels[store], (store, channel)
    shape = hill(amount / levels[channel], truth.slope[at], truth.half_saturation[at])
    return shape * truth.effects[store, channel, -1] * levels[-1] / (1 - truth.own_memory[-1])


def curve_row(model: CausalMMM, panel: Panel, truth: Truth, drives: NDArray[np.bool_]) -> Row:
    """Curves of channels where they drive the target, bool [S, C], around the usual spend."""
    spend = panel.data.values.reshape(panel.n_stores, -1, len(panel.nodes)).mean(1)
    parts = []
    for i, channel in enumerate(truth.channels):
        frame = model.response_curves(channel, panel=panel, points=200)
        curves = dict(list(frame.groupby("store")))
        for s in np.flatnonzero(drives[:, i]):
            curve = curves[panel.stores[s]]
            at = np.array(FACTORS) * spend[s, i]
            learned = [
                np.interp(at, curve["amount"], curve[column])
                for column in ("effect", "lower", "upper")
            ]
            parts.append([*learned, true_curve(truth, s, i, at)])
    *learned, true = np.stack(parts).transpose(1, 0, 2)
    return {"of": "curves", **agreement(learned, true)}


def ardl_rows(panel: Panel, truth: Truth) -> list[Row]:
    """Rows of the regression's effects, for all true edges."""
    history = panel.data.values.reshape(panel.n_stores, -1, len(panel.nodes)).astype(float)
    learned = [np.zeros(truth.edges.shape) for _ in range(3)]
    for store, receiver in zip(*np.nonzero(truth.edges.any(1)), strict=True):
        senders = np.flatnonzero(truth.edges[store, :, receiver])
        estimates = ardl(history[store], senders, receiver)  # effects, lower and upper ends
        for values, estimate in zip(learned, estimates, strict=True):
            values[store, senders, receiver] = estimate
    return _effect_rows(truth.edges, learned, true_effects(truth))


def ardl(series: Array, senders: NDArray[np.int64], receiver: int) -> tuple[Array, Array, Array]:
    """Long-run effects of senders at their means, with 90 % intervals, from series [T, N]."""
    steps = len(series)
    columns = [receiver, *senders]
    lagged = [series[LAGS - k : steps - k, j] for j in columns for k in range(1, LAGS + 1)]
    week = np.eye(7)[np.arange(LAGS, steps) % 7, 1:]
    trend = np.linspace(-1, 1, steps - LAGS)
    design = np.column_stack([*lagged, np.ones(steps - LAGS), trend, week])
    fit = sm.OLS(series[LAGS:, receiver], design).fit()
    level = series[:, senders].mean(0)
    total = fit.params[LAGS : LAGS * len(columns)].reshape(-1, LAGS).sum(1)
    left = 1 - fit.params[:LAGS].sum()
    gradient = np.zeros((len(senders), design.shape[1]))
    gradient[:, :LAGS] = (total / left**2)[:, None]
    for k in range(len(senders)):
        gradient[k, LAGS * (k + 1) : LAGS * (k + 2)] = 1 / left
    sd = np.sqrt(np.einsum("kp,pq,kq->k", gradient, fit.cov_params(), gradient))
    effect, reach = total / left * level, 1.645 * sd * level
    return effect, effect - reach, effect + reach


def agreement(learned: Sequence[Array], true: Array) -> Row:
    """How learned values with lower and upper ends agree with true ones, which are positive."""
    value, lower, upper = learned
    ratio = value / true
    return {
        "edges": len(true),
        "median_ratio": float(np.median(ratio)),
        "log_error": float(np.median(np.abs(np.log(np.maximum(ratio, 0.01))))),
        "cover_90": float(np.mean((lower <= true) & (true <= upper))),
        "width": float(np.median(np.maximum(upper, 0) / np.maximum(lower, 1e-3 * true))),
    }


def _effect_rows(edges: NDArray[np.bool_], learned: Sequence[Array], true: Array) -> list[Row]:
    on_target = edges & (np.arange(edges.shape[-1]) == edges.shape[-1] - 1)
    return [
        {"of": name, **agreement([values[which] for values in learned], true[which])}
        for name, which in (("effects on the target", on_target), ("all effects", edges))
    ]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scenario", nargs="+", default=["paper-small", "airmmm"])
    parser.add_argument("--seeds", type=int, nargs="+", default=None, help="0 1 by default")
    parser.add_argument("--stores", type=int, help="fewer or more than the scenario's")
    parser.add_argument("--settings", default=None, help="parameters of CausalMMM as JSON")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="small, into runs/ unless --out")
    parser.add_argument("--again", action="store_true", help="measure rows again that are there")
    parser.add_argument("--out", type=Path)
    return with_defaults(parser.parse_args(arguments), {"seeds": [0, 1], "settings": "{}"}, QUICK)


if __name__ == "__main__":
    main()
