"""The layout of a table: row order, store offsets, frequency, and gaps or duplicates in them.

Looks only at stores and dates, never at values.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from causalmmm.data.gaps import Gaps, close_gaps
from causalmmm.data.keys import Keys
from causalmmm.data.layout import Layout, about_stores, describe_freq
from causalmmm.dates import WEEKDAYS, is_month_end, on_step, weekday
from causalmmm.findings import Finding, counted


def lay_out(
    keys: Keys,
    declared: str | None,
    min_steps: int,
    date_column: str,
    gaps: Gaps = Gaps(),  # noqa: B008  (frozen)
) -> Layout:
    """Sort the rows and check that every store has each step of its span exactly once.

    declared  the frequency in the schema or of the panel, if any.
    gaps      what becomes of steps that are missing.

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
    if np.diff(layout.offsets).max() >= min_steps:  # enough steps to detect a frequency
        twice = any(finding.code == "store-spelling" for finding in keys.findings)
        odd = _detect_frequency(layout, declared, date_column, twice)
        if layout.freq is not None:
            layout.findings += _off_grid(layout, odd, date_column)
            layout.findings += close_gaps(layout, gaps, odd, date_column)
    layout.findings += _short_histories(layout, min_steps)
    return layout


def _repeated_rows(layout: Layout, key: NDArray[np.int64], column: str) -> list[Finding]:
    repeated = np.flatnonzero(key[1:] == key[:-1]) + 1
    if not len(repeated):
        return []
    return [
        about_stores(
            layout,
            np.unique(layout.store_of(repeated)),
            "duplicate-row",
            f"{{where}}: {counted(len(repeated), 'row')} with a repeated date, first {{date}}.",
            "Sum the rows of each date, or remove all but one.",
            column=column,
            date=layout.days[repeated[0]],
            rows=len(repeated),
        )
    ]


_OF_SHARED_DATES = {"no-frequency", "mixed-frequency", "irregular-date", "gap"}


def cause_first(of_keys: list[Finding], layout: Layout) -> list[Finding]:
    """Findings of stores and dates as they are told: two spellings of a store are an error, told
    before their effects, where each has a part of the dates."""
    effects = [f for f in layout.findings if f.severity == "error" and f.code in _OF_SHARED_DATES]
    broken = {store for effect in effects for store in effect.stores}
    every = any(effect.code == "no-frequency" for effect in effects)
    return [
        replace(f, severity="error")
        if f.code == "store-spelling" and (every or not broken.isdisjoint(f.stores))
        else f
        for f in of_keys
    ]


def _detect_frequency(
    layout: Layout, declared: str | None, column: str, twice: bool
) -> NDArray[np.bool_]:
    """Set ``layout.freq``; return bool [S]: stores with another frequency than most.

    twice  whether stores may be written in several ways, each with a part of their dates.
    """
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
                "Write each store in one way first: several spellings share its dates."
                if twice
                else "Aggregate the rows to one per day, week or month (dated by its first day).",
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
    stores = np.flatnonzero(odd)
    if not len(stores):
        return []
    s = stores[0]
    own = ("D", f"W-{WEEKDAYS[anchor[s]]}", "MS")[step[s]]
    return [
        about_stores(
            layout,
            stores,
            "mixed-frequency",
            f"{{where}}: {describe_freq(own)} from {{date}}, but the panel is "
            f"{describe_freq(layout.freq)}.",
            "Use one frequency for all stores, and one first day for all weeks.",
            column=column,
            date=layout.first_days[s],
            rows=int(np.diff(layout.offsets)[stores].sum()),
        )
    ]


def _off_grid(layout: Layout, odd: NDArray[np.bool_], column: str) -> list[Finding]:
    freq = layout.freq or "D"
    off = np.flatnonzero(~on_step(layout.days, freq))
    off = off[~odd[layout.store_of(off)]]
    if not len(off):
        return []
    return [
        about_stores(
            layout,
            np.unique(layout.store_of(off)),
            "irregular-date",
            f"{{where}}: {counted(len(off), 'date')} not on the {describe_freq(freq)} grid, first "
            "{date}.",
            "Move each row to the date of its step.",
            column=column,
            date=layout.days[off[0]],
            rows=len(off),
        )
    ]


def _short_histories(layout: Layout, min_steps: int) -> list[Finding]:
    lengths = np.diff(layout.offsets)
    short = np.flatnonzero(lengths < min_steps)
    if not len(short):
        return []
    steps = counted(int(lengths[short].min()), "step")
    return [
        about_stores(
            layout,
            short,
            "short-history",
            f"{{where}}: {'' if len(short) == 1 else 'down to '}{steps} from {{date}}, fewer than "
            f"{min_steps}.",
            f"Exclude stores with fewer than {min_steps} steps (--skip-bad-stores), or add more of "
            "their history.",
            date=layout.first_days[short[0]],
            rows=int(lengths[short[0]]),
        )
    ]
