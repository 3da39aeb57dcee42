"""``optimize`` and ``compare``: plans of spend for the steps after the history."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import cast, get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from causalmmm.data.bounds import Bound
from causalmmm.data.panel import Panel
from causalmmm.data.plan import Plan
from causalmmm.decisions.ahead import Ahead, following, plan_frame
from causalmmm.decisions.bounds import Bounded, bounds_frame, limits_of
from causalmmm.decisions.by_group import summed
from causalmmm.decisions.in_order import MOST_THREADS, in_order
from causalmmm.decisions.period import EVERYTHING, Floats, Stores, Systems, tail_of, worth
from causalmmm.decisions.tables import INTERVAL, summary
from causalmmm.engine.decisions import (
    Allocation,
    Goal,
    Limits,
    OutOfReachError,
    System,
    allocate,
    budget_for,
    planned_change,
    prices,
)
from causalmmm.findings import Finding, refusal, rounded
from causalmmm.inference.interrupt import current_check

_MOST_VALUES = 12_000_000  # cells x draws that an answer holds; more stores get fewer draws
_LEAST_DRAWS = 32
MOST_CELLS = _MOST_VALUES // _LEAST_DRAWS  # stores x series x steps of a plan, for bounded memory
_SEARCHED_VALUES = 1_500_000  # the same for the search itself, which needs the mean alone
_LEAST_SEARCHED = 12
SURE = 0.9  # probability of a gain; the best of all plans under the draws looks better than it is
_NOTHING = 1e-6  # share of the money whose move is rounding


@dataclass(frozen=True, repr=False)
class Budget:
    """An optimised plan of spend.

    allocation  store, date, channel, current, spend, seen: money under the current plan and under
                the optimised one, and the most that the store has spent on the channel in a step.
    channels    channel, current, spend, change, outcome_current, outcome, marginal, limit: totals
                over stores and steps, what each channel alone brings, what one more unit of money
                would add, and which limit binds (lower, upper, or empty).
    gain        mean, lower, upper: what the plan adds to the outcome over the current one;
                better: the probability that it adds anything.
    plan        the optimised plan as ``compare`` and ``predict`` take it; where no plan was given,
                without the controls that ``predict`` needs to know.
    price       what one more unit of the whole budget would add (its shadow price).
    bounds      bound, store, channel, start, end, min, max, current, spend, limit, price: every sum
                that was bounded, in money, which of its bounds binds, and what one more unit of the
                budget in it would add.
    """

    allocation: pd.DataFrame
    channels: pd.DataFrame
    gain: dict[str, float]
    plan: pd.DataFrame
    price: float
    bounds: pd.DataFrame

    def __repr__(self) -> str:
        gain = ", ".join(f"{name} {rounded(value)}" for name, value in self.gain.items())
        return f"Budget(gain: {gain}; price {rounded(self.price)})\n{self.channels.to_string()}"

    def findings(self) -> list[Finding]:
        """What is to be told before the plan is believed: that it may gain nothing."""
        money = self.allocation
        current, spend = (money[name].to_numpy(float) for name in ("current", "spend"))
        return doubtful_gain(current, spend, self.gain["better"])

    def gain_frame(self) -> pd.DataFrame:
        """``gain`` as a table of one row."""
        return pd.DataFrame([self.gain])


def doubtful_gain(current: Floats, spend: Floats, better: float) -> list[Finding]:
    """A warning where a plan gains over the current one with a probability below ``SURE``; none
    where it moves nothing or spends less, and so promises no gain. Money by cell of both."""
    least = _NOTHING * current.sum()
    moves = np.abs(spend - current).sum() > least
    if better >= SURE or not moves or spend.sum() < current.sum() - least:
        return []
    message = f"The plan gains over the current one with probability {100 * better:.0f} % only."
    remedy = "Move part of it, or test first: causalmmm next-experiment."
    return [Finding("warning", "doubtful-gain", message, remedy)]


def optimized(
    systems: Systems,
    panel: Panel,
    ahead: Ahead,
    *,
    budget: float | None,
    bounds: Sequence[Bound],
    quantile: float | None,
    plan: Plan | None,
    reach: Mapping[str, float] | None,
) -> Budget:
    """See ``CausalMMM.optimize``."""
    best = best_plan(systems, panel, ahead, budget, bounds, quantile, reach)
    return _result(panel, ahead, best, plan)


@dataclass(frozen=True)
class Best:
    """The plan that brings the most within its bounds, and the model that says so; ``typical`` as
    ``allocate`` takes it."""

    bounded: Bounded
    found: Allocation
    model: Outcome
    typical: Tensor


def best_plan(
    systems: Systems,
    panel: Panel,
    ahead: Ahead,
    budget: float | None,
    bounds: Sequence[Bound],
    quantile: float | None = None,
    reach: Mapping[str, float] | None = None,
) -> Best:
    """Arguments as of ``CausalMMM.optimize``."""
    bounded = limits_of(panel, ahead, bounds)
    model = Outcome(systems, panel, ahead, tail_of(panel))
    typical = torch.from_numpy(_typical(ahead)).transpose(1, 2)  # [S, C, 1]
    current = torch.from_numpy(ahead.money).transpose(1, 2)  # [S, C, W]
    value = model.outcome(quantile)
    if reach is None:
        bounded = bounded.funded(bounded.limits.budget if budget is None else budget)
        limits = bounded.limits
        whole = float(current.sum())
        begin = current * (limits.budget / whole) if whole > 0 else limits.lower
        if quantile is not None:  # bends where draws change places: begun near its best
            mean = allocate(model.outcome(None), limits, begin, typical).money
            inside = [limits.priced(money, typical)[0] for money in (begin, mean)]
            begin = max(inside, key=lambda money: float(value(money)))
        found = allocate(value, limits, begin, typical)
    else:
        limits, found = _reaching(reach, budget, value, bounded.limits, current, typical)
        bounded = replace(bounded, limits=limits)
    return Best(bounded, found, model, typical)


def _reaching(
    reach: Mapping[str, float],
    budget: float | None,
    value: Callable[[Tensor], Tensor],
    limits: Limits,
    current: Tensor,
    typical: Tensor,
) -> tuple[Limits, Allocation]:
    """The budget that reaches a goal, and its best plan."""
    if budget is not None:
        raise ValueError("pass a budget, or a goal to reach; not both")
    goals = get_args(Goal)
    if len(reach) != 1 or next(iter(reach)) not in goals:
        raise ValueError(f"reach is one of {', '.join(goals)} with a number, got {dict(reach)}")
    ((goal, wanted),) = reach.items()
    with torch.no_grad():
        nothing = float(value(torch.zeros_like(current)))
    try:
        return budget_for(cast("Goal", goal), wanted, value, limits, current, typical, nothing)
    except OutOfReachError as error:
        raise refusal(
            "goal-out-of-reach",
            f"No budget reaches {goal} {wanted:,.6g}: the most within the bounds is "
            f"{error.most:,.6g}. No step gets more than a store has spent in one before.",
            "Lower the goal, widen the bounds or plan more steps.",
        ) from None


class Outcome:
    """Outcome of money over all stores, in groups of equal history."""

    def __init__(self, systems: Systems, panel: Panel, ahead: Ahead, tail: int) -> None:
        self.senders = list(range(len(panel.schema.channels)))
        self.rate: list[Tensor] = []
        self.worth: list[Tensor] = []
        steps = ahead.money.shape[1]
        self.cells = panel.n_stores * len(panel.nodes) * (steps + tail)
        draws = max(_LEAST_DRAWS, _MOST_VALUES // self.cells)
        self.groups: list[Stores] = systems.groups(steps + tail, last_rows=1, draws=draws)

        def ask(stores: Stores) -> System:
            given = following(panel, ahead, stores, tail)
            return systems.system(stores, given, last_rows=1, draws=draws).to(torch.float32)

        self.systems = list(in_order(ask, self.groups, MOST_THREADS))
        for stores in self.groups:
            unit = systems.scale(stores)
            self.rate.append(torch.from_numpy(ahead.per_money[stores] / unit[:, self.senders]))
            money = worth(panel, stores, steps + tail)[:, -1] * unit[:, -1]
            self.worth.append(torch.from_numpy(money))

    @cached_property
    def searched(self) -> list[System]:
        """The few draws on which a search goes."""
        few = slice(0, max(_LEAST_SEARCHED, _SEARCHED_VALUES // self.cells))
        return [system.select(few) for system in self.systems]

    def outcome(self, quantile: float | None) -> Callable[[Tensor], Tensor]:
        """What money [S, C, W] adds to the outcome of the current plan; mean or quantile."""

        def value(money: Tensor) -> Tensor:
            if quantile is None:
                return self.drawn(money, self.searched).mean()
            return self.drawn(money).quantile(quantile)

        return value

    def drawn(self, money: Tensor, systems: list[System] | None = None) -> Tensor:
        """[D]: the same by draw, summed over stores."""
        current_check()()
        parts = [
            partial(planned_change, system, self.senders, rate, value)
            for system, rate, value in zip(
                systems or self.systems, self.rate, self.worth, strict=True
            )
        ]
        return summed(parts, [torch.from_numpy(stores) for stores in self.groups], money)

    def lifts(self, money: Tensor, channel: int, steps: slice) -> Tensor:
        """[D, S]: what the channel's money [S, C, W] of these steps brings in every store."""
        parts = []
        less = money[:, channel : channel + 1].clone()
        less[..., steps] = 0
        for stores, system, rate, value in zip(
            self.groups, self.systems, self.rate, self.worth, strict=True
        ):
            rate = rate[:, channel : channel + 1]
            chosen = less[torch.from_numpy(stores)]
            parts.append(-planned_change(system, [channel], rate, value, chosen))
        order = np.argsort(np.concatenate(self.groups))
        return torch.cat(parts, 1)[:, torch.from_numpy(order)]

    def noise(self) -> Tensor:
        """[S]: standard deviation of what else moves the target in the long run, for a step."""
        parts = [
            (system.equations[system.target].noise / (1 - system.equations[system.target].own))
            .mean(0)
            .to(value.dtype)
            * value
            for system, value in zip(self.systems, self.worth, strict=True)
        ]
        order = np.argsort(np.concatenate(self.groups))
        return torch.cat(parts)[torch.from_numpy(order)]


def _typical(ahead: Ahead) -> Floats:
    """[S, 1, C]: size of a cell's steps, above zero."""
    mean = ahead.money.mean(1, keepdims=True)
    size = np.maximum(mean, 0.1 * ahead.seen[:, None])
    floor = 1e-3 * size.mean() if size.mean() > 0 else 1.0
    return np.maximum(size, floor)


def _result(
    panel: Panel,
    ahead: Ahead,
    best: Best,
    plan: Plan | None,
) -> Budget:
    found, model = best.found, best.model
    price = prices(found, best.bounded.limits, best.typical)
    names = list(panel.schema.channels)
    stores, steps, paid = ahead.money.shape
    money = found.money.transpose(1, 2).numpy()  # [S, W, C]
    with torch.no_grad():
        gain = model.drawn(found.money).numpy()
        brought = [_brought(model, ahead.money), _brought(model, money)]
    lower, upper = (ends[-1 - paid : -1] for ends in (price.lower, price.upper))  # of channels
    held = np.where(lower, "lower", np.where(upper, "upper", ""))
    current, spend = (np.append(m.sum((0, 1)), m.sum()) for m in (ahead.money, money))
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.where(current > 0, spend / current - 1, np.nan)
    change[np.isclose(spend, current, rtol=1e-9)] = 0.0  # what rounding leaves of a full budget
    channels = pd.DataFrame(
        {
            "channel": [*names, EVERYTHING],
            "current": current,
            "spend": spend,
            "change": change,
            "outcome_current": brought[0],
            "outcome": brought[1],
            "marginal": [*price.channel.tolist(), price.budget],
            "limit": [*held, ""],
        }
    )
    cells = {
        "store": np.repeat(panel.stores.astype(object), steps * paid),
        "date": np.repeat(ahead.dates.astype("datetime64[ns]").ravel(), paid),
        "channel": np.tile(np.array(names, object), stores * steps),
        "current": ahead.money.ravel(),
        "spend": money.ravel(),
        "seen": np.repeat(ahead.seen[:, None], steps, 1).ravel(),
    }
    ends = {name: float(value) for name, value in summary(gain).items()}
    ends["better"] = float((gain > 0).mean())
    planned = plan_frame(panel, ahead, money, plan)
    limiting = bounds_frame(panel, ahead, best.bounded, found, price)
    return Budget(pd.DataFrame(cells), channels, ends, planned, price.budget, limiting)


def _brought(model: Outcome, money: Floats) -> Floats:
    """[C + 1]: expected outcome of each channel's money [S, W, C] alone, and of all of it."""
    full = torch.from_numpy(np.ascontiguousarray(money)).transpose(1, 2)
    drawn = model.drawn(full, model.searched)
    parts = []
    for c in [*range(money.shape[-1]), None]:
        without = full.clone()
        without[:, slice(None) if c is None else c] = 0
        parts.append(float((drawn - model.drawn(without, model.searched)).mean()))
    return np.array(parts)


def compared(systems: Systems, panel: Panel, plans: Mapping[str, Ahead]) -> pd.DataFrame:
    """See ``CausalMMM.compare``."""
    first = next(iter(plans))
    model = Outcome(systems, panel, plans[first], tail_of(panel))
    money = {name: torch.from_numpy(ahead.money).transpose(1, 2) for name, ahead in plans.items()}
    with torch.no_grad():
        outcome = {name: model.drawn(spent).numpy() for name, spent in money.items()}
    rows = []
    for name in plans:
        drawn = outcome[name] - outcome[first]  # exactly zero where plans are equal
        lower, upper = np.quantile(drawn, INTERVAL)
        spend = float(money[name].sum())
        change = spend - float(money[first].sum())
        rows.append((name, spend, change, drawn.mean(), lower, upper, (drawn > 0).mean()))
    columns = ["plan", "spend", "spend_change", "outcome_change", "lower", "upper", "better"]
    return pd.DataFrame(rows, columns=columns)
