"""Steps that a table lacks: refused, filled, or the reason to begin a history later."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causalmmm.data.layout import Layout, about_stores, describe_freq
from causalmmm.dates import next_steps, step_number, steps_from, weekday
from causalmmm.findings import Finding, PanelError, Severity, counted, first_few, refusal

POLICIES = ("error", "zero", "carry", "leave-out")


@dataclass(frozen=True)
class Gaps:
    """What becomes of steps between a store's first and last that have no row.

    policy         "error"; "zero": nothing was spent or sold then, controls and context go on;
                   "carry": everything goes on as in the step before; "leave-out": the history
                   begins after its last gap.
    business_days  daily tables without Saturdays and Sundays: nothing was spent or sold then.

    Raises ``PanelError`` for another policy.
    """

    policy: str = "error"
    business_days: bool = False

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            message = f"Unknown policy for gaps: '{self.policy}'."
            remedy = f"Use one of {first_few(POLICIES)}."
            raise refusal("unknown-policy", message, remedy, kind=PanelError)


def close_gaps(layout: Layout, gaps: Gaps, odd: NDArray[np.bool_], column: str) -> list[Finding]:
    """Fill or cut the layout in place; a finding for each kind of what was done, or remains.

    odd  bool [S]: stores of another frequency, which are left alone.
    """
    findings: list[Finding] = []
    if gaps.business_days and layout.freq != "D":
        message = f"business_days is set, but the panel is {describe_freq(layout.freq)}."
        findings.append(Finding("warning", "no-business-days", message, "Leave it out."))
    before, missing = _missing(layout, odd)
    if not len(before):
        return findings
    first_missing = next_steps(layout.days[before[:1]], layout.freq or "D")[0]
    total = int(missing.sum())
    if gaps.policy == "leave-out" and not gaps.business_days:
        findings.append(
            _told(
                layout,
                before,
                "began-after-gap",
                f"{{where}}: the history begins after its last gap; {total} dates are missing, "
                "first {date}.",
                first_missing,
                severity="warning",
            )
        )
        _begin_after(layout, before)
        return findings
    weekends = gaps.business_days and layout.freq == "D"
    if total <= len(layout.days) and (weekends or gaps.policy in ("zero", "carry")):
        findings += _fill(layout, gaps, weekends, before, missing)
        if gaps.policy == "leave-out":
            return findings + close_gaps(layout, Gaps("leave-out"), odd, column)
        before, missing = _missing(layout, odd)
        total = int(missing.sum())
    if not total:
        return findings
    remedy = (
        "Add the missing rows, with zeros where nothing was spent or sold; or choose what becomes "
        "of them, data.gaps: zero, carry or leave-out; or correct an outlying date."
    )
    if layout.freq == "D" and not weekends and _only_weekends(layout, before, missing):
        remedy = "Only Saturdays and Sundays are missing: set data.business_days: true."
    first_missing = next_steps(layout.days[before[:1]], layout.freq or "D")[0]
    text = f"{{where}}: {counted(total, 'missing date')}, first {{date}}."
    findings.append(
        _told(layout, before, "gap", text, first_missing, remedy, "error", column, total)
    )
    return findings


def _told(
    layout: Layout,
    before: NDArray[np.int64],
    code: str,
    message: str,
    date: np.datetime64,
    remedy: str = "",
    severity: Severity = "notice",
    column: str | None = None,
    rows: int | None = None,
) -> Finding:
    stores = np.unique(layout.store_of(before))
    return about_stores(
        layout, stores, code, message, remedy,
        severity=severity, column=column, date=date, rows=rows,
    )  # fmt: skip


def _missing(layout: Layout, odd: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """int64 [gaps] each: the row before every gap, and how many steps are missing there."""
    jump = np.diff(step_number(layout.days, layout.freq or "D", layout.days.min()))
    jump[layout.offsets[1:-1] - 1] = 1
    before = np.flatnonzero(jump > 1)
    before = before[~odd[layout.store_of(before)]]
    return before, jump[before] - 1


def _only_weekends(layout: Layout, before: NDArray[np.int64], missing: NDArray[np.int64]) -> bool:
    """Whether every gap is one Saturday and Sunday, or one of both."""
    friday_or_saturday = weekday(layout.days[before]) + missing
    return bool(((weekday(layout.days[before]) >= 4) & (friday_or_saturday <= 6)).all())


def _begin_after(layout: Layout, before: NDArray[np.int64]) -> None:
    """Drop the rows of each store up to its last gap."""
    begin = layout.offsets[:-1].copy()
    np.maximum.at(begin, layout.store_of(before), before + 1)
    rows = np.arange(len(layout.days))
    kept = rows[rows >= begin[layout.store_of(rows)]]
    ends = layout.offsets[1:]
    layout.order = kept if layout.order is None else layout.order[kept]
    layout.offsets = np.concatenate([[0], np.cumsum(ends - begin)]).astype(np.int64)
    layout.days = layout.days[kept]
    layout.closed = None if layout.closed is None else layout.closed[kept]


def _fill(
    layout: Layout,
    gaps: Gaps,
    weekends: bool,
    before: NDArray[np.int64],
    missing: NDArray[np.int64],
) -> list[Finding]:
    """Add rows for missing steps: they stand for the row before, as closed steps where zero."""
    freq, first = layout.freq or "D", layout.days.min()
    row = np.repeat(before, missing)
    nth = np.arange(len(row)) - np.repeat(np.cumsum(missing) - missing, missing) + 1
    number = step_number(layout.days, freq, first)
    days = steps_from(first, int(number.max()) + 1, freq)[number[row] + nth]
    weekend = (weekday(days) >= 5) & weekends
    filled = weekend if gaps.policy in ("error", "leave-out") else np.ones(len(row), bool)
    closed = weekend | (gaps.policy == "zero")
    findings = []
    for of_kind, code, how in (
        (weekend, "weekends-closed", "added as days on which nothing was spent or sold"),
        (~weekend & closed, "gap-filled", "filled with zeros (controls and context go on)"),
        (~weekend & filled & ~closed, "gap-filled", "filled with the step before"),
    ):
        if of_kind.any():
            which = "missing date" if code == "gap-filled" else "Saturday or Sunday"
            text = f"{{where}}: {int(of_kind.sum())} x {which}, first {{date}}, {how}."
            findings.append(_told(layout, np.unique(row[of_kind]), code, text, days[of_kind][0]))
    row, days, closed = row[filled], days[filled], closed[filled]
    present = np.arange(len(layout.days))
    place = np.argsort(np.concatenate([present, row]), kind="stable")
    file_row = present if layout.order is None else layout.order
    counts = np.bincount(layout.store_of(row), minlength=len(layout.stores))
    layout.order = np.concatenate([file_row, file_row[row]])[place]
    layout.days = np.concatenate([layout.days, days])[place]
    layout.closed = np.concatenate([np.zeros(len(present), bool), closed])[place]
    layout.offsets = layout.offsets + np.concatenate([[0], np.cumsum(counts)])
    return findings
