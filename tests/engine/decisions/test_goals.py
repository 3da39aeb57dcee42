"""Budgets that follow from a goal, where the answer is known: returns of square roots."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from causalmmm.engine.decisions import Goal, Limits, OutOfReachError, budget_for

WEIGHT = torch.tensor([3.0, 1.0, 2.0], dtype=torch.float64)
SQUARES = float(WEIGHT.square().sum())  # the best plan of a budget b brings sqrt(SQUARES b)
BEFORE = 5.0  # what the outcome is compared with


def outcome(money: Tensor) -> Tensor:
    return (WEIGHT.view(1, -1, 1) * money.clamp_min(0).sqrt()).sum() - BEFORE


def room(most: float) -> Limits:
    zero = torch.zeros(1, 3, 1, dtype=torch.float64)
    return Limits(zero, zero + most, zero[0, :, 0], zero[0, :, 0] + most, math.nan)


@pytest.mark.parametrize(
    ("goal", "wanted", "budget"),
    [
        ("outcome", 20.0, 20.0**2 / SQUARES),
        ("roi", 0.8, SQUARES / 0.8**2),
        ("mroi", 0.5, SQUARES / (2 * 0.5) ** 2),
    ],
)
def test_the_budget_is_that_of_the_goal(goal: Goal, wanted: float, budget: float) -> None:
    limits, one = room(30.0), torch.ones(1, 3, 1, dtype=torch.float64)
    within, found = budget_for(goal, wanted, outcome, limits, one, one, -BEFORE)
    assert within.budget == pytest.approx(budget, rel=0.02)
    assert float(found.money.sum()) == pytest.approx(within.budget)
    share = found.money[0, :, 0] / within.budget
    torch.testing.assert_close(share, WEIGHT.square() / SQUARES, atol=0.02, rtol=0)


def test_what_no_budget_reaches_is_told_with_the_most_there_is() -> None:
    limits, one = room(4.0), torch.ones(1, 3, 1, dtype=torch.float64)
    with pytest.raises(OutOfReachError) as caught:
        budget_for("outcome", 100.0, outcome, limits, one, one, -BEFORE)
    assert caught.value.most == pytest.approx(2 * float(WEIGHT.sum()))


def test_a_return_that_all_money_has_spends_all() -> None:
    limits, one = room(4.0), torch.ones(1, 3, 1, dtype=torch.float64)
    within, _ = budget_for("roi", 0.1, outcome, limits, one, one, -BEFORE)
    assert within.budget == pytest.approx(12.0)
