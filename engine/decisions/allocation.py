"""Budgets: the spend by store, channel and step that brings the most within its limits.

Projected gradient ascent on the drawn outcome itself, without a grid or a fitted curve; every step
either improves or is not taken, so a budget is never worse under the model than where it began.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from causalmmm.engine.decisions.limits import Limits
from causalmmm.engine.decisions.system import System

_ROUNDS = 200
_TOLERANCE = 1e-4  # relative gain of a round that is not worth another
_PATIENCE = 3  # such rounds in a row
_LEAST_PACE = 1e-4  # of the first step's
_SLACK = 0.02  # share of typical money with which an empty cell moves
_LEAST_MONEY = 1e-3  # share of typical money at which the gradient of an empty cell is taken


@dataclass(frozen=True)
class Allocation:
    """money [B, C, W]; value, what was maximised, there and at the ``start``; marginal [B, C, W],
    what one more unit of money in a cell adds to the value."""

    money: Tensor
    value: float
    start: float
    marginal: Tensor


@dataclass(frozen=True)
class Prices:
    """What one more unit of money would add.

    channel  [C], in the cells of a channel that are within their bounds;  budget, the same of the
    whole budget, NaN where no cell is free of all other limits.
    sums     [rows as in ``Limits.missed``], what it would add to let a sum have one more unit of
             the budget: above zero at an upper bound, below zero at a lower one, else zero; NaN
             where the budget's is.
    lower, upper  bool [rows], which bound of a sum binds.
    """

    channel: Tensor
    budget: float
    sums: Tensor
    lower: Tensor
    upper: Tensor


def prices(found: Allocation, limits: Limits, typical: Tensor) -> Prices:
    """Shadow prices of an allocation; ``typical`` as in :func:`allocate`."""
    money, gradient = found.money, found.marginal
    total, (low, high) = limits.sums_of(money), limits.ends
    slack = 1e-6 * high.clamp_min(1e-12)
    lower = total <= low + torch.where(high.isfinite(), slack, 0.0)  # zero is a limit too
    upper = total >= high - slack
    within = (money > limits.lower + 1e-6 * limits.upper) & (money < limits.upper * (1 - 1e-6))
    bound = lower | upper
    bound[-1] = False  # the budget itself
    free = within & ~limits.covers(bound)
    weight = money.clamp_min(1e-12)
    channel = _mean(gradient, torch.where(within, weight, 1e-12), (0, 2))
    budget = float(_mean(gradient, weight * free, (0, 1, 2))) if free.any() else math.nan
    metric = money.clamp_min(_SLACK * typical) * typical
    pace = 1e-3 / max(float((gradient * typical).square().mean().sqrt()), 1e-30)
    _, sums = limits.priced(money + pace * metric * gradient, metric)
    sums = torch.where(bound, -sums / pace, 0.0) * (1 if free.any() else math.nan)
    return Prices(channel, budget, sums, lower, upper)


def _mean(values: Tensor, weight: Tensor, over: tuple[int, ...]) -> Tensor:
    return (values * weight).sum(over) / weight.sum(over)


def allocate(
    outcome: Callable[[Tensor], Tensor], limits: Limits, begin: Tensor, typical: Tensor
) -> Allocation:
    """Maximise ``outcome`` (money [B, C, W] -> scalar) within the limits, from ``begin``.

    typical  [B, C, 1] or [B, C, W], a size of money that is so for a cell, above zero. Cells move
    in proportion to it and to the money they have: a response that rises steeply from zero (Hill
    with a slope below one) has no gradient there, and next to it one that says little.
    """
    money, _ = limits.priced(begin, typical.square())
    least = _LEAST_MONEY * typical
    value, gradient = _value(outcome, money), _slope(outcome, money, least)
    first_value, idle = value, 0
    size = float((gradient * typical).square().mean().sqrt())
    pace = first = 0.1 / max(size, 1e-30)  # moves cells by a tenth of what is typical
    price: Tensor | None = None  # of sums, per pace
    for _ in range(_ROUNDS):
        metric = (money + _SLACK * typical) * typical
        start = None if price is None else pace * price
        moved, at = limits.priced(money + pace * metric * gradient, metric, start)
        price = at / pace
        gain = _value(outcome, moved) - value
        if gain <= 0:
            pace = 0.3 * pace
            if pace < _LEAST_PACE * first:
                break
            continue
        before, old = money, gradient
        money, value = moved, value + gain
        gradient = _slope(outcome, money, least)
        pace = _barzilai_borwein(money - before, gradient - old, metric, pace)
        idle = idle + 1 if gain <= _TOLERANCE * abs(value) else 0
        if idle >= _PATIENCE:
            break
    return Allocation(money, value, first_value, gradient)


def _barzilai_borwein(step: Tensor, bend: Tensor, metric: Tensor, pace: float) -> float:
    """Step length from the last step and the change of gradient along it, in the metric."""
    along = float((step * bend).sum())
    length = float((step.square() / metric).sum())
    if along >= 0:  # not concave there
        return 2 * pace
    return min(max(length / -along, 0.1 * pace), 10 * pace)


def _value(outcome: Callable[[Tensor], Tensor], money: Tensor) -> float:
    with torch.no_grad():
        return float(outcome(money))


def _slope(outcome: Callable[[Tensor], Tensor], money: Tensor, least: Tensor) -> Tensor:
    """The gradient at the money, every cell having ``least`` or more."""
    variable = torch.maximum(money.detach(), least).requires_grad_()
    (gradient,) = torch.autograd.grad(outcome(variable), variable)
    return gradient


def planned_change(
    system: System, channels: Sequence[int], per_money: Tensor, worth: Tensor, money: Tensor
) -> Tensor:
    """[D, B]: what money [B, C, W] in the first steps after row one adds to the reference plan's
    outcome in every store.

    per_money  [B, C], scaled series per unit of money;  worth  [B], value of a scaled unit of the
    target. The system's first step is the last of the history.
    """
    x = (money * per_money.unsqueeze(-1)).to(system.series.dtype)
    spend, steps = {}, money.shape[-1]
    for place, channel in enumerate(channels):
        series = system.series[:1, :, channel]  # planned, so the same in all draws
        parts = [series[..., :1], x[:, place].unsqueeze(0), series[..., 1 + steps :]]
        spend[channel] = torch.cat(parts, -1)
    return system.change(spend).sum(-1).to(money.dtype) * worth
