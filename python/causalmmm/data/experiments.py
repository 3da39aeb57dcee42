"""Experiments that measured a channel's lift: the table, checked against a panel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalmmm.data.panel import Panel
from causalmmm.data.readers import Readable, open_source
from causalmmm.dates import Days, parse_dates
from causalmmm.findings import Finding, PanelError, Report, closest, first_few, refusal

ALL = "ALL"
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
    source = open_source(table, lambda name: name not in ("lift", "lift_se", "spend"))
    missing = [name for name in NEEDED if name not in source.names]
    if missing:
        hint = closest(missing[0], source.names)
        raise refusal(
            "missing-column",
            f"The experiments have no column {first_few(missing)}.",
            f"{hint}Needed are {', '.join(NEEDED)}; optional {', '.join(OPTIONAL)}.",
            kind=PanelError,
            column=missing[0],
        )
    if not source.rows:
        raise refusal("no-rows", "The experiments have no rows.", "Add them.", kind=PanelError)
    columns = {n: source.column(n) for n in (*NEEDED, *OPTIONAL) if n in source.names}
    check = _Check(panel)
    days = {name: check.days(columns[name], name) for name in ("start", "end")}
    read = [
        check.row(
            number + 1,
            {name: values.iloc[number] for name, values in columns.items()},
            days["start"][number],
            days["end"][number],
        )
        for number in range(source.rows)
    ]
    Report.of(check.findings).raise_for_errors()
    return [experiment for experiment in read if experiment is not None]


class _Check:
    """Reads rows one by one and remembers what is wrong with them."""

    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        self.names = panel.stores.tolist()
        self.paid = panel.schema.channels
        self.findings: list[Finding] = []

    def days(self, series: pd.Series[Any], column: str) -> Days:
        """datetime64[D] of every row, read as the dates of a panel are."""
        parsed = parse_dates(series, column)
        self.findings += parsed.findings
        for wrong in np.flatnonzero(np.isnat(parsed.days)):
            value = series.iloc[int(wrong)]
            what = "is empty" if pd.isna(value) else f"contains '{value}' instead of a date"
            self.findings.append(
                Finding(
                    "error",
                    "missing-date" if pd.isna(value) else "unparsable-date",
                    f"Column '{column}' of the experiments {what} in row {wrong + 1}.",
                    "Write dates as YYYY-MM-DD.",
                    column=column,
                )
            )
        return parsed.days

    def row(
        self, number: int, row: dict[str, Any], first: np.datetime64, last: np.datetime64
    ) -> Experiment | None:
        before = len(self.findings)
        store, channel = str(row["store"]), str(row["channel"])
        if store != ALL and store not in self.names:
            self._wrong(number, "store", f"has no store '{store}' of the panel", store, self.names)
        if channel not in self.paid:
            self._wrong(
                number, "channel", f"has no paid channel '{channel}'", channel, list(self.paid)
            )
        lift = self._number(number, row, "lift")
        error = self._number(number, row, "lift_se", above=0.0)
        spend = row.get("spend", np.nan)
        if not pd.isna(spend):
            spend = self._number(number, row, "spend", above=0.0)
        words: dict[str, str] = {}
        for name, known in (("scope", SCOPES), ("design", DESIGNS)):
            value = row.get(name, np.nan)
            words[name] = str(OPTIONAL[name] if pd.isna(value) else value)
            if words[name] not in known:
                self._wrong(number, name, f"has {name} '{value}'; it is one of {', '.join(known)}")
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
            self._wrong(number, "end", f"ends on {end}, before it starts on {start}")
        elif start <= first - step or end >= last + step or not inside.any():
            span = f"is from {start} to {end}; the panel has {first} to {last} there"
            self._wrong(number, "start", span)

    def _number(self, number: int, row: dict[str, Any], name: str, above: float = -np.inf) -> float:
        try:
            value = float(row[name])
        except (ValueError, TypeError):
            value = np.nan
        if not (np.isfinite(value) and value > above):
            bound = "" if above == -np.inf else f" above {above:g}"
            self._wrong(number, name, f"has {name} '{row[name]}', which is no number{bound}")
        return value

    def _wrong(
        self, number: int, column: str, what: str, name: str = "", known: list[str] | None = None
    ) -> None:
        remedy = closest(name, known) if known else ""
        self.findings.append(
            Finding(
                "error",
                "bad-experiment",
                f"Row {number} of the experiments {what}.",
                f"{remedy}Correct the row.",
                column=column,
            )
        )
