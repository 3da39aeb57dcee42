"""Limits on sums of cells against scipy: nearest points, ranges, prices, and what contradicts."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, linprog, minimize

from causalmmm.engine.decisions import Limits, StoreSums, Sums, allocate, prices

S, C, W = 3, 3, 2
Array = NDArray[np.float64]


def limits(seed: int) -> Limits:
    """Overlapping bounds on sums, some of them equalities, that a random plan keeps."""
    rng = np.random.default_rng(seed)
    upper = rng.uniform(1, 3, (S, C, W))
    lower = upper * rng.uniform(0, 0.2, (S, C, W))
    plan = lower + (upper - lower) * rng.uniform(0.1, 0.9, (S, C, W))
    cells, stores = rng.random((3, C, W)) < 0.5, rng.random((3, S)) < 0.7
    total = np.einsum("scw,kcw,ks->k", plan, cells, stores)
    width = rng.choice([0, 0.05, 0.5], 3)
    over = np.where(rng.random(3) < 0.3, np.inf, total * (1 + width))
    sums = Sums(*map(torch.from_numpy, (cells, stores, total * (1 - width), over)))
    own = rng.random((2, C, W)) < 0.6
    total = np.einsum("scw,jcw->sj", plan, own)
    width, absent = rng.choice([0, 0.1, 0.3], (S, 2)), rng.random((S, 2)) < 0.4
    ends = [np.where(absent, s * np.inf, total * (1 + s * width)) for s in (-1, 1)]
    store_sums = StoreSums(*map(torch.from_numpy, (own, *ends)))
    channel = torch.from_numpy(plan.sum((0, 2)))
    box = (torch.from_numpy(lower), torch.from_numpy(upper))
    return Limits(*box, 0.95 * channel, 1.2 * channel, float(plan.sum()), sums, store_sums)


def rows_of(bounds: Limits) -> Array:
    """[rows, S C W]: what each row sums."""
    unit = torch.eye(S * C * W, dtype=torch.float64).view(-1, S, C, W)
    return np.stack([bounds.sums_of(cell).numpy() for cell in unit], 1)


def test_money_is_the_nearest_within_overlapping_sums() -> None:
    for seed in range(12):
        bounds, rng = limits(seed), np.random.default_rng(100 + seed)
        point, metric = rng.uniform(-1, 4, (S, C, W)), rng.uniform(0.2, 4, (S, C, W))
        found, _ = bounds.priced(torch.from_numpy(point), torch.from_numpy(metric))
        rows, (low, high) = rows_of(bounds), (end.numpy() for end in bounds.ends)
        same, kept = low == high, (np.isfinite(low) | np.isfinite(high)) & (low < high)
        total = bounds.sums_of(found).numpy()
        assert (total >= low - 1e-10).all()
        assert (total <= high + 1e-10).all()

        def distance(x: Array, point: Array = point, metric: Array = metric) -> float:
            return float(((x.reshape(S, C, W) - point) ** 2 / metric).sum())

        best = minimize(
            distance,
            found.numpy().ravel(),
            jac=lambda x, p=point, m=metric: (2 * (x.reshape(S, C, W) - p) / m).ravel(),
            bounds=Bounds(bounds.lower.numpy().ravel(), bounds.upper.numpy().ravel()),
            constraints=[LinearConstraint(rows[k], low[k], high[k]) for k in (same, kept)],
            method="SLSQP",
            options={"ftol": 1e-12},
        )
        assert distance(found.numpy().ravel()) <= best.fun + 1e-6


def test_the_range_of_budgets_is_that_of_a_linear_programme() -> None:
    for seed in range(4):
        bounds = replace(limits(seed), budget=math.nan)
        rows, (low, high) = rows_of(bounds)[:-1], (end.numpy()[:-1] for end in bounds.ends)
        under, over = np.isfinite(low), np.isfinite(high)
        box = np.stack([bounds.lower.numpy().ravel(), bounds.upper.numpy().ravel()], 1)
        sides = np.concatenate([rows[over], -rows[under]])
        ends = np.concatenate([high[over], -low[under]])
        expected = [
            sign * linprog(np.full(S * C * W, sign), sides, ends, bounds=box).fun
            for sign in (1, -1)
        ]
        assert bounds.range() == pytest.approx(expected, rel=1e-8)
        assert not bounds.missed().any()


def test_what_contradicts_is_missed_and_nothing_else() -> None:
    bounds = replace(limits(0), budget=math.nan)
    assert bounds.store_sums is not None
    pattern = torch.zeros(2, C, W, dtype=torch.bool)
    pattern[0, 0], pattern[1] = True, True  # channel 0 in a store; a store
    lower, upper = torch.full((S, 2), -torch.inf), torch.full((S, 2), torch.inf)
    lower[1, 0], upper[1, 1] = 0.8 * bounds.upper[1, 0].sum(), 0.3
    clash = replace(bounds, sums=None, channel_lower=0 * bounds.channel_lower)
    clash = replace(clash, lower=0 * bounds.lower)
    clash = replace(clash, store_sums=StoreSums(pattern, lower.double(), upper.double()))
    missed = clash.missed()
    assert missed.nonzero().flatten().tolist() == [2, 3]
    assert missed[2] < 0 < missed[3]


def test_a_price_is_what_one_more_unit_of_a_sum_adds() -> None:
    rng = np.random.default_rng(3)
    size = torch.from_numpy(rng.uniform(0.5, 3, (S, C, 1)))

    def outcome(money: torch.Tensor) -> torch.Tensor:
        return (size * (money + 0.3).sqrt()).sum()

    zero, one = torch.zeros(S, C, W).double(), torch.ones(S, C, W).double()
    everything = torch.ones(1, C, W, dtype=torch.bool)

    def bounded(store: float, channel: float, budget: float) -> Limits:
        lower = torch.full((S, 1), -torch.inf).double()
        upper = torch.full((S, 1), torch.inf).double()
        best = size.sum((1, 2)).argmax()
        upper[best] = store
        ends = (zero.sum((0, 2)), torch.tensor([channel, 99.0, 99.0]).double())
        own = StoreSums(everything, lower, upper)
        return Limits(zero, 9 * one, *ends, budget, None, own)

    def best(store: float, channel: float, budget: float) -> float:
        within = bounded(store, channel, budget)
        return allocate(outcome, within, one, one[..., :1]).value

    within = bounded(4.0, 2.0, 18.0)
    found = allocate(outcome, within, one, one[..., :1])
    price = prices(found, within, one[..., :1])
    step, base = 0.05, found.value
    told = price.sums[int(size.sum((1, 2)).argmax())], price.sums[-1 - C], price.budget
    moved = (best(4.0 + step, 2.0, 18.0), best(4.0, 2.0 + step, 18.0), best(4.0, 2.0, 18.0 + step))
    for value, after in zip(told, moved, strict=True):
        assert float(value) == pytest.approx((after - base) / step, rel=0.05, abs=0.003)
    assert price.upper[-1 - C]
    assert not price.upper[-C:-1].any()
