"""Weekly panels: contributions, forecasts and intervals of the response regression.

    python -m bench.experiments.weekly --law weekly national --seeds 0 1 2 3 4
    python -m bench.experiments.weekly --quick         # two draws, into runs/

error_pooled is the sum over channels of |estimated - true| contribution, a share of the true media
contribution; error_apart the median over stores and channels of its relative size; large_error its
median over channels above 5 % of sales. wmape is of 13 hidden weeks with spend and controls known;
oracle that of a ridge regression of the same calendar told all media contributions. cover_* are
shares of truths in 90 % intervals.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bench.experiments.weekly_panels import HOLDOUT, LAWS, YEAR, WeeklyPanel, draw_panel
from bench.lib.options import with_defaults
from bench.lib.record import Row, table
from bench.lib.result_log import ResultLog
from causalmmm.engine.regression import (
    Ahead,
    Observed,
    RegressionConfig,
    contributions,
    fit,
    layout,
    observe,
    simulate,
    store_posterior,
)

Array = NDArray[np.float64]
VALUES = [
    "error_pooled",
    "error_apart",
    "large_error",
    "error_total",
    "cover_parts",
    "cover_total",
    "wmape",
    "oracle",
    "ratio",
    "cover_future",
    "cpu_target",
    "cpu_fit",
    "cpu_answers",
]
GROUPS = ("intercept", "trend", *["yearly"] * 6, *["control"] * 2)


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    options = _options(arguments)
    torch.set_num_threads(1)
    log = ResultLog(options.out, "weekly", vars(options))
    for name in options.law:
        for seed in options.seeds:
            panel = draw_panel(LAWS[name], seed)
            key: Row = {"law": name, "seed": seed, "draws": options.draws}
            config = RegressionConfig(draws=options.draws, seed=seed)
            log.add(key, partial(measured, panel, config))
    print(table(log.rows, ["law"], VALUES))
    return log.rows


def calendar(panel: WeeklyPanel, train: int) -> Array:
    """[S, T, Q]: intercept, trend in years with zero at the last week seen, three harmonics of the
    year, controls."""
    stores, _, weeks = panel.series.shape
    t = np.arange(weeks)
    columns = [np.ones(weeks), (t - train + 1) / YEAR]
    columns += [f(2 * np.pi * k * t / YEAR) for k in (1, 2, 3) for f in (np.sin, np.cos)]
    fixed = np.broadcast_to(np.stack(columns, 1), (stores, weeks, len(columns)))
    return np.concatenate([fixed, panel.controls.transpose(0, 2, 1)], 2)


def split(panel: WeeklyPanel, holdout: int = HOLDOUT) -> tuple[Observed, Ahead]:
    """History, and what is known ahead: all but the target and mediators."""
    train = panel.series.shape[2] - holdout
    scale = np.abs(panel.series[..., :train]).mean(-1)
    x = torch.from_numpy(panel.series / np.where(scale > 0, scale, 1)[..., None])
    basis = torch.from_numpy(calendar(panel, train))
    stores = len(x)
    observed = observe(
        x[..., :train],
        basis[:, :train],
        torch.ones(stores, train, dtype=torch.bool),
        torch.from_numpy(scale),
        torch.arange(stores),
        None,
    )
    given = x[..., train:].clone()
    given[:, [role in ("mediator", "target") for role in panel.roles]] = torch.nan
    return observed, Ahead(
        basis[:, train:],
        torch.zeros(stores, holdout, 2),
        given,
        torch.ones(stores, len(panel.roles), dtype=torch.bool),
    )


def measured(panel: WeeklyPanel, config: RegressionConfig) -> list[Row]:
    """One row: accuracy, coverage and CPU seconds on one panel."""
    observed, ahead = split(panel)
    target = len(panel.roles) - 1
    needed = [target, *[j for j, role in enumerate(panel.roles) if role == "mediator"]]
    plan = layout(panel.roles, config.edge_prior, config.other_prior)
    began = time.process_time()
    fit(observed, plan, GROUPS, config, [target])
    first = time.process_time()
    regression = fit(observed, plan, GROUPS, config)
    whole = time.process_time()
    stores = store_posterior(regression, observed, receivers=needed, seed=config.seed)
    parts = contributions(stores)
    future = simulate(stores, ahead, config.seed)[:, :, -1]
    done = time.process_time()
    unit = observed.scale[:, -1:].numpy()
    channels, train = panel.direct.shape[1], observed.x.shape[-1]
    direct = panel.direct[..., :train].sum(-1)
    total = panel.total[..., :train].sum(-1)
    drawn = parts.sums[..., :channels].numpy() * unit
    drawn_total = parts.total_sums[..., :channels].numpy() * unit
    truth = panel.series[:, -1, train:]
    ends = future.numpy() * unit
    sales = panel.series[:, -1, :train].sum(-1, keepdims=True)
    wmape = np.abs(ends.mean(0) - truth).sum() / truth.sum()
    oracle = oracle_wmape(panel, train)
    apart = np.abs(drawn.mean(0) / direct - 1)
    receiver = regression.receivers[target]
    return [
        {
            "error_pooled": np.abs((drawn.mean(0) - direct).sum(0)).sum() / direct.sum(),
            "error_apart": np.median(apart),
            "large_error": np.median(apart[direct > 0.05 * sales]),
            "error_total": np.median(np.abs(drawn_total.mean(0) / total - 1)),
            "cover_parts": covered(drawn, direct),
            "cover_total": covered(drawn_total, total),
            "wmape": wmape,
            "oracle": oracle,
            "ratio": wmape / oracle,
            "cover_future": covered(ends, truth),
            "cpu_target": first - began,
            "cpu_fit": whole - first,
            "cpu_answers": done - whole,
            "shared_scale": receiver.shared_scale,
            "rho": receiver.rho,
            "own_lag": receiver.own_lag,
            "shifts": int((stores.known[target].shifts.scale > 0).sum()),
            "media_share": direct.sum() / sales.sum(),
        }
    ]


def covered(draws: Array, truth: Array, share: float = 0.9) -> float:
    """Share of truths inside the central interval of draws [D, ...]."""
    low, high = np.quantile(draws, [(1 - share) / 2, (1 + share) / 2], 0)
    return float(np.mean((low <= truth) & (truth <= high)))


def oracle_wmape(panel: WeeklyPanel, train: int) -> float:
    """Error on the hidden weeks of a ridge regression per store that knows what media added."""
    y = panel.series[:, -1] - panel.total.sum(1)
    basis, error = calendar(panel, train), 0.0
    for s, rows in enumerate(basis):
        penalty = 0.1 * np.eye(rows.shape[1])
        penalty[0, 0] = 0
        gram = rows[:train].T @ rows[:train] + penalty
        weight = np.linalg.solve(gram, rows[:train].T @ y[s, :train])
        error += np.abs(rows[train:] @ weight - y[s, train:]).sum()
    return float(error / panel.series[:, -1, train:].sum())


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--law", nargs="+", default=list(LAWS), choices=list(LAWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=None, help="0 to 4 by default")
    parser.add_argument("--draws", type=int, default=200, help="posterior draws")
    parser.add_argument("--quick", action="store_true", help="small, into runs/ unless --out")
    parser.add_argument("--again", action="store_true", help="measure what is there already too")
    parser.add_argument("--out", type=Path)
    usual, quick = {"seeds": [0, 1, 2, 3, 4]}, {"seeds": [0, 1]}
    return with_defaults(parser.parse_args(arguments), usual, quick)


if __name__ == "__main__":
    main()
