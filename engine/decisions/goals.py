"""Budgets that are not given but follow from a goal."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from torch import Tensor

from causalmmm.engine.decisions.allocation import Allocation, allocate, prices
from causalmmm.engine.decisions.limits import Limits

Goal = Literal["outcome", "roi", "mroi"]
_HALVINGS = 10


class OutOfReachError(ValueError):
    """No budget within the limits reaches the goal; ``most`` is what can be reached."""

    def __init__(self, most: float) -> None:
        super().__init__(f"at most {most:,.6g} can be reached")
        self.most = most


def budget_for(
    goal: Goal,
    wanted: float,
    outcome: Callable[[Tensor], Tensor],
    limits: Limits,
    begin: Tensor,
    typical: Tensor,
    nothing: float,
) -> tuple[Limits, Allocation]:
    """The least budget whose best plan has the ``outcome`` that is wanted, or the largest one that
    still returns so much: on the whole (``roi``), or by its last unit of money (``mroi``).

    outcome  money [B, C, W] -> scalar, ``nothing`` at no money; begin and typical as in
    :func:`allocate`. The limits' own budget is not used. Halving, as a best plan's outcome rises
    with the budget and its returns fall; the budget is exact to a thousandth of its range.
    """
    low, high = limits.range()
    low = max(low, 1e-3 * high)  # no money returns nothing
    rising = goal == "outcome"

    def best(budget: float, start: Tensor) -> tuple[Limits, Allocation]:
        within = replace(limits, budget=budget)
        return within, allocate(outcome, within, start, typical)

    def score(answer: tuple[Limits, Allocation]) -> float:
        within, found = answer
        if goal == "mroi":
            price = prices(found, within, typical).budget
            return -math.inf if math.isnan(price) else price
        brought = found.value - nothing
        return brought if rising else brought / within.budget

    ends = best(low, begin), best(high, begin)
    reached = [score(end) for end in ends]
    if max(reached) < wanted:
        raise OutOfReachError(max(reached))
    if rising and reached[0] >= wanted:
        return ends[0]
    if not rising and reached[1] >= wanted:
        return ends[1]
    answer = ends[1] if rising else ends[0]
    for _ in range(_HALVINGS):
        middle = best((low + high) / 2, answer[1].money)
        enough = score(middle) >= wanted
        answer = middle if enough else answer
        if enough == rising:
            high = middle[0].budget
        else:
            low = middle[0].budget
    return answer
