"""Experiments that measured a channel's lift: the table, checked against a panel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalmmm.data.panel import Panel
from causalmmm.data.readers import Readable
from causalmmm.data.records import ALL, RecordCheck, read_records
from causalmmm.findings import Report

NEEDED = ("store", "channel", "start", "end", "lift", "lift_se")
OPTIONAL = {"spend": np.nan, "scope": "total", "design": "holdback"}
SCOPES = ("total", "immediate")
DESIGNS = ("holdback", "heavy-up", "go-dark")


@dataclass(frozen=True)
class Experiment:
    """One measured lift.

    stores      int64, places of the tested stores in the panel;  ``store`` as the table has it.
    start, end  first and last day of the window, ISO text.
    lift        what the spend added to the target (in money where the panel has
                ``revenue_per_target``), with its standard error ``lift_se``.
    spend       money that made the difference; NaN: all the channel's money of the window.
    scope       "total" counts carry-over after the window, "immediate" the window alone.
    design      "holdback" and "heavy-up": the panel contains the spend; "go-dark": it lacks it.
    """

    store: str
    stores: NDArray[np.int64]
    channel: str
    start: str
    end: str
    lift: float
    lift_se: float
    spend: float
    scope: str
    design: str

    @property
    def title(self) -> str:
        return f"{self.channel} in {self.store}, {self.start} to {self.end}"

    def to_json(self) -> dict[str, Any]:
        """The row of the table, as JSON holds it."""
        names = (*NEEDED, *OPTIONAL)
        row = {name: getattr(self, name) for name in names}
        return row | {"spend": None if np.isnan(self.spend) else self.spend}


def read_experiments(table: Readable, panel: Panel) -> list[Experiment]:
    """Rows of a table of experiments: store (or ``ALL``), channel, start, end, lift, lift_se, and
    where wanted spend, scope and design.

    Raises ``PanelError`` that lists everything wrong, by row.
    """
    frame = read_records(table, "experiments", NEEDED, tuple(OPTIONAL))
    check = _Check(panel)
    days = zip(*(check.days(frame[name], name) for name in ("start", "end")), strict=True)
    rows = zip(frame.to_dict("records"), days, strict=True)
    read = [check.row(number, row, *span) for number, (row, span) in enumerate(rows, 1)]
    Report.of(check.findings).raise_for_errors()
    return [experiment for experiment in read if experiment is not None]


class _Check(RecordCheck):
    """Reads rows one by one and remembers what is wrong with them."""

    def __init__(self, panel: Panel) -> None:
        super().__init__(panel, "experiments", "bad-experiment")

    def row(
        self, number: int, row: dict[Any, Any], first: np.datetime64, last: np.datetime64
    ) -> Experiment | None:
        before = len(self.findings)
        store, channel = str(row["store"]), str(row["channel"])
        if store != ALL and store not in self.names:
            self.wrong(number, "store", f"has no store '{store}' of the panel", store, self.names)
        if channel not in self.paid:
            self.wrong(
                number, "channel", f"has no paid channel '{channel}'", channel, list(self.paid)
            )
        lift = self.number(number, row, "lift")
        error = self.number(number, row, "lift_se", above=0.0)
        spend = row.get("spend", np.nan)
        if not pd.isna(spend):
            spend = self.number(number, row, "spend", above=0.0)
        words = {
            name: self.word(number, row, name, str(OPTIONAL[name]), known)
            for name, known in (("scope", SCOPES), ("design", DESIGNS))
        }
        if len(self.findings) > before or np.isnat(first) or np.isnat(last):
            return None
        chosen = range(len(self.names)) if store == ALL else [self.names.index(store)]
        stores = np.array(chosen, np.int64)
        self._window(number, stores, first, last)
        return Experiment(
            store, stores, channel, str(first), str(last), lift, error, float(spend), **words
        )

    def _window(
        self, number: int, stores: NDArray[np.int64], start: np.datetime64, end: np.datetime64
    ) -> None:
        """Whether the window lies in the histories of the stores; a last step may be cut."""
        grid = self.panel.data.grid
        first = grid[self.panel.data.start[stores].max()]
        last = grid[(self.panel.data.start[stores] + self.panel.lengths[stores]).min() - 1]
        step = grid[1] - grid[0]
        inside = (grid >= start) & (grid <= end)
        if start > end:
            self.wrong(number, "end", f"ends on {end}, before it starts on {start}")
        elif start <= first - step or end >= last + step or not inside.any():
            span = f"is from {start} to {end}; the panel has {first} to {last} there"
            self.wrong(number, "start", span)
