"""Limits on money, and the nearest money within them.

Bounds on single cells and on sums of cells: over channels and steps of every store, and over
several stores. Nothing here knows what money brings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

_ROUNDS = 200
_DAMPING, _LEAST_DAMPING, _MOST_DAMPING = 1e-6, 1e-12, 1e6  # of Newton's steps
_SIDES = 5  # times that prices on the wrong side are held at zero
_EXACT = 1e-13  # share of all that can be spent by which a sum may miss its bound
_SOFT = 1e-6  # the same where rows may be missed: the price of missing them
_SOFT_ROUNDS = 4
_STRIDES = 50


@dataclass(frozen=True)
class Sums:
    """K bounds on sums over several stores: the cells of ``cells`` bool [K, C, W] in the stores
    ``stores`` bool [K, B];  lower, upper  [K], which may be infinite."""

    cells: Tensor
    stores: Tensor
    lower: Tensor
    upper: Tensor


@dataclass(frozen=True)
class StoreSums:
    """Bounds on J sums within every store, over the cells of ``cells`` bool [J, C, W];
    lower, upper  [B, J], infinite where a store has no such bound."""

    cells: Tensor
    lower: Tensor
    upper: Tensor


@dataclass(frozen=True)
class Limits:
    """Bounds on money, all in one unit.

    lower, upper                  [B, C, W] of every cell;
    channel_lower, channel_upper  [C] of a channel's total over stores and steps;
    budget                        total over everything; NaN: any total;
    sums, store_sums              further bounds, on sums of cells.
    """

    lower: Tensor
    upper: Tensor
    channel_lower: Tensor
    channel_upper: Tensor
    budget: float
    sums: Sums | None = None
    store_sums: StoreSums | None = None

    def priced(
        self, money: Tensor, metric: Tensor, start: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The nearest money [B, C, W] within the limits, distances divided by ``metric``, and the
        prices [rows] of sums at which it is reached.

        Exact: cells are money + metric x the prices of their sums, clipped to their bounds. The
        prices solve a concave, piecewise quadratic dual by Newton's method, which ends at the
        solution after finitely many steps (Bertsekas, 1982, for bounded prices). ``start``: prices
        of a similar question.
        """
        metric = metric.expand_as(money)
        point = _Dual(self._rows, self.lower, self.upper, money, metric, 0.0).solved(start)
        return point.money, point.prices

    def sums_of(self, money: Tensor) -> Tensor:
        """[rows] of money [B, C, W]: what is bounded, in the order of :meth:`missed`."""
        return self._rows.sums(money)

    @property
    def ends(self) -> tuple[Tensor, Tensor]:
        """Lower and upper bounds [rows] of :meth:`sums_of`."""
        return self._rows.lower, self._rows.upper

    def covers(self, rows: Tensor) -> Tensor:
        """bool [B, C, W]: the cells that are in any of these rows (bool [rows])."""
        return self._rows.spread(rows.to(self.lower), self.lower) > 0

    def range(self) -> tuple[float, float]:
        """The least and the most money that the limits allow, whatever the budget."""
        if self.sums is None and self.store_sums is None:  # channels share no cell
            return float(self.channel_lower.sum()), float(self.channel_upper.sum())
        free = replace(self, budget=math.nan)
        size = (self.upper - self.lower) + 1e-9 * float(self.upper.max()) + 1e-300
        return free._furthest(-size), free._furthest(size)

    def _furthest(self, away: Tensor) -> float:
        """The total where no step ``away`` changes it any more."""
        metric = away.abs()
        money, prices = self.priced((self.lower + self.upper) / 2, metric)
        total, length = float(money.sum()), 1.0
        for _ in range(_STRIDES):
            money, prices = self.priced(money + length * away, metric, prices)
            before, total = total, float(money.sum())
            if length > 1 and abs(total - before) <= 1e-10 * float(self.upper.sum()):
                break
            length *= 2
        return total

    def missed(self) -> Tensor:
        """[rows]: by how much each sum misses its bounds where not all can be kept, the least in
        squares: below zero under a lower bound, above zero over an upper one; zero where all hold.

        Rows are the store sums, store by store, then the sums, the channels, and the budget.
        """
        middle = (self.lower + self.upper) / 2
        metric = (self.upper - self.lower).square() + 1e-18 * self.upper.square().max() + 1e-300
        rows, prices = self._rows, None
        for _ in range(_SOFT_ROUNDS):  # nearer and nearer to what can be kept
            dual = _Dual(rows, self.lower, self.upper, middle, metric, _SOFT)
            point = dual.solved(prices)
            middle, prices = point.money, point.prices
        total = rows.sums(middle)
        beyond = (total - rows.upper).clamp_min(0) - (rows.lower - total).clamp_min(0)
        size = max(float(self.upper.sum()), 1e-300)
        return torch.where(beyond.abs() > 1e-7 * size, beyond, 0.0)

    @cached_property
    def _rows(self) -> _Rows:
        stores, channels, steps = self.lower.shape
        kind = self.lower
        cells = [torch.eye(channels).repeat_interleave(steps, 1), torch.ones(1, channels * steps)]
        inside = [torch.ones(channels + 1, stores)]
        given = not math.isnan(self.budget)
        ends = [kind.new_tensor([self.budget if given else end]) for end in (-math.inf, math.inf)]
        lower, upper = [self.channel_lower, ends[0]], [self.channel_upper, ends[1]]
        if self.sums is not None:
            cells.insert(0, self.sums.cells.flatten(1))
            inside.insert(0, self.sums.stores)
            lower.insert(0, self.sums.lower)
            upper.insert(0, self.sums.upper)
        own, low, high = kind.new_zeros(0, channels * steps), [], []
        if self.store_sums is not None:
            own = self.store_sums.cells.flatten(1).to(kind)
            low, high = [self.store_sums.lower.flatten()], [self.store_sums.upper.flatten()]
        return _Rows(
            own,
            torch.cat([part.to(kind) for part in cells]),
            torch.cat([part.to(kind) for part in inside]),
            torch.cat([*low, *lower]),
            torch.cat([*high, *upper]),
            max(float(self.upper.sum()), 1e-300) * _EXACT,
        )


@dataclass(frozen=True)
class _Rows:
    """Bounds on sums as rows of numbers: J of every store, then R of several stores.

    own  [J, n];  shared  [R, n], over n = C W cells of a store;  stores  [R, B];
    lower, upper  [B J + R];  exact, what a sum may miss.
    """

    own: Tensor
    shared: Tensor
    stores: Tensor
    lower: Tensor
    upper: Tensor
    exact: float

    def sums(self, money: Tensor) -> Tensor:
        """[rows] of money [B, C, W]."""
        flat = money.flatten(1)
        own = flat @ self.own.T  # [B, J]
        shared = ((flat @ self.shared.T) * self.stores.T).sum(0)  # [R]
        return torch.cat([own.flatten(), shared])

    def spread(self, prices: Tensor, like: Tensor) -> Tensor:
        """[B, C, W]: of each cell, the sum of its rows' prices."""
        own, shared = self.split(prices)
        each = own @ self.own + (self.stores.T * shared) @ self.shared
        return each.view_as(like)

    def split(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Values of the rows of every store [B, J], and of those of several stores [R]."""
        stores = self.stores.shape[1]
        own = stores * len(self.own)
        return values[:own].view(stores, -1), values[own:]

    @cached_property
    def _alike(self) -> tuple[Tensor, Tensor]:
        """Which rows [G, R] stores are in, and the place [B] of each store among the G."""
        kinds, place = torch.unique(self.stores.T, dim=0, return_inverse=True)
        return kinds, place

    def newton(self, weight: Tensor, gradient: Tensor, moves: Tensor, ridge: Tensor) -> Tensor:
        """[rows]: solution of (A diag(weight) A' + diag(ridge)) step = gradient in the rows that
        move, zero in the others.

        weight  [B, C, W]. Rows of different stores share no cell: one small block a store, and the
        rows of several stores as a border.
        """
        flat, j, r = weight.flatten(1), len(self.own), len(self.shared)
        (moves_own, moves), (want_own, want) = self.split(moves), self.split(gradient * moves)
        ridge_own, ridge = self.split(ridge)
        kinds, place = self._alike
        summed = flat.new_zeros(len(kinds), flat.shape[1]).index_add(0, place, flat)
        common = (summed @ _pairs(self.shared, self.shared)).view(-1, r, r)
        border = (common * kinds.unsqueeze(2) * kinds.unsqueeze(1)).sum(0)
        if not j:
            return torch.linalg.solve(_only(border, moves, ridge), want)
        own = (flat @ _pairs(self.own, self.own)).view(-1, j, j)
        mixed = (flat @ _pairs(self.own, self.shared)).view(-1, j, r)
        mixed = mixed * self.stores.T.unsqueeze(1) * moves_own.unsqueeze(2) * moves
        right = torch.cat([mixed, want_own.unsqueeze(2)], 2)
        solved = torch.linalg.solve(_only(own, moves_own, ridge_own), right)  # [B, J, R + 1]
        border = _only(border, moves, ridge) - (mixed.mT @ solved[..., :-1]).sum(0)
        step = torch.linalg.solve(border, want - (mixed.mT @ solved[..., -1:]).sum((0, 2)))
        return torch.cat([(solved[..., -1] - solved[..., :-1] @ step).flatten(), step])


def _pairs(one: Tensor, other: Tensor) -> Tensor:
    """[n, K L]: products of every row of [K, n] with every row of [L, n]."""
    return (one.unsqueeze(1) * other).flatten(0, 1).T


def _only(matrix: Tensor, moves: Tensor, ridge: Tensor) -> Tensor:
    """The matrix [..., k, k] in the rows that move, its ridge added; the identity in the others."""
    both = moves.unsqueeze(-1) * moves.unsqueeze(-2)
    return matrix * both + torch.diag_embed(torch.where(moves > 0, ridge, 1.0))


@dataclass(frozen=True)
class _Point:
    """Prices, the money that they lead to, the dual's value there, and its gradient."""

    prices: Tensor
    money: Tensor
    value: float
    gradient: Tensor

    @property
    def miss(self) -> float:
        return float(self.gradient.abs().max())

    def beats(self, other: _Point, least: float = 0.0) -> bool:
        """Whether its value is higher, or as high in this precision and its sums nearer."""
        equal = abs(self.value - other.value) <= 1e-13 * (1e-300 + abs(self.value))
        return self.miss < 0.5 * other.miss if equal else self.value > other.value + least


@dataclass(frozen=True)
class _Dual:
    """The nearest money to ``money``, distances divided by ``metric``, as a question of prices.

    soft  above zero, rows may be missed at a cost that rises with what is missed.
    """

    rows: _Rows
    lower: Tensor
    upper: Tensor
    money: Tensor
    metric: Tensor
    soft: float

    @cached_property
    def whole(self) -> Tensor:
        """[rows]: curvature of a row all of whose cells are free."""
        whole = self.rows.sums(self.metric)
        return torch.where(whole > 0, whole, 1.0)

    @cached_property
    def equal(self) -> Tensor:
        return self.rows.lower == self.rows.upper

    def at(self, prices: Tensor) -> _Point:
        moved = self.money + self.metric * self.rows.spread(prices, self.money)
        money = torch.minimum(torch.maximum(moved, self.lower), self.upper)
        total = self.rows.sums(money)
        under, over = self.rows.lower - total, self.rows.upper - total
        idle = under.clamp_min(0) + over.clamp_max(0)
        gradient = torch.where(
            self.equal | (prices > 0), under, torch.where(prices < 0, over, idle)
        )
        bound = torch.where(prices < 0, self.rows.upper, self.rows.lower)
        bound = torch.where(prices == 0, 0.0, bound)
        gone, far = money - self.lower, money + self.lower - 2 * self.money
        value = 0.5 * (gone * far / self.metric).sum()  # distance, less that of the lower bounds
        value = value + prices @ (bound - total) - 0.5 * self.soft * (self.whole @ prices.square())
        return _Point(prices, money, float(value), gradient - self.soft * self.whole * prices)

    def solved(self, start: Tensor | None) -> _Point:
        """Newton's method on prices kept on their side of zero (a two-metric projection: Bertsekas,
        1982), every step damped as much as it needs to raise the dual (Levenberg-Marquardt). The
        dual is piecewise quadratic, so the last steps end at the solution."""
        point = self.at(torch.zeros_like(self.whole) if start is None else start)
        damping = _DAMPING
        for _ in range(_ROUNDS):
            if point.miss <= self.rows.exact or damping > _MOST_DAMPING:
                break
            better = self.newton(point, damping)
            if better is None:
                damping *= 8
            else:
                point, damping = better, max(_LEAST_DAMPING, damping / 4)
        return point

    def newton(self, point: _Point, damping: float) -> _Point | None:
        """A step that raises the dual; None where it does not."""
        inside = (point.money > self.lower) & (point.money < self.upper)
        weight = torch.where(inside, self.metric, 0.0)
        ridge = (self.soft + damping) * self.whole
        side = torch.where(point.prices == 0, point.gradient, point.prices).sign()
        moves, step = side != 0, torch.zeros_like(ridge)
        for _ in range(_SIDES):  # a price leaves zero only to the side where it is wanted
            step = self.rows.newton(weight, point.gradient, moves.to(weight), ridge)
            wrong = moves & ~self.equal & (point.prices == 0) & (step * side < 0)
            if not wrong.any():
                break
            moves = moves & ~wrong
        side = torch.where(self.equal, 0.0, side)
        prices = point.prices + step
        found = self.at(torch.where(prices * side < 0, 0.0, prices))
        gain = float(point.gradient @ (found.prices - point.prices))
        return found if gain > 0 and found.beats(point, 1e-4 * gain) else None
