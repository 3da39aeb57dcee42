"""Bounds of a plan as limits on its cells and on sums of them: what binds, and what contradicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from causalmmm.data.bounds import Bound
from causalmmm.data.panel import Panel
from causalmmm.decisions.ahead import Ahead
from causalmmm.decisions.period import Floats, Stores
from causalmmm.engine.decisions import Allocation, Limits, Prices, StoreSums, Sums
from causalmmm.findings import RefusedInput, first_few, refusal, rounded

_SMALL = 1e-9
_SEEN = "A step's spend stays within what each store has spent in one before."


@dataclass(frozen=True)
class _Part:
    """Sums that a bound is about: the cells ``cells`` bool [C, W], in each of ``stores`` by itself
    or, with ``together``, in all of them;  lower, upper  [stores or 1] in money."""

    bound: Bound
    stores: Stores
    cells: NDArray[np.bool_]
    together: bool
    lower: Floats
    upper: Floats

    @property
    def single(self) -> bool:
        return not self.together and bool(self.cells.sum() == 1)

    def channel(self, stores: int) -> int | None:
        """The channel whose total over everything this is, if it is one."""
        whole = self.cells.all(1)
        if len(self.stores) < stores or whole.sum() != 1 or self.cells[~whole].any():
            return None
        return int(np.argmax(whole)) if self.together or stores == 1 else None

    def key(self, stores: int) -> bytes:
        """What is summed, one byte a store (where several are) and a cell."""
        members = np.isin(np.arange(stores), self.stores).tobytes() if self.together else b""
        return members + self.cells.tobytes()


@dataclass(frozen=True)
class Bounded:
    """Limits, and the bounds that they come from.

    parts  what each bound became;  rows  int64 of every part: the places of its sums among those
           of the limits, -1 where they are single cells.
    """

    limits: Limits
    parts: list[_Part]
    rows: list[Stores]

    def funded(self, budget: float) -> Bounded:
        """With a budget; refused where the bounds do not allow it."""
        low, high = self.limits.range()
        if not low * (1 - _SMALL) <= budget <= high * (1 + _SMALL):
            side = "less than the lower" if budget < low else "more than the upper"
            raise refusal(
                "infeasible-budget",
                f"The budget {rounded(budget)} is {side} bounds allow ({rounded(low)} to "
                f"{rounded(high)}).",
                f"Change the budget or the bounds. {_SEEN}",
            )
        return replace(self, limits=replace(self.limits, budget=min(max(budget, low), high)))


def limits_of(panel: Panel, ahead: Ahead, bounds: Sequence[Bound]) -> Bounded:
    """The limits of a plan, whose budget is the current plan's; refused where bounds contradict
    one another or what can be spent.

    A step's spend stays within what the store has spent in one before (or plans to).
    """
    money = torch.from_numpy(ahead.money).transpose(1, 2)  # [S, C, W]
    most = torch.maximum(torch.from_numpy(ahead.seen).unsqueeze(-1), money)
    least = torch.zeros_like(most)
    parts = [part for bound in bounds for part in _parts(panel, ahead, bound)]
    for part in parts:
        if part.single:
            _bound_cells(panel, ahead, part, least, most)
    limits = Limits(least, most, least.sum((0, 2)), most.sum((0, 2)), float(money.sum()))
    bounded = _with_sums(panel, limits, parts)
    _check(panel, bounded)
    return bounded


def _parts(panel: Panel, ahead: Ahead, bound: Bound) -> Iterator[_Part]:
    """The sums of a bound: of all its cells, or ``per`` store, channel and step."""
    stores, (_, steps, channels) = bound.stores, ahead.money.shape
    inside = np.ones(ahead.dates.shape, bool)  # [S, W]
    if bound.start is not None:
        inside &= ahead.dates >= bound.start
    if bound.end is not None:
        inside &= ahead.dates <= bound.end
    if not inside[stores].any():
        raise refusal(
            "bad-bound",
            f"No step of the plan lies in the dates of {bound.name} of the bounds.",
            f"The plan has {ahead.dates.min()} to {ahead.dates.max()}.",
            column="start",
        )
    each = bound.per
    alone = "store" in each or len(stores) == 1
    windows, place = np.unique(inside[stores], axis=0, return_inverse=True)
    if len(windows) > 1 and not alone:
        raise refusal(
            "bad-bound",
            f"The stores of {bound.name} of the bounds have plans of different dates.",
            "Leave out start and end, or bound each store (per: store).",
            column="start",
        )
    for number, window in enumerate(windows):
        members = stores[place.ravel() == number]
        days = np.flatnonzero(window)
        for some in [[c] for c in bound.channels] if "channel" in each else [bound.channels]:
            for when in [[d] for d in days] if "step" in each else [days]:
                cells = np.zeros((channels, steps), bool)
                cells[np.ix_(some, when)] = True
                current = (ahead.money[members] * cells.T).sum((1, 2))
                size = current if alone else current.sum(keepdims=True)
                unit = size if bound.unit == "share" else np.ones_like(size)
                free = np.isinf(bound.upper)
                upper = np.full_like(unit, np.inf) if free else bound.upper * unit
                yield _Part(bound, members, cells, not alone, bound.lower * unit, upper)


def _bound_cells(panel: Panel, ahead: Ahead, part: _Part, least: Tensor, most: Tensor) -> None:
    """Narrow the bounds [S, C, W] of single cells by those of a part."""
    ((c, w),) = np.argwhere(part.cells)
    cells = (part.stores, c, w)
    lower, upper = least.numpy(), most.numpy()
    before = upper[cells]
    lower[cells] = np.maximum(lower[cells], part.lower)
    upper[cells] = np.minimum(before, part.upper)
    wrong = np.flatnonzero(lower[cells] > upper[cells] * (1 + _SMALL))
    if len(wrong):
        store, first = part.stores[wrong[0]], wrong[0]
        channel = list(panel.schema.channels)[c]
        raise refusal(
            "infeasible-bounds",
            f"Channel '{channel}' must get {lower[cells][first]:,.6g} in store "
            f"'{panel.stores[store]}' on {ahead.dates[store, w]} ({part.bound.name} of the bounds) "
            f"but can take {upper[cells][first]:,.6g} at most.",
            f"Change the bounds. {_SEEN}",
            column=channel,
            store=str(panel.stores[store]),
        )
    lower[cells] = np.minimum(lower[cells], upper[cells])


def _with_sums(panel: Panel, limits: Limits, parts: Sequence[_Part]) -> Bounded:
    """The limits with the sums of parts that are more than single cells."""
    stores, channels, steps = limits.lower.shape
    own: dict[bytes, int] = {}  # patterns of cells within a store
    shared: dict[bytes, int] = {}
    for part in parts:
        if part.channel(stores) is None and not part.single:
            known = shared if part.together else own
            known.setdefault(part.key(stores), len(known))
    low, high = np.full((stores, len(own)), -np.inf), np.full((stores, len(own)), np.inf)
    least, most = np.full(len(shared), -np.inf), np.full(len(shared), np.inf)
    totals = limits.channel_lower.numpy().copy(), limits.channel_upper.numpy().copy()
    rows: list[Stores] = []
    for part in parts:
        ends: tuple[Floats, Floats]
        cell: Any
        if part.single:
            rows.append(np.full(len(part.stores), -1))
            continue
        if (c := part.channel(stores)) is not None:
            ends, cell, row = totals, np.array([c]), np.array([stores * len(own) + len(shared) + c])
        elif part.together:
            cell = np.array([shared[part.key(stores)]])
            ends, row = (least, most), stores * len(own) + cell
        else:
            place = own[part.key(stores)]
            ends, cell = (low, high), (part.stores, place)
            row = part.stores * len(own) + place
        ends[0][cell] = np.maximum(ends[0][cell], part.lower)
        ends[1][cell] = np.minimum(ends[1][cell], part.upper)
        rows.append(row)
    _check_channels(panel, *totals)
    sums = store_sums = None
    if shared:
        flags = np.frombuffer(b"".join(shared), bool).reshape(len(shared), -1).copy()
        cells = flags[:, stores:].reshape(-1, channels, steps)
        sums = Sums(*map(torch.from_numpy, (cells, flags[:, :stores], least, most)))
    if own:
        cells = np.frombuffer(b"".join(own), bool).reshape(-1, channels, steps).copy()
        store_sums = StoreSums(*map(torch.from_numpy, (cells, low, high)))
    floor, ceiling = torch.from_numpy(np.minimum(*totals)), torch.from_numpy(totals[1])
    cells_of = (limits.lower, limits.upper)
    limits = Limits(*cells_of, floor, ceiling, limits.budget, sums, store_sums)
    return Bounded(limits, list(parts), rows)


def _check_channels(panel: Panel, lower: Floats, upper: Floats) -> None:
    for c in np.flatnonzero(lower > upper * (1 + _SMALL))[:1]:
        name = list(panel.schema.channels)[c]
        raise refusal(
            "infeasible-bounds",
            f"Channel '{name}' must get {lower[c]:,.6g} but can take {upper[c]:,.6g} at most.",
            f"Change its bounds, or plan more steps. {_SEEN}",
            column=name,
        )


def _check(panel: Panel, bounded: Bounded) -> None:
    """Refuse bounds on sums that cannot all be kept, and say which."""
    limits = bounded.limits
    if limits.sums is None and limits.store_sums is None:
        return
    beyond = replace(limits, budget=float("nan")).missed().numpy()
    if not beyond.any():
        return
    raise _contradiction(panel, bounded, beyond)


def _contradiction(panel: Panel, bounded: Bounded, beyond: Floats) -> RefusedInput:
    """beyond  [rows], by how much each sum misses its bound where as much as can be is kept."""
    told: dict[str, str] = {}
    channels = np.array(list(panel.schema.channels), object)
    for part, rows in zip(bounded.parts, bounded.rows, strict=True):
        missed = np.where(rows >= 0, beyond[rows], 0.0)
        for n in np.flatnonzero(missed)[:1]:
            least = missed[n] < 0
            amount = part.lower[n] if least else part.upper[n]
            names = channels[part.cells.any(1)]
            where = part.bound.store if part.together else panel.stores[part.stores[n]]
            what = "all channels" if len(names) == len(channels) > 1 else first_few(names, 3)
            told.setdefault(
                part.bound.name,
                f"{part.bound.name} ({what} in {where}: {'at least' if least else 'at most'} "
                f"{amount:,.6g})",
            )
    listed = list(told.values())
    clash = " and ".join([", ".join(listed[:-1]), listed[-1]] if len(listed) > 1 else listed)
    return refusal(
        "infeasible-bounds",
        f"Bounds that cannot be kept together: {clash}."
        if len(listed) > 1
        else f"The bound of {clash} cannot be kept within the others.",
        f"Change one of them, or plan more steps. {_SEEN}",
    )


def bounds_frame(
    panel: Panel, ahead: Ahead, bounded: Bounded, found: Allocation, price: Prices
) -> pd.DataFrame:
    """A row for every sum that is bounded; see ``Budget.bounds``."""
    money = found.money.numpy()  # [S, C, W]
    channels = list(panel.schema.channels)
    marginal = found.marginal.numpy() - price.budget
    sums = price.sums.numpy()
    frames = []
    for part, rows in zip(bounded.parts, bounded.rows, strict=True):
        chosen, cells = part.stores, part.cells
        spend = (money[chosen] * cells).sum((1, 2))
        current = (ahead.money[chosen] * cells.T).sum((1, 2))
        days = np.flatnonzero(cells.any(0))
        names = np.flatnonzero(cells.any(1))
        value = (marginal[chosen] * cells).sum((1, 2)) if part.single else sums[rows]
        if part.together:
            spend, current = spend.sum(keepdims=True), current.sum(keepdims=True)
            stores = np.array([part.bound.store])
            dates = ahead.dates[chosen[:1]][:, days]
        else:
            stores, dates = panel.stores[chosen], ahead.dates[chosen][:, days]
            if "store" not in part.bound.per:  # one store, perhaps by its group's name
                stores = np.array([part.bound.store])
        slack = 1e-6 * np.where(np.isfinite(part.upper), part.upper, part.lower)
        limit = np.where((spend <= part.lower + slack) & (part.lower > 0), "lower", "")
        limit = np.where(spend >= part.upper - slack, "upper", limit)
        frames.append(
            pd.DataFrame(
                {
                    "bound": part.bound.name,
                    "store": stores.astype(object),
                    "channel": channels[names[0]] if len(names) == 1 else part.bound.channel,
                    "start": dates[:, 0].astype("datetime64[ns]"),
                    "end": dates[:, -1].astype("datetime64[ns]"),
                    "min": part.lower,
                    "max": np.where(np.isinf(part.upper), np.nan, part.upper),
                    "current": current,
                    "spend": spend,
                    "limit": limit,
                    "price": np.where(limit == "", 0.0, value),
                }
            )
        )
    columns = ["bound", "store", "channel", "start", "end", "min", "max", "current", "spend",
               "limit", "price"]  # fmt: skip
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)
