"""Which rows of a panel a question is about, and what a change there is worth. Without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from causalmmm.data.panel import Panel
from causalmmm.findings import unknown_store

if TYPE_CHECKING:
    from causalmmm.engine.decisions.system import System

Stores = NDArray[np.int64]
Floats = NDArray[np.float64]
By = Literal["store", "total"] | Mapping[str, str]
# Steps after a period whose carry-over is counted: how long effects last, of which the usual
# horizon of a forecast, the same numbers today, says nothing.
TAIL = {"D": 28, "W": 13, "M": 3}
YEAR = {"D": 365, "W": 52, "M": 12}  # last steps that tell how much is spent
EVERYTHING = "all channels"


class Systems(Protocol):
    """Where the equations of stores come from: a fitted model asked about a panel."""

    def groups(
        self, steps: int, *, last_rows: int | None = None, draws: int | None = None
    ) -> list[Stores]:
        """Positions of stores that are answered for together, of equal history; arguments as of
        :meth:`system`, with ``steps`` after the history."""
        ...

    def system(
        self,
        stores: Stores,
        ahead: Floats,
        *,
        last_rows: int | None = None,
        draws: int | None = None,
    ) -> System:
        """Equations over the last rows of the history (None: all of it) and H steps after it.

        ahead  [B, H, C]: input of every channel and organic channel there, in the user's units.
        draws  no more joint draws than these; None: as many as the model takes.
        """
        ...

    def scale(self, stores: Stores) -> Floats:
        """[B, N]: a unit of the equations' series in the user's units."""
        ...


@dataclass(frozen=True)
class Period:
    """Steps from ``start`` to ``end``, both included; None: from the first, to the last."""

    start: np.datetime64 | None
    end: np.datetime64 | None

    @classmethod
    def of(cls, panel: Panel, start: str | None, end: str | None) -> Period:
        """``ValueError`` when a date cannot be read, or no row lies between them."""
        first, last = (_day(value, name) for value, name in ((start, "start"), (end, "end")))
        period, grid = cls(first, last), panel.data.grid
        if not period.holds(grid).any():
            raise ValueError(
                f"no date of the panel lies between {start or 'its start'} and "
                f"{end or 'its end'}; it runs from {grid[0]} to {grid[-1]}"
            )
        return period

    def holds(self, days: NDArray[np.datetime64]) -> NDArray[np.bool_]:
        inside = np.ones(days.shape, bool)
        if self.start is not None:
            inside &= days >= self.start
        if self.end is not None:
            inside &= days <= self.end
        return inside

    def counted(self, days: NDArray[np.datetime64], tail: int) -> tuple[NDArray[np.bool_], ...]:
        """bool [B, T + tail] each, of dates [B, T]: steps of the period; steps whose change is
        counted, those and ``tail`` more."""
        inside = np.pad(self.holds(days), ((0, 0), (0, tail)))
        counted = inside.copy()
        for later in range(1, tail + 1):
            counted[:, later:] |= inside[:, :-later]
        return inside, counted


def groups_of(panel: Panel, by: By) -> tuple[list[str], Stores]:
    """Names of the groups, and the group of every store; -1 where a store is in none."""
    if by == "total":
        return ["all stores"], np.zeros(panel.n_stores, np.int64)
    if by == "store":
        return panel.stores.tolist(), np.arange(panel.n_stores)
    if not isinstance(by, Mapping):
        raise ValueError(f"by is 'store', 'total' or a mapping from store to group, got {by!r}")
    unknown = [name for name in by if name not in set(panel.stores.tolist())]
    if unknown:
        names = panel.stores.tolist()
        hint = unknown_store(unknown[0], names)
        raise ValueError(f"by names store '{unknown[0]}', which the panel does not have. {hint}")
    names = list(dict.fromkeys(by.values()))
    number = {name: k for k, name in enumerate(names)}
    place = [number.get(by.get(store, ""), -1) for store in panel.stores.tolist()]
    return names, np.array(place, np.int64)


def days_of(panel: Panel, stores: Stores) -> NDArray[np.datetime64]:
    """[B, T]: dates of stores of equal history."""
    data = panel.data
    steps = np.arange(panel.lengths[stores[0]])
    days: NDArray[np.datetime64] = data.grid[data.start[stores][:, None] + steps]
    return days


def recent_steps(panel: Panel, window: int) -> Panel:
    """What a model reads of every history: its last ``window`` steps."""
    return panel if panel.lengths.max() <= window else panel.tail(window)


def read_period(
    panel: Panel, window: int, start: str | None, end: str | None
) -> tuple[Panel, Period]:
    """What a model reads of a panel, and the period in it."""
    recent, period = recent_steps(panel, window), Period.of(panel, start, end)
    first, begin = (p.data.grid[p.data.start] for p in (panel, recent))  # of every store
    unread = first < begin
    if period.start is not None and (period.start < begin[unread]).any():
        raise ValueError(
            f"the model reads the last {window} steps of a history, from "
            f"{begin[unread].max()} on: start there, or fit with a longer window"
        )
    return recent, Period.of(recent, start, end)


def worth(panel: Panel, stores: Stores, tail: int) -> Floats:
    """[B, T + tail]: what a unit of the target is worth in stores of equal history."""
    steps = np.arange(panel.lengths[stores[0]])
    return worth_of(panel, panel.data.offsets[stores][:, None] + steps, tail)


def worth_of(panel: Panel, rows: Stores, tail: int) -> Floats:
    """[B, T + tail]: money per unit of the target where the panel says so, else one, in these rows
    [B, T] of the panel and ``tail`` steps more."""
    count, length = rows.shape
    if panel.revenue_per_target is None:
        return np.ones((count, length + tail))
    rate = panel.revenue_per_target[rows].astype(np.float64)
    last = rate[:, -min(length, 13) :].mean(1, keepdims=True)
    return np.concatenate([rate, np.repeat(last, tail, 1)], 1)


def recent_input(panel: Panel, stores: Stores, steps: int, recent: int) -> Floats:
    """[B, steps, C]: what goes on after the history: each channel's mean over the ``recent`` last
    steps, pauses included."""
    senders = sum(role in ("channel", "organic") for role in panel.data.roles)
    ends = panel.data.offsets[stores + 1]
    used = np.minimum(panel.lengths[stores], recent)
    mean = [
        panel.data.values[end - n : end, :senders].mean(0, dtype=np.float64)
        for end, n in zip(ends, used, strict=True)
    ]
    return np.repeat(np.stack(mean)[:, None], steps, 1)


def usual_amounts(panel: Panel) -> Floats:
    """[S, N]: what a series usually is where it runs: its mean over the steps of a store's last
    year in which it is not zero, as a channel with pauses never has the mean of all steps; zero
    where it was always zero."""
    recent = last_year(panel)
    values, begin = recent.data.values, recent.data.offsets[:-1]
    runs = np.add.reduceat(values != 0, begin, 0, dtype=np.int64)
    amounts: Floats = np.add.reduceat(values, begin, 0, dtype=np.float64) / np.maximum(runs, 1)
    return amounts


def last_year_money(panel: Panel) -> Floats:
    """[S, C]: each store's mean money a step, pauses included, of every paid channel over its last
    year: what a plan goes on with where nothing else is said."""
    recent = last_year(panel)
    return store_means(recent, recent.spend)


def last_year(panel: Panel) -> Panel:
    """The last steps of every store, a year of them at most."""
    return panel.tail(YEAR[panel.freq[0]])


def store_means(panel: Panel, rows: NDArray[Any]) -> Floats:
    """[S, K]: mean over each store's steps of ``rows`` [rows of the panel, K]."""
    total = np.add.reduceat(rows, panel.data.offsets[:-1], 0, dtype=np.float64)
    mean: Floats = total / panel.lengths[:, None]
    return mean


def tail_of(panel: Panel) -> int:
    return TAIL[panel.freq[0]]


def _day(value: str | None, name: str) -> np.datetime64 | None:
    if value is None:
        return None
    try:
        return np.datetime64(value, "D")
    except ValueError:
        raise ValueError(f"{name} is a date like 2024-12-31, got {value!r}") from None
