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
_TOLERANCE = 1e-5  # relative gain of a round that is not worth another
_PATIENCE = 5  # such rounds in a row
_LEAST_PACE = 1e-4  # of the first step's
_SLACK = 0.02  # share of usual money with which an empty cell moves
_LEAST_MONEY = 1e-3  # share of usual money at which the gradient of an empty cell is taken
_BISECTIONS = 60


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

        Exact: cells are clipped to min(max(money + (price + channel's price) metric, ...)), the
        prices found by bisection, a channel's only where its own limit binds.
        """

        def at(price: Tensor) -> Tensor:
            plain = self._cells(money, metric, price)
            total = plain.sum((0, 2))
            wanted = total.clamp(self.channel_lower, self.channel_upper)
            if bool((wanted == total).all()):
                return plain
            own = _bisect(
                lambda extra: self._cells(money, metric, price + extra).sum((0, 2)) - wanted,
                *self._prices(money, metric, price),
            )
            own = torch.where(wanted == total, 0.0, own)
            return self._cells(money, metric, price + own)

        zero = torch.zeros_like(self.channel_lower)
        low, high = (p.expand_as(zero) for p in self._all_prices(money, metric))
        price = _bisect(lambda p: (at(p).sum() - self.budget).expand_as(zero), low, high)
        return at(price)

    def _cells(self, money: Tensor, metric: Tensor, price: Tensor) -> Tensor:
        moved = money + price.view(1, -1, 1) * metric
        return torch.minimum(torch.maximum(moved, self.lower), self.upper)

    def _prices(self, money: Tensor, metric: Tensor, price: Tensor) -> tuple[Tensor, Tensor]:
        """Prices [C] at which all cells of a channel are at their lower, and upper, bound."""
        low = ((self.lower - money) / metric).amin((0, 2)) - price
        high = ((self.upper - money) / metric).amax((0, 2)) - price
        return low, high

    def _all_prices(self, money: Tensor, metric: Tensor) -> tuple[Tensor, Tensor]:
        low, high = self._prices(money, metric, torch.zeros_like(self.channel_lower))
        return low.min(), high.max()


@dataclass(frozen=True)
class Allocation:
    """money [B, C, W]; value, what was maximised, there and at the ``start``; marginal [B, C, W],
    what one more unit of money in a cell adds to the value."""

    money: Tensor
    value: float
    start: float
    marginal: Tensor


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
    value, gradient = _slope(outcome, money, least)
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
        money = moved
        value, gradient = _slope(outcome, money, least)
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


def _slope(
    outcome: Callable[[Tensor], Tensor], money: Tensor, least: Tensor
) -> tuple[float, Tensor]:
    """Value at the money, and the gradient where every cell has ``least`` or more."""
    variable = torch.maximum(money.detach(), least).requires_grad_()
    (gradient,) = torch.autograd.grad(outcome(variable), variable)
    return _value(outcome, money), gradient


def _bisect(excess: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Tensor:
    """Where an increasing ``excess`` of each entry crosses zero."""
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        above = excess(middle) > 0
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return (low + high) / 2


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
