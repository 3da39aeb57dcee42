"""Budgets against scipy: projections are nearest points, optima are optima."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import LinearConstraint, minimize

from causalmmm.engine.decisions import Limits, allocate

S, C, W = 2, 3, 2


def limits(seed: int, budget_share: float, channel_room: float = 10.0) -> Limits:
    rng = np.random.default_rng(seed)
    upper = torch.from_numpy(rng.uniform(1, 3, (S, C, W)))
    lower = upper * torch.from_numpy(rng.uniform(0, 0.2, (S, C, W)))
    least, most = lower.sum((0, 2)), upper.sum((0, 2))
    channel_lower = least + 0.1 * (most - least)
    channel_upper = torch.minimum(most, channel_lower * (1 + channel_room))
    low, high = float(channel_lower.sum()), float(channel_upper.sum())
    budget = low + budget_share * (high - low)
    return Limits(lower, upper, channel_lower, channel_upper, budget)


def constraints(bounds: Limits) -> list[LinearConstraint]:
    channel = np.zeros((C, S, C, W))
    for c in range(C):
        channel[c, :, c] = 1
    within = LinearConstraint(
        channel.reshape(C, -1), bounds.channel_lower.tolist(), bounds.channel_upper.tolist()
    )
    spent = LinearConstraint(np.ones((1, S * C * W)), bounds.budget, bounds.budget)
    return [within, spent]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.02, 0.98), st.sampled_from([0.3, 1.0, 10.0]))
def test_a_projection_is_the_nearest_plan_within_the_limits(
    seed: int, share: float, room: float
) -> None:
    bounds = limits(seed, share, room)
    rng = np.random.default_rng(seed + 1)
    point = torch.from_numpy(rng.uniform(-1, 4, (S, C, W)))
    metric = torch.from_numpy(rng.uniform(0.5, 2, (S, C, W)))
    found, _ = bounds.priced(point, metric)
    assert (found >= bounds.lower - 1e-9).all()
    assert (found <= bounds.upper + 1e-9).all()
    np.testing.assert_allclose(float(found.sum()), bounds.budget, rtol=1e-9)
    total = found.sum((0, 2))
    assert (total >= bounds.channel_lower - 1e-7).all()
    assert (total <= bounds.channel_upper + 1e-7).all()

    def distance(x: np.ndarray) -> float:
        return float((((x.reshape(S, C, W) - point.numpy()) ** 2) / metric.numpy()).sum())

    box = list(zip(bounds.lower.flatten().tolist(), bounds.upper.flatten().tolist(), strict=True))
    best = minimize(distance, found.numpy().ravel(), bounds=box, constraints=constraints(bounds),
                    method="SLSQP", options={"ftol": 1e-12, "maxiter": 500})  # fmt: skip
    assert distance(found.numpy().ravel()) <= best.fun + 1e-5


def saturating(seed: int, steep: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    size = torch.from_numpy(rng.uniform(0.5, 3, (S, C, 1)))
    half = torch.from_numpy(rng.uniform(0.3, 2, (S, C, 1)))
    slope = torch.from_numpy(rng.uniform(0.4, 0.7, (S, C, 1)) if steep else np.ones((S, C, 1)))
    return size, half, slope


def test_the_optimum_of_concave_responses_is_that_of_scipy() -> None:
    for seed in range(6):
        bounds = limits(seed, 0.3 + 0.1 * seed, 1.0)
        size, half, slope = saturating(seed, steep=seed % 2 == 1)

        def outcome(
            money: torch.Tensor,
            size: torch.Tensor = size,
            half: torch.Tensor = half,
            slope: torch.Tensor = slope,
        ) -> torch.Tensor:
            powered = money.clamp_min(1e-12) ** slope
            return (size * powered / (powered + half**slope)).sum()

        begin, _ = bounds.priced((bounds.lower + bounds.upper) / 2, torch.ones(S, C, W).double())
        found = allocate(outcome, bounds, begin, torch.ones(S, C, 1).double())
        box = list(
            zip(bounds.lower.flatten().tolist(), bounds.upper.flatten().tolist(), strict=True)
        )
        best = minimize(
            lambda x, f=outcome: -float(f(torch.from_numpy(x).view(S, C, W))),
            begin.numpy().ravel(),
            bounds=box,
            constraints=constraints(bounds),
            method="trust-constr" if seed == 0 else "SLSQP",
            options={"maxiter": 1000},
        )
        assert found.value >= -best.fun - 1e-4 * abs(best.fun)
        np.testing.assert_allclose(float(found.money.sum()), bounds.budget, rtol=1e-9)


def test_a_plan_never_becomes_worse_even_where_responses_are_not_concave() -> None:
    for seed in range(8):
        bounds = limits(seed, 0.4)
        half = torch.from_numpy(np.random.default_rng(seed).uniform(0.5, 2, (S, C, 1)))

        def outcome(money: torch.Tensor, half: torch.Tensor = half) -> torch.Tensor:
            return (money**3 / (money**3 + half**3)).sum()

        begin, _ = bounds.priced(bounds.upper / 2, torch.ones(S, C, W).double())
        found = allocate(outcome, bounds, begin, torch.ones(S, C, 1).double())
        np.testing.assert_allclose(found.start, float(outcome(begin)), rtol=1e-12)
        assert found.value >= found.start
