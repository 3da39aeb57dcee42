"""Budgets: the spend by store, channel and step that brings the most within its limits.

Projected gradient ascent on the drawn outcome itself, without a grid or a fitted curve; every step
either improves or is not taken, so a budget is never worse under the model than where it began.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from causalmmm.engine.decisions.system import System

_ROUNDS = 200
_TOLERANCE = 1e-4  # relative gain of a round that is not worth another
_PATIENCE = 3  # such rounds in a row
_LEAST_PACE = 1e-4  # of the first step's
_SLACK = 0.02  # share of usual money with which an empty cell moves
_LEAST_MONEY = 1e-3  # share of usual money at which the gradient of an empty cell is taken


@dataclass(frozen=True)
class Limits:
    """Bounds on money, all in one unit.

    lower, upper                  [B, C, W] of every cell;
    channel_lower, channel_upper  [C] of a channel's total over stores and steps;
    budget                        total over everything.
    """

    lower: Tensor
    upper: Tensor
    channel_lower: Tensor
    channel_upper: Tensor
    budget: float

    def project(self, money: Tensor, metric: Tensor) -> Tensor:
        """The nearest money [B, C, W] within the limits, distances divided by ``metric``.

        Exact: cells are money + price x metric, clipped to their bounds. What a channel gets, and
        what all get, is piecewise linear in the price, so the prices at which totals and budget are
        met are read off the sorted corners.
        """
        first = (self.lower - money) / metric  # price at which a cell leaves its lower bound
        last = torch.maximum((self.upper - money) / metric, first)
        ramps = (first, last, metric.expand_as(first))
        begin, stop, slope = (r.transpose(0, 1).flatten(1) for r in ramps)  # [C, B W] each
        least = self.lower.sum((0, 2))
        floor = _price(begin, stop, slope, self.channel_lower - least)  # [C], at a channel's limits
        ceiling = _price(begin, stop, slope, self.channel_upper - least)
        at_floor = (torch.minimum(floor.view(-1, 1), stop) - begin).clamp_min(0) * slope
        begin, stop = (r.clamp(floor.view(-1, 1), ceiling.view(-1, 1)) for r in (begin, stop))
        base = least.sum() + at_floor.sum()
        begin, stop, slope = (r.reshape(1, -1) for r in (begin, stop, slope))
        price = _price(begin, stop, slope, (self.budget - base).view(1))
        own = torch.minimum(torch.maximum(price, floor), ceiling).view(1, -1, 1)
        return torch.minimum(torch.maximum(money + own * metric, self.lower), self.upper)


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
    """What one more unit of money would add: ``channel`` [C], in the cells that are within their
    bounds; ``budget``, the same of the whole budget, NaN where every channel is held by its own
    limits; lower and upper, bool [C], which limit of a channel's total binds."""

    channel: Tensor
    budget: float
    lower: Tensor
    upper: Tensor


def prices(found: Allocation, limits: Limits) -> Prices:
    """Shadow prices of an allocation."""
    money, total = found.money, found.money.sum((0, 2))
    within = (money > limits.lower + 1e-6 * limits.upper) & (money < limits.upper * (1 - 1e-6))
    weight = torch.where(within, money.clamp_min(1e-12), 1e-12)
    moved = (found.marginal * weight).sum((0, 2))
    slack = 1e-6 * limits.channel_upper.clamp_min(1e-12)
    lower = total <= limits.channel_lower + slack  # zero is a limit too
    upper = total >= limits.channel_upper - slack
    free = ~(lower | upper)
    weight = weight.sum((0, 2))
    budget = float(moved[free].sum() / weight[free].sum()) if free.any() else float("nan")
    return Prices(moved / weight, budget, lower, upper)


def allocate(
    outcome: Callable[[Tensor], Tensor], limits: Limits, begin: Tensor, usual: Tensor
) -> Allocation:
    """Maximise ``outcome`` (money [B, C, W] -> scalar) within the limits, from ``begin``.

    usual  [B, C, 1] or [B, C, W], a size of money that is usual for a cell, above zero. Cells move
    in proportion to it and to the money they have: a response that rises steeply from zero (Hill
    with a slope below one) has no gradient there, and next to it one that says little.
    """
    money = limits.project(begin, usual.square().expand_as(begin))
    least = _LEAST_MONEY * usual
    value, gradient = _value(outcome, money), _slope(outcome, money, least)
    start, idle = value, 0
    size = float((gradient * usual).square().mean().sqrt())
    pace = first = 0.1 / max(size, 1e-30)  # moves cells by a tenth of what is usual
    for _ in range(_ROUNDS):
        metric = (money + _SLACK * usual) * usual
        moved = limits.project(money + pace * metric * gradient, metric)
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
    return Allocation(money, value, start, gradient)


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


def _price(start: Tensor, end: Tensor, slope: Tensor, wanted: Tensor) -> Tensor:
    """[R]: where the sums of ramps reach what is wanted [R]; ends of the ramps where they cannot.

    start, end, slope  [R, n]: a ramp is zero before its start, rises with its slope, and stays.
    """
    corner, order = torch.cat([start, end], -1).sort(-1)  # [R, 2n]
    rise = torch.cat([slope, -slope], -1).gather(-1, order).cumsum(-1)[:, :-1].clamp_min(0)
    level = (rise * corner.diff(dim=-1)).cumsum(-1)
    level = torch.cat([torch.zeros_like(level[:, :1]), level], -1)  # at each corner
    last = corner.shape[-1] - 1
    piece = torch.searchsorted(level, wanted.unsqueeze(-1)).clamp(1, last) - 1
    height = wanted.unsqueeze(-1) - level.gather(-1, piece)
    run = height / rise.gather(-1, piece).clamp_min(torch.finfo(rise.dtype).tiny)
    begin, stop = corner.gather(-1, piece), corner.gather(-1, piece + 1)
    return torch.minimum(torch.maximum(begin + run, begin), stop).squeeze(-1)


def planned_change(
    system: System, channels: Sequence[int], per_money: Tensor, worth: Tensor, money: Tensor
) -> Tensor:
    """[D]: what money [B, C, W] in the first steps after row one adds to the reference plan's
    outcome, summed over stores.

    per_money  [B, C], scaled series per unit of money;  worth  [B], value of a scaled unit of the
    target. The system's first step is the last of the history.
    """
    x = (money * per_money.unsqueeze(-1)).to(system.series.dtype)
    spend, steps = {}, money.shape[-1]
    for place, channel in enumerate(channels):
        series = system.series[:1, :, channel]  # planned, so the same in all draws
        parts = [series[..., :1], x[:, place].unsqueeze(0), series[..., 1 + steps :]]
        spend[channel] = torch.cat(parts, -1)
    return system.change(spend).sum(-1).to(money.dtype) @ worth
