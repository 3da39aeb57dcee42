"""ROI, marginal ROI and budgets of the response regression against the simulator's truth.

    python -m bench.experiments.decisions --law weekly-mmm airmmm --seeds 0 1 2 3 4
    python -m bench.experiments.decisions --quick          # one draw, into runs/

roi_store and roi_total are medians over channels (and stores) of |estimate / truth - 1| where a
channel has 2 % of a store's media effect or more; cover is the share of true ROIs in 90 %
intervals; mroi_total likewise for the last per cent of spend, all stores as one. ridge_store is the
ROI error of a ridge regression per store (carry-over .5, square root of spend). gain_share is the
true gain of the optimised plan of 13 weeks as a share of that of the best plan under the truth
(found by the same search on the simulator itself); promised is the expected gain over the true
one, and better the probability of a gain under the draws. The current plan is each channel's mean
of the last year.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.lib.options import with_defaults
from bench.lib.record import Row, table
from bench.lib.result_log import ResultLog
from causalmmm import CausalMMM, Panel
from causalmmm.decisions.ahead import money_ahead
from causalmmm.decisions.bounds import limits_of
from causalmmm.engine.decisions.allocation import allocate
from causalmmm.simulation import Truth, simulate

Array = NDArray[np.float64]
WEEKS, TAIL, DAYS = 13, 13, 28
VALUES = [
    "roi_store",
    "ridge_store",
    "roi_total",
    "ridge_total",
    "cover",
    "mroi_total",
    "mroi_cover",
    "gain_share",
    "promised",
    "better",
    "cpu_roi",
    "cpu_budget",
]


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    options = _options(arguments)
    torch.set_num_threads(1)
    log = ResultLog(options.out, "decisions", vars(options))
    for law in options.law:
        for seed in options.seeds:
            if law == "airmmm":
                for regime in ("amortised", "regression"):
                    key = {"law": f"airmmm, {regime}", "seed": seed}
                    log.add(key, partial(measured_daily, regime, seed))
            else:
                log.add({"law": law, "seed": seed}, partial(measured, law, seed))
    print(table(log.rows, ["law"], VALUES))
    return log.rows


def measured_daily(regime: str, seed: int) -> list[Row]:
    panel, truth = simulate("airmmm", seed=seed, steps=670 + DAYS)
    train, _ = panel.split(DAYS)
    true = TrueReturns(train, truth, DAYS, DAYS)
    stores, channels = true.roi.shape
    began = time.process_time()
    model = CausalMMM(seed=0, regime=regime).fit(train, progress=False)
    row: Row = {"cpu_fit": time.process_time() - began}
    began = time.process_time()
    if regime == "regression":
        table = model.roi()
        table = table[table["channel"] != "all channels"]
        roi, lower, upper = (
            table[name].to_numpy(float).reshape(stores, channels)
            for name in ("roi", "roi_lower", "roi_upper")
        )
        row["cover"] = within(true.roi, lower, upper)
    else:
        sums = model.decompose().groupby(["store", "component"])["value"].sum()
        cells = pd.MultiIndex.from_product([train.stores.tolist(), train.nodes[:channels]])
        roi = sums.loc[cells].to_numpy(float).reshape(stores, channels) / true.spend
    row["cpu_roi"] = time.process_time() - began
    matters = true.lost > 0.02 * true.lost.sum(1, keepdims=True)
    ridge = ridge_roi(train, true)
    for name, found in (("roi_store", roi), ("ridge_store", ridge)):
        row[name] = np.median(np.abs(found / true.roi - 1)[matters])
    heavy = true.lost.sum(0) > 0.02 * true.lost.sum()
    for name, found in (("roi_total", roi), ("ridge_total", ridge)):
        whole = (found * true.spend).sum(0) / true.lost.sum(0)
        row[name] = np.median(np.abs(whole - 1)[heavy])
    return [row]


def measured(law: str, seed: int) -> list[Row]:
    steps = {"weekly-national": 104}.get(law, 156)
    panel, truth = simulate(law, seed=seed, steps=steps + WEEKS + TAIL)
    train, _ = panel.split(WEEKS + TAIL)
    model = CausalMMM(seed=0).fit(train, progress=False)
    began = time.process_time()
    by_store, total = model.roi(by="store"), model.roi(by="total")
    asked = time.process_time()
    true = TrueReturns(train, truth)
    row: Row = {"cpu_roi": asked - began}
    stores, channels = true.roi.shape
    estimate = by_store[by_store["channel"] != "all channels"]
    shaped = {
        name: estimate[name].to_numpy(float).reshape(stores, channels)
        for name in ("roi", "roi_lower", "roi_upper", "mroi_lower", "mroi_upper")
    }
    matters = true.lost > 0.02 * true.lost.sum(1, keepdims=True)
    row["roi_store"] = np.median(np.abs(shaped["roi"] / true.roi - 1)[matters])
    row["ridge_store"] = np.median(np.abs(ridge_roi(train, true) / true.roi - 1)[matters])
    row["cover"] = within(true.roi, shaped["roi_lower"], shaped["roi_upper"])
    row["mroi_cover"] = within(true.mroi, shaped["mroi_lower"], shaped["mroi_upper"])
    spend = true.spend.sum(0)
    heavy = true.lost.sum(0) > 0.02 * true.lost.sum()
    for name, each in (("roi", true.roi), ("mroi", true.mroi)):
        truth_total = (each * true.spend).sum(0) / spend
        error = np.abs(total[name].to_numpy(float)[:channels] / truth_total - 1)
        row[f"{name}_total"] = np.median(error[heavy])
    began = time.process_time()
    found = model.optimize(WEEKS)
    row["cpu_budget"] = time.process_time() - began
    row["better"] = found.gain["better"]
    row |= true.gains(found.allocation["spend"].to_numpy(float), found.gain["mean"])
    return [row]


class TrueReturns:
    """What spend really brought in the training weeks, and what plans after them would bring."""

    def __init__(self, train: Panel, truth: Truth, ahead: int = WEEKS + TAIL, tail: int = TAIL):
        self.train, self.truth = train, truth
        self.stores = train.n_stores
        self.steps = int(train.lengths[0])
        spend = train.spend.reshape(self.stores, self.steps, -1).astype(float)
        recent = spend[:, -4 * tail :].mean(1, keepdims=True)
        self.after = np.repeat(recent, ahead, 1)
        self.past, self.spend = spend, spend.sum(1)
        base = self.target(spend, self.after)
        channels = spend.shape[2]
        self.lost = np.empty((self.stores, channels))
        more = np.empty_like(self.lost)
        counted = self.steps + tail
        for c in range(channels):
            for out, factor in ((self.lost, 0.0), (more, 1.01)):
                changed = spend.copy()
                changed[..., c] *= factor
                delta = self.target(changed, self.after) - base
                out[:, c] = delta[:, :counted].sum(1)
        self.lost = -self.lost
        self.roi, self.mroi = self.lost / self.spend, more / (0.01 * self.spend)

    def target(self, past: Array, after: Array) -> Array:
        """[K S, T]: true target under spend of the history and after it, for K plans."""
        names = self.train.stores.tolist() * (len(past) // self.stores)
        spend = np.concatenate([past, after], 1)
        return self.truth.history_under(spend, names, induced=False)[..., -1]

    def gains(self, money: Array, promised: float) -> Row:
        """True gain of the plan ``money`` (store, week, channel after another) and of the best."""
        channels = self.spend.shape[1]
        ahead = money_ahead(self.train, None, WEEKS, None)
        current = torch.from_numpy(ahead.money).transpose(1, 2)
        plan = torch.tensor(money.reshape(self.stores, WEEKS, channels)).transpose(1, 2)
        limits = limits_of(self.train, ahead, []).limits
        typical = current.mean(2, keepdim=True).clamp_min(1e-3 * float(current.mean()))
        reference = float(_True.apply(current, self))
        outcome = partial(_true_outcome, self)
        best = max(allocate(outcome, limits, begin, typical).value for begin in (current, plan))
        gain, most = float(_True.apply(plan, self)) - reference, best - reference
        return {"gain_share": gain / most, "promised": promised / gain, "true_gain": gain}


def _true_outcome(true: TrueReturns, money: Tensor) -> Tensor:
    value: Tensor = _True.apply(money, true)
    return value


class _True(torch.autograd.Function):
    """Outcome of money [S, C, W] under the simulator, and its gradient by finite differences."""

    @staticmethod
    def forward(ctx: Any, money: Tensor, true: TrueReturns) -> Tensor:
        ctx.save_for_backward(money)
        ctx.true = true
        return torch.tensor(_plan_outcome(true, money.numpy()).sum(), dtype=torch.float64)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        (money,), true = ctx.saved_tensors, ctx.true
        stores, channels, weeks = money.shape
        step = 1e-3 * money.mean((0, 2)).clamp_min(1e-6)  # [C]
        moved = money.expand(1 + channels * weeks, -1, -1, -1).clone()
        cells = [(c, w) for c in range(channels) for w in range(weeks)]
        for k, (c, w) in enumerate(cells, 1):
            moved[k, :, c, w] += step[c]
        outcome = torch.from_numpy(_plan_outcome(true, moved.flatten(0, 1).numpy()))
        gained = outcome.view(len(moved), stores)
        gradient = ((gained[1:] - gained[0]).T.view(stores, channels, weeks)) / step.view(1, -1, 1)
        return gradient * upstream[0], None


def _plan_outcome(true: TrueReturns, money: Array) -> Array:
    """[K S]: target summed over the planned weeks and the tail, for K plans [K S, C, W]."""
    copies = len(money) // true.stores
    after = np.tile(true.after, (copies, 1, 1))
    after[:, :WEEKS] = money.transpose(0, 2, 1)
    past = np.tile(true.past, (copies, 1, 1))
    return np.asarray(true.target(past, after)[:, true.steps :].sum(1))


def ridge_roi(train: Panel, true: TrueReturns) -> Array:
    """[S, C]: ROI of a ridge regression per store: square root of spend with carry-over .5,
    intercept, trend, two harmonics of the year, days of the week, controls."""
    steps, out = true.steps, np.empty_like(true.roi)
    step, year = np.arange(steps), 365.25 if train.freq == "D" else 52.18
    calendar = [np.ones(steps), step / steps]
    calendar += [f(2 * np.pi * k * step / year) for k in (1, 2) for f in (np.sin, np.cos)]
    if train.freq == "D":
        calendar += [(step % 7 == day).astype(float) for day in range(6)]
    controls = train.data.controls.reshape(true.stores, steps, -1)
    target = train.data.values[:, -1].reshape(true.stores, steps).astype(float)
    for s in range(true.stores):
        stock = np.sqrt(true.past[s])
        for t in range(1, steps):
            stock[t] = 0.5 * stock[t - 1] + 0.5 * stock[t]
        size = stock.mean(0)
        design = np.column_stack([stock / size, *calendar, controls[s]])
        penalty = np.diag([1.0] * len(size) + [1e-3] * (design.shape[1] - len(size)))
        weight = np.linalg.solve(design.T @ design + penalty, design.T @ target[s])
        out[s] = weight[: len(size)] * (stock / size).sum(0) / true.spend[s]
    return out


def within(value: Array, lower: Array, upper: Array) -> float:
    return float(((lower <= value) & (value <= upper)).mean())


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    laws = ["weekly-mmm", "weekly-national", "weekly-foreign", "airmmm"]
    parser.add_argument("--law", nargs="+", default=["weekly-mmm"], choices=laws)
    parser.add_argument("--seeds", type=int, nargs="+", default=None, help="0 to 4 by default")
    parser.add_argument("--quick", action="store_true", help="small, into runs/ unless --out")
    parser.add_argument("--again", action="store_true", help="measure what is there already too")
    parser.add_argument("--out", type=Path)
    return with_defaults(parser.parse_args(arguments), {"seeds": [0, 1, 2, 3, 4]}, {"seeds": [0]})


if __name__ == "__main__":
    main()
