"""Bounds on the spend of a plan: the table, checked against a panel.

What they mean for a budget is decided in ``causalmmm.decisions``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalmmm.data.panel import Panel
from causalmmm.data.readers import Readable
from causalmmm.data.records import ALL, RecordCheck, read_records
from causalmmm.findings import PanelError, Report, closest, first_few, refusal, unknown_store

COLUMNS = ("store", "channel", "start", "end", "min", "max", "unit", "per")
UNITS = ("money", "share")
PER = ("store", "channel", "step")


@dataclass(frozen=True)
class Bound:
    """One row of a table of bounds.

    name        the row in a message;  store, channel  as the table has them.
    stores      int64, places of its stores in the panel;  channels  int64, of its paid channels.
    start, end  first and last day, both included; None: from the first step, to the last.
    lower, upper  in money, or with ``unit`` "share" relative to the current plan; upper may be
                infinite.
    per         of "store", "channel", "step": each of them by itself instead of their sum.
    """

    name: str
    store: str
    channel: str
    stores: NDArray[np.int64]
    channels: NDArray[np.int64]
    start: np.datetime64 | None
    end: np.datetime64 | None
    lower: float
    upper: float
    unit: str
    per: frozenset[str]


def read_bounds(
    table: Readable, panel: Panel, groups: Mapping[str, str] | None = None
) -> list[Bound]:
    """Rows of a table of bounds: store (a store, a group or ``ALL``), channel (or ``ALL``), start,
    end, min, max, unit, per; all but one of min and max may be left out or empty.

    groups  store -> group. Raises ``PanelError`` that lists everything wrong, by row.
    """
    frame = read_records(table, "bounds", (), COLUMNS, others=False)
    if not {"min", "max"} & set(frame):
        message = "The bounds have neither a column 'min' nor a column 'max'."
        raise refusal("missing-column", message, "Add one.", kind=PanelError, column="max")
    check = _Check(panel, groups or {})
    nothing = pd.Series(np.full(len(frame), np.datetime64("NaT", "s")))
    days = zip(
        *(check.days(frame.get(n, nothing), n, needed=False) for n in ("start", "end")), strict=True
    )
    rows = zip(frame.to_dict("records"), days, strict=True)
    read = [check.row(number, row, *span) for number, (row, span) in enumerate(rows, 1)]
    Report.of(check.findings).raise_for_errors()
    return [bound for bound in read if bound is not None]


def channel_bounds(given: Mapping[str, tuple[float, float]], panel: Panel) -> list[Bound]:
    """Bounds on the totals of channels, relative to the current plan; (1, 1) keeps every cell."""
    names = list(panel.schema.channels)
    bounds = []
    for name, (low, high) in given.items():
        if name not in names:
            paid = f"{closest(name, names)}Paid channels: {first_few(names)}."
            raise ValueError(f"no channel '{name}' is paid for. {paid}")
        if not 0 <= low <= high:
            raise ValueError(f"bounds of channel '{name}' are (lower, upper), 0 <= lower <= upper")
        stores, place = np.arange(panel.n_stores), np.array([names.index(name)])
        ends, per = (float(low), float(high)), frozenset(PER if low == high == 1 else ())
        whole = (name, ALL, name, stores, place, None, None)
        bounds.append(Bound(*whole, *ends, "share", per))
    return bounds


class _Check(RecordCheck):
    """Reads rows one by one and remembers what is wrong with them."""

    def __init__(self, panel: Panel, groups: Mapping[str, str]) -> None:
        super().__init__(panel, "bounds", "bad-bound")
        self.stores: dict[str, list[int]] = {ALL: list(range(panel.n_stores))}
        for place, store in enumerate(self.names):
            self.stores[store] = [place]
        for store in groups:
            if store not in self.stores:
                hint = unknown_store(store, self.names)
                raise ValueError(f"groups name store '{store}', which is not in the panel. {hint}")
        for group in dict.fromkeys(groups.values()):
            if group in self.stores:
                raise ValueError(f"group '{group}' has the name of a store; rename it")
            members = [n for n, store in enumerate(self.names) if groups.get(store) == group]
            self.stores[group] = members

    def row(
        self, number: int, row: dict[Any, Any], first: np.datetime64, last: np.datetime64
    ) -> Bound | None:
        before = len(self.findings)
        row = {name: value for name, value in row.items() if not pd.isna(value) and value != ""}
        store, channel = (str(row.get(name, ALL)) for name in ("store", "channel"))
        if store not in self.stores:
            what = f"has no store or group '{store}'"
            self.wrong(number, "store", what, store, list(self.stores))
        if channel != ALL and channel not in self.paid:
            what = f"has channel '{channel}', but no channel '{channel}' is paid for"
            self.wrong(number, "channel", what, channel, list(self.paid))
        unit = self.word(number, row, "unit", "money", UNITS)
        ends = [
            self.number(number, row, name, least=0.0) if name in row else default
            for name, default in (("min", 0.0), ("max", np.inf))
        ]
        per = frozenset(str(row.get("per", "")).replace(",", " ").split())
        if unknown := sorted(per - set(PER)):
            known = ", ".join(PER)
            self.wrong(number, "per", f"has '{unknown[0]}' in per; its words are {known}")
        if "min" not in row and "max" not in row:
            self.wrong(number, "max", "has neither min nor max")
        if ends[0] > ends[1]:
            self.wrong(number, "min", f"has min {ends[0]:g} above max {ends[1]:g}")
        if len(self.findings) > before:
            return None
        names = list(self.paid)
        places = range(len(names)) if channel == ALL else [names.index(channel)]
        return Bound(
            f"row {number}",
            store,
            channel,
            np.array(self.stores[store], np.int64),
            np.array(places, np.int64),
            None if np.isnat(first) else first,
            None if np.isnat(last) else last,
            ends[0],
            ends[1],
            unit,
            per,
        )
