"""The layout of a table: row order, store offsets, frequency, and gaps or duplicates in them.

Looks only at stores and dates, never at values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from causalmmm.data.keys import Keys
from causalmmm.dates import WEEKDAYS, Days, is_month_end, next_steps, on_step, step_number, weekday
from causalmmm.findings import Finding, counted

# Findings that recur store by store are listed for this many stores; the rest are counted.
LISTED = 10

PERIOD_WORDS = {"D": "daily", "MS": "monthly"}


@dataclass
class Layout:
    """The rows of a table in store and date order.

    stores    str [S], sorted.
    order     int64 [rows]: file row of each sorted row; None if the file is in order already.
    offsets   int64 [S + 1] into the sorted rows.
    days      datetime64[D] [rows], sorted like the rows.
    freq      frequency detected or declared; None if neither.
    """

    stores: NDArray[np.str_]
    order: NDArray[np.int64] | None
    offsets: NDArray[np.int64]
    days: Days
    freq: str | None = None
    findings: list[Finding] = field(default_factory=list)

    def sort(self, column: NDArray[np.generic]) -> NDArray[np.generic]:
        """A column of the file, in store and date order."""
        return column if self.order is None else column[self.order]

    def store_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Index of the store that owns each sorted row."""
        return np.searchsorted(self.offsets, rows, side="right") - 1

    @property
    def first_days(self) -> Days:
        return self.days[self.offsets[:-1]]


def lay_out(keys: Keys, declared: str | None, min_steps: int, date_column: str) -> Layout:
    """Sort the rows and check that every store has each step of its span exactly once.

    declared  the frequency in the schema or of the panel, if any.

    Rows without store or date are ignored here: they already have a finding of their own.
    """
    stores, codes, days = keys.stores, keys.codes, keys.days
    usable = (codes >= 0) & ~np.isnat(days)
    kept = None if usable.all() else np.flatnonzero(usable)
    if kept is not None:
        codes, days = codes[kept], days[kept]
    number = days.astype(np.int64)
    span = int(number.max() - number.min()) + 1 if len(number) else 1
    key = codes.astype(np.int64) * span + (number - (number.min() if len(number) else 0))
    order: NDArray[np.int64] | None = None
    if len(key) and (np.diff(key) < 0).any():
        order = np.argsort(key, kind="stable")
        days, key = days[order], key[order]
    counts = np.bincount(codes, minlength=len(stores)) if len(codes) else np.zeros(0, np.int64)
    present = counts > 0
    offsets = np.concatenate([[0], np.cumsum(counts[present])]).astype(np.int64)
    if kept is not None:
        order = kept if order is None else kept[order]
    layout = Layout(stores[present], order, offsets, days)
    if not len(days):
        return layout
    layout.findings += _repeated_rows(layout, key, date_column)
    layout.findings += _short_histories(layout, min_steps)
    if np.diff(layout.offsets).max() < min_steps:
        return layout  # too few steps to detect a frequency
    odd = _detect_frequency(layout, declared, date_column)
    if layout.freq is not None:
        layout.findings += _off_grid(layout, odd, date_column)
        layout.findings += _gaps(layout, odd, date_column)
    return layout


def per_store(
    layout: Layout, rows: NDArray[np.int64]
) -> Iterator[tuple[str | None, NDArray[np.int64], int]]:
    """Sorted rows grouped by store as (store, rows, 1), at most ``LISTED`` of them, then one
    (None, remaining rows, number of remaining stores)."""
    if not len(rows):
        return
    owner = layout.store_of(rows)
    owners, first = np.unique(owner, return_index=True)
    ends = np.append(first[1:], len(rows))
    for s, begin, end in list(zip(owners, first, ends, strict=True))[:LISTED]:
        yield str(layout.stores[s]), rows[begin:end], 1
    if len(owners) > LISTED:
        yield None, rows[first[LISTED] :], len(owners) - LISTED


def _repeated_rows(layout: Layout, key: NDArray[np.int64], column: str) -> list[Finding]:
    repeated = np.flatnonzero(key[1:] == key[:-1]) + 1
    findings = []
    for store, rows, more in per_store(layout, repeated):
        date = str(layout.days[rows[0]])
        where = f"Store '{store}'" if store is not None else f"{more} more stores"
        findings.append(
            Finding(
                "error",
                "duplicate-row",
                f"{where}: {counted(len(rows), 'row')} with a repeated date, first {date}.",
                "Sum the rows of each date, or remove all but one.",
                column=column,
                store=store,
                date=date,
                rows=len(rows),
            )
        )
    return findings


def _detect_frequency(layout: Layout, declared: str | None, column: str) -> NDArray[np.bool_]:
    """Set ``layout.freq``; return bool [S]: stores with another frequency than most."""
    step, anchor = _steps_of_stores(layout)
    regular = step >= 0
    none = np.zeros(len(step), dtype=bool)
    if not regular.any():
        if declared is not None and declared != "W":
            layout.freq = declared
            _month_ends(layout, column)
            return none
        layout.findings.append(
            Finding(
                "error",
                "no-frequency",
                f"The dates in column '{column}' are neither daily, weekly nor monthly.",
                "Aggregate the rows to one per day, week or month (dated by its first day).",
                column=column,
                store=str(layout.stores[0]),
                date=str(layout.days[0]),
            )
        )
        return none
    common = int(np.argmax(np.bincount(step[regular], minlength=3)))
    weekly_on = int(np.argmax(np.bincount(anchor[step == common], minlength=7)))
    detected = ("D", f"W-{WEEKDAYS[weekly_on]}", "MS")[common]
    layout.freq = detected
    if declared is not None and declared not in (detected, detected[:1]):
        layout.findings.append(
            Finding(
                "error",
                "wrong-frequency",
                f"The dates in column '{column}' are {describe_freq(detected)}, but freq is "
                f"'{declared}'.",
                f"Aggregate the rows to {describe_freq(declared)} steps, or, for a panel, write "
                f"freq: {detected} in the schema.",
                column=column,
                date=str(layout.days[0]),
            )
        )
    _month_ends(layout, column)
    odd = regular & ((step != common) | ((common == 1) & (anchor != weekly_on)))
    layout.findings += _mixed(layout, odd, step, anchor, column)
    return odd


def _month_ends(layout: Layout, column: str) -> None:
    """Date months by their first day if all of them are dated by their last."""
    if layout.freq == "MS" and is_month_end(layout.days).all():
        layout.days = layout.days.astype("datetime64[M]").astype("datetime64[D]")
        layout.findings.append(
            Finding(
                "notice",
                "month-end-dates",
                f"Dates in column '{column}' are month ends; the first of the month is used.",
                column=column,
            )
        )


def _steps_of_stores(layout: Layout) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """int64 [S] each: most common step (0 day, 1 week, 2 month, -1 other) and weekday."""
    n_stores = len(layout.stores)
    owner = np.repeat(np.arange(n_stores), np.diff(layout.offsets))
    gap = np.diff(layout.days).astype(np.int64)
    kind = np.full(len(gap), -1, dtype=np.int8)
    kind[gap == 1] = 0
    kind[gap == 7] = 1
    kind[(gap >= 28) & (gap <= 31)] = 2
    kind[layout.offsets[1:-1] - 1] = -1  # from the end of one store to the start of the next
    regular = kind >= 0
    counts = np.bincount(owner[1:][regular] * 3 + kind[regular], minlength=n_stores * 3)
    counts = counts.reshape(n_stores, 3)
    step = np.where(counts.any(axis=1), counts.argmax(axis=1), -1)
    on = np.bincount(owner * 7 + weekday(layout.days), minlength=n_stores * 7)
    return step, on.reshape(n_stores, 7).argmax(axis=1)


def _mixed(
    layout: Layout,
    odd: NDArray[np.bool_],
    step: NDArray[np.int64],
    anchor: NDArray[np.int64],
    column: str,
) -> list[Finding]:
    remedy = "Use one frequency for all stores, and one first day for all weeks."
    stores = np.flatnonzero(odd)
    findings = []
    for s in stores[:LISTED]:
        own = ("D", f"W-{WEEKDAYS[anchor[s]]}", "MS")[step[s]]
        store, date = str(layout.stores[s]), str(layout.first_days[s])
        findings.append(
            Finding(
                "error",
                "mixed-frequency",
                f"Store '{store}' is {describe_freq(own)} from {date}, but the panel is "
                f"{describe_freq(layout.freq)}.",
                remedy,
                column=column,
                store=store,
                date=date,
                rows=int(layout.offsets[s + 1] - layout.offsets[s]),
            )
        )
    if len(stores) > LISTED:
        message = f"{len(stores) - LISTED} more stores have another frequency than the panel."
        findings.append(Finding("error", "mixed-frequency", message, remedy, column=column))
    return findings


def _off_grid(layout: Layout, odd: NDArray[np.bool_], column: str) -> list[Finding]:
    freq = layout.freq or "D"
    off = np.flatnonzero(~on_step(layout.days, freq))
    findings = []
    for store, rows, more in per_store(layout, off[~odd[layout.store_of(off)]]):
        date = str(layout.days[rows[0]])
        where = f"Store '{store}'" if store is not None else f"{more} more stores"
        findings.append(
            Finding(
                "error",
                "irregular-date",
                f"{where}: {counted(len(rows), 'date')} not on the {describe_freq(freq)} grid, "
                f"first {date}.",
                "Move each row to the date of its step.",
                column=column,
                store=store,
                date=date,
                rows=len(rows),
            )
        )
    return findings


def _gaps(layout: Layout, odd: NDArray[np.bool_], column: str) -> list[Finding]:
    freq = layout.freq or "D"
    jump = np.diff(step_number(layout.days, freq, layout.days.min()))
    jump[layout.offsets[1:-1] - 1] = 1
    before = np.flatnonzero(jump > 1)
    before = before[~odd[layout.store_of(before)]]
    findings = []
    for store, rows, more in per_store(layout, before):
        date = str(next_steps(layout.days[rows[:1]], freq)[0])
        missing = int((jump[rows] - 1).sum())
        where = f"Store '{store}' has" if store is not None else f"{more} more stores have"
        findings.append(
            Finding(
                "error",
                "gap",
                f"{where} {counted(missing, 'missing date')}, first {date}.",
                "Add the missing rows, with zeros where nothing was spent or sold; or start the "
                "store's history after the gap; or correct an outlying date.",
                column=column,
                store=store,
                date=date,
                rows=missing,
            )
        )
    return findings


def _short_histories(layout: Layout, min_steps: int) -> list[Finding]:
    lengths = np.diff(layout.offsets)
    short = np.flatnonzero(lengths < min_steps)
    remedy = f"Exclude stores with fewer than {min_steps} steps, or add more of their history."
    findings = [
        Finding(
            "error",
            "short-history",
            f"Store '{layout.stores[s]}' has {counted(int(lengths[s]), 'step')} from "
            f"{layout.first_days[s]}, fewer than {min_steps}.",
            remedy,
            store=str(layout.stores[s]),
            date=str(layout.first_days[s]),
            rows=int(lengths[s]),
        )
        for s in short[:LISTED]
    ]
    if len(short) > LISTED:
        message = f"{len(short) - LISTED} more stores have fewer than {min_steps} steps."
        findings.append(Finding("error", "short-history", message, remedy))
    return findings


def describe_freq(freq: str | None) -> str:
    """``daily``, ``weekly (MON)`` or ``monthly``."""
    if freq is None:
        return "of unknown frequency"
    if freq == "W":
        return "weekly"
    return PERIOD_WORDS.get(freq) or f"weekly ({freq[2:]})"
