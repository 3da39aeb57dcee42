"""Checks of one column of numbers: what is no number, missing, infinite, negative or constant.

Sees one column at a time, in store and date order; knows roles only as words and policies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalmmm.data.rows import Layout, per_store
from causalmmm.findings import Finding, Severity, counted

Column = NDArray[np.float32]

POLICIES = ("error", "zero", "interpolate")


@dataclass(frozen=True)
class Rule:
    """What a column of some role must satisfy. ``policy`` is one of ``POLICIES``, or "required"
    where there is none to choose; ``negative`` is the code of a negative value and
    how bad one is; ``flags`` tells whether true/false may stand for 1/0."""

    role: str
    policy: str = "error"
    negative: tuple[str, Severity] | None = None
    flags: bool = False


class ColumnCheck:
    """Reads columns into float32 in the order of a layout and collects what is wrong with them."""

    def __init__(self, layout: Layout | None, rows: int) -> None:
        self.layout = layout
        self.rows = rows if layout is None else len(layout.days)
        self.findings: list[Finding] = []

    def read(self, series: pd.Series[Any], name: str, rule: Rule) -> Column:
        """float32 [rows], complete unless an error was found."""
        numbers, bad = self._numbers(series, name, rule)
        what = f"{rule.role[0].upper()}{rule.role[1:]} '{name}'"
        missing = np.isnan(numbers)
        if bad is not None:
            self._report_bad(series, name, bad, what)
            missing &= ~self._sorted(bad)
        infinite = np.flatnonzero(np.isinf(numbers))
        self._add(
            infinite,
            "error",
            "infinite-value",
            name,
            what + " is infinite or too large in {n} of {where}, first {date}.",
            "Correct the value; look for a division by zero in the export.",
        )
        if len(numbers) and missing.all():
            self.findings.append(
                Finding(
                    "error",
                    "all-null",
                    f"{what} has no value in any of {len(numbers)} rows.",
                    "Take the column out of the schema, or fill it.",
                    column=name,
                    rows=len(numbers),
                )
            )
        elif missing.any():
            numbers = self._fill(numbers, missing, name, rule, what)
        if rule.negative is not None:
            code, severity = rule.negative
            self._add(
                np.flatnonzero(numbers < 0),
                severity,
                code,
                name,
                what + " is negative in {n} of {where}, first {date}.",
                "Book refunds and corrections in the period they belong to; write it as >= 0."
                if severity == "error"
                else "Check that returns are meant to be counted here.",
            )
        return numbers

    def span(self, column: Column) -> tuple[Column, Column]:
        """float32 [S] each: least and greatest value of every store."""
        if self.layout is None:
            return column.min(keepdims=True), column.max(keepdims=True)
        starts = self.layout.offsets[:-1]
        return np.minimum.reduceat(column, starts), np.maximum.reduceat(column, starts)

    def _sorted(self, column: NDArray[Any]) -> NDArray[Any]:
        return column if self.layout is None else self.layout.sort(column)

    def _numbers(
        self, series: pd.Series[Any], name: str, rule: Rule
    ) -> tuple[Column, NDArray[np.bool_] | None]:
        """float32 in layout order, NaN where missing; bool in file order where it is no number."""
        with np.errstate(over="ignore", invalid="ignore"):
            if pd.api.types.is_bool_dtype(series.dtype):
                if not rule.flags:
                    nothing = np.full(len(series), np.nan, np.float32)
                    return self._sorted(nothing), np.ones(len(series), bool)
                self.findings.append(
                    Finding(
                        "notice",
                        "flags-as-numbers",
                        f"True and false in '{name}' count as 1 and 0.",
                        column=name,
                    )
                )
            if pd.api.types.is_numeric_dtype(series.dtype):
                plain = series.to_numpy(dtype=np.float32, na_value=np.nan)
                return self._sorted(plain), None
            if not isinstance(series.dtype, pd.CategoricalDtype):  # dates, durations
                empty = np.full(len(series), np.nan, np.float32)
                return self._sorted(empty), series.notna().to_numpy()
            texts = pd.Series(series.cat.categories).astype("str").str.strip()
            parsed = pd.to_numeric(texts, errors="coerce").astype(np.float64)
            wrong = parsed.isna().to_numpy() & ~texts.str.lower().isin(["", "nan", "na"]).to_numpy()
            table = np.append(parsed.to_numpy().astype(np.float32), np.float32(np.nan))
        codes = series.cat.codes.to_numpy()
        if not wrong.any():
            self.findings.append(
                Finding(
                    "notice",
                    "text-as-numbers",
                    f"Numbers in '{name}' are stored as text.",
                    column=name,
                )
            )
        bad = np.append(wrong, False)[codes]
        return self._sorted(table[codes]), bad if wrong.any() else None

    def _report_bad(
        self, series: pd.Series[Any], name: str, bad: NDArray[np.bool_], what: str
    ) -> None:
        first = str(series.iloc[int(np.flatnonzero(bad)[0])])
        remedy = "Write plain numbers with a decimal point, and leave missing cells empty."
        if pd.api.types.is_bool_dtype(series.dtype):
            remedy = "Write the amount; a yes/no column belongs under controls."
        elif "," in first:
            remedy = "Write numbers with a decimal point and without thousands separators."
        self._add(
            np.flatnonzero(self._sorted(bad)),
            "error",
            "non-numeric",
            name,
            what + " is not a number in {n} of {where}, first {date}: " + f"e.g. '{first}'.",
            remedy,
        )

    def _fill(
        self, numbers: Column, missing: NDArray[np.bool_], name: str, rule: Rule, what: str
    ) -> Column:
        """Apply the missing-value policy of the role, and say so."""
        rows = np.flatnonzero(missing)
        if rule.policy == "zero":
            filled = numbers.copy()
            filled[rows] = 0
            self._add(
                rows,
                "notice",
                "filled-with-zero",
                name,
                what + " is missing in {n} of {where}, first {date}: set to 0.",
                "",
            )
            return filled
        if rule.policy == "interpolate" and self.layout is not None:
            filled, hopeless = _interpolated(numbers, missing, self.layout)
            self._add(
                hopeless,
                "error",
                "all-missing",
                name,
                what + " has no value at all in {where}, so nothing can be interpolated.",
                "Fill the store's values, or leave the store out.",
            )
            self._add(
                rows[~np.isnan(filled[rows])],
                "notice",
                "interpolated",
                name,
                what + " is missing in {n} of {where}, first {date}: interpolated.",
                "",
            )
            return filled
        remedy = "Fill the values"
        if rule.policy != "required":
            remedy += (
                f", or choose a policy: nan: {{{_policy_key(rule.role)}: zero}} or interpolate"
            )
        remedy += "."
        if rule.role == "target" and len(self._at_the_end(missing)) == len(rows):
            remedy = "These rows look like the future: give them as a plan, not as history."
        self._add(
            rows,
            "error",
            "missing-value",
            name,
            what + " is missing in {n} of {where}, first {date}.",
            remedy,
        )
        return numbers

    def doubt_constant(self, values: Column, column: str, what: str, kind: str) -> None:
        """Warn of a series that never moves: nothing can be learnt from it."""
        least, most = self.span(values)
        still = least == most
        if not still.any():
            return
        zero = bool((most[still] == 0).all())
        n, of = int(still.sum()), len(still)
        everywhere = n == of
        store = None
        if self.layout is not None:
            store = str(self.layout.stores[int(np.flatnonzero(still)[0])])
        state = "zero" if zero else "constant"
        # A store that never uses a channel, or in which a control does not move, is ordinary; one
        # that uses a channel evenly is suspect.
        silent = not everywhere and (kind == "control" or (zero and kind == "channel"))
        self.findings.append(
            Finding(
                "notice" if silent else "warning",
                f"{state}-{kind}",
                f"{what} is {state} throughout in "
                + ("every store." if everywhere else f"{n} of {of} stores, first '{store}'."),
                ""
                if silent
                else "Nothing can be learnt from it there; "
                "check the export, or take the column out of the schema.",
                column=column,
                store=None if everywhere and of > 1 else store,
                rows=n,
            )
        )

    def _at_the_end(self, missing: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Missing rows after which nothing but missing rows follows in the store."""
        if self.layout is None:
            return np.zeros(0, np.int64)
        present = np.where(~missing, np.arange(len(missing)), -1)
        last = np.maximum.reduceat(present, self.layout.offsets[:-1])
        rows = np.flatnonzero(missing)
        return rows[rows > last[self.layout.store_of(rows)]]

    def _add(
        self,
        rows: NDArray[np.int64],
        severity: Severity,
        code: str,
        column: str,
        message: str,
        remedy: str,
    ) -> None:
        """One finding per store with such rows; the message may name {n}, {where} and {date}."""
        if not len(rows):
            return
        n = counted(len(rows), "row")
        if self.layout is None:
            text = _worded(message, n=n, where="the table", date=f"row {rows[0] + 1}")
            found = Finding(severity, code, text, remedy, column=column, rows=len(rows))
            self.findings.append(found)
            return
        if len(rows) == self.rows and len(self.layout.stores) > 1:
            text = _worded(message, n=n, where="all stores", date=self.layout.days.min())
            found = Finding(severity, code, text, remedy, column=column, rows=len(rows))
            self.findings.append(found)
            return
        for store, some, more in per_store(self.layout, rows):
            where = f"store '{store}'" if store is not None else f"{more} more stores"
            date = str(self.layout.days[some[0]])
            text = _worded(message, n=counted(len(some), "row"), where=where, date=date)
            self.findings.append(
                Finding(severity, code, text, remedy, column, store, date, len(some))
            )


def _worded(message: str, **words: object) -> str:
    """The message with its blanks filled; unlike ``str.format``, at ease with names in braces."""
    for blank, word in words.items():
        message = message.replace(f"{{{blank}}}", str(word))
    return message


def _policy_key(role: str) -> str:
    return {
        "target": "target",
        "mediator": "mediators",
        "control": "controls",
        "context": "context",
        "organic channel": "organic",
    }.get(role, "channels")


def _interpolated(
    numbers: Column, missing: NDArray[np.bool_], layout: Layout
) -> tuple[Column, NDArray[np.int64]]:
    """Straight lines between a store's own values, its first and last value held outwards.

    Also returns the rows of stores that have no value at all.
    """
    place = np.arange(len(numbers))
    rows = np.flatnonzero(missing)
    owner = layout.store_of(rows)
    before = np.maximum.accumulate(np.where(missing, -1, place))[rows]
    after = np.minimum.accumulate(np.where(missing, len(numbers), place)[::-1])[::-1][rows]
    has_before = before >= layout.offsets[owner]
    has_after = after < layout.offsets[owner + 1]
    left = np.where(has_before, before, after)
    right = np.where(has_after, after, before)
    hopeless = ~has_before & ~has_after
    left, right = np.where(hopeless, rows, left), np.where(hopeless, rows, right)
    share = (rows - left) / np.maximum(right - left, 1)
    filled = numbers.copy()
    filled[rows] = numbers[left] + np.where(left == right, 0, share) * (
        numbers[right] - numbers[left]
    )
    return filled, rows[hopeless]
