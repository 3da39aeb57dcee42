"""Checks of one numeric column: non-numeric, missing, infinite, negative or constant values.

Sees one column at a time, in store and date order; a role is only a name with a policy here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalmmm.data.layout import Layout, about_stores
from causalmmm.findings import Finding, Severity, counted

Column = NDArray[np.float32]

POLICIES = ("error", "zero", "interpolate", "carry")
# Beyond these, sums of squares and shares of a mean leave the range of single precision.
LARGEST = 1e15
SMALLEST = 1e-15


@dataclass(frozen=True)
class Rule:
    """Requirements on a column.

    role      as messages name it.
    policy    for missing values: one of ``POLICIES``, or "required" where users have no choice.
    negative  code and severity of the finding for negative values; None allows them.
    flags     whether true/false may stand for 1/0.
    amount    whether there is nothing of it in a step that is missing (spend, sales), where a
              price goes on.

    Every column must stay within ``LARGEST``, and unless it is a flag or all zero in a store, reach
    ``SMALLEST`` there.
    """

    role: str
    policy: str = "error"
    negative: tuple[str, Severity] | None = None
    flags: bool = False
    amount: bool = True

    def title(self, column: str) -> str:
        """How a sentence about the column begins: ``Spend 'tv_cost'``."""
        return f"{self.role[0].upper()}{self.role[1:]} '{column}'"


class ColumnCheck:
    """Reads columns into float32, in the order of a layout, and collects findings about them."""

    def __init__(self, layout: Layout | None, rows: int) -> None:
        self.layout = layout
        self.rows = rows if layout is None else len(layout.days)
        self.findings: list[Finding] = []

    def read(self, series: pd.Series[Any], name: str, rule: Rule) -> Column:
        """float32 [rows]; free of missing values unless there is a finding of severity error."""
        numbers, bad = self._numbers(series, name, rule)
        if rule.amount and self.layout is not None and self.layout.closed is not None:
            numbers = np.where(self.layout.closed, np.float32(0), numbers)
        what = rule.title(name)
        missing = np.isnan(numbers)
        if bad is not None:
            self._report_bad(series, name, bad, what)
            missing &= ~self._sorted(bad)
        infinite = np.flatnonzero(np.isinf(numbers))
        self.add(
            infinite,
            "error",
            "infinite-value",
            name,
            what + " is infinite or too large in {n} of {where}, first {date}.",
            "Correct the value; check the export for a division by zero.",
        )
        self._check_size(numbers, name, what)
        if len(numbers) and missing.all():
            self.findings.append(
                Finding(
                    "error",
                    "all-null",
                    f"{what} is empty in all {len(numbers)} rows.",
                    "Remove the column from the schema, or fill it.",
                    column=name,
                    rows=len(numbers),
                )
            )
        elif missing.any():
            numbers = self._fill(numbers, missing, name, rule, what)
        if rule.negative is not None:
            code, severity = rule.negative
            self.add(
                np.flatnonzero(numbers < 0),
                severity,
                code,
                name,
                what + " is negative in {n} of {where}, first {date}.",
                "Book refunds and corrections in their own period, so that the value is >= 0."
                if severity == "error"
                else "Check that returns should be counted here.",
            )
        return numbers

    def _check_size(self, numbers: Column, name: str, what: str) -> None:
        """Refuse amounts that single precision cannot calculate with."""
        size = np.nan_to_num(np.abs(numbers), posinf=0.0)
        self.add(
            np.flatnonzero(size > LARGEST),
            "error",
            "huge-value",
            name,
            f"{what} is beyond {LARGEST:g} in {{n}} of {{where}}, first {{date}}.",
            "Correct the value, or give the column a larger unit, such as millions.",
        )
        if not len(size):
            return
        starts = np.zeros(1, np.int64) if self.layout is None else self.layout.offsets[:-1]
        most = np.maximum.reduceat(size, starts)
        tiny = (most > 0) & (most < SMALLEST)
        rows = np.repeat(tiny, np.diff(np.append(starts, len(size))))
        self.add(
            np.flatnonzero(rows & (size > 0)),
            "error",
            "tiny-value",
            name,
            f"{what} never reaches {SMALLEST:g} where it is not zero, in {{n}} of {{where}}, "
            "first {date}.",
            "Give the column a smaller unit, or write 0 where there is nothing.",
        )

    def span(self, column: Column) -> tuple[Column, Column]:
        """float32 [S] each: smallest and largest value of every store."""
        if self.layout is None:
            return column.min(keepdims=True), column.max(keepdims=True)
        starts = self.layout.offsets[:-1]
        return np.minimum.reduceat(column, starts), np.maximum.reduceat(column, starts)

    def _sorted(self, column: NDArray[Any]) -> NDArray[Any]:
        return column if self.layout is None else self.layout.sort(column)

    def _numbers(
        self, series: pd.Series[Any], name: str, rule: Rule
    ) -> tuple[Column, NDArray[np.bool_] | None]:
        """float32 in layout order, NaN where missing; bool in file order: value is no number."""
        with np.errstate(over="ignore", invalid="ignore"):
            if pd.api.types.is_bool_dtype(series.dtype):
                if not rule.flags:
                    empty = np.full(len(series), np.nan, np.float32)
                    return self._sorted(empty), np.ones(len(series), bool)
                self.findings.append(
                    Finding(
                        "notice",
                        "flags-as-numbers",
                        f"True and false in '{name}' are read as 1 and 0.",
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
        remedy = "Write plain numbers with a decimal point; leave missing cells empty."
        if pd.api.types.is_bool_dtype(series.dtype):
            remedy = "Write amounts; yes/no columns belong under controls."
        elif "," in first or " (with a point)" in first:
            remedy = (
                "Write numbers with a decimal point and no thousands separators, or say how they "
                "are written: data.decimal and data.thousands ('init' guesses them)."
            )
        self.add(
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
        """Apply the missing-value policy of the role, with a finding for every use."""
        rows = np.flatnonzero(missing)
        if rule.policy == "zero":
            filled = numbers.copy()
            filled[rows] = 0
            self.add(
                rows,
                "notice",
                "filled-with-zero",
                name,
                what + " is missing in {n} of {where}, first {date}: set to 0.",
                "",
            )
            return filled
        if rule.policy in ("interpolate", "carry") and self.layout is not None:
            carried = rule.policy == "carry"
            filled, empty = _interpolated(numbers, missing, self.layout, carried)
            self.add(
                empty,
                "error",
                "all-missing",
                name,
                what + " has no value in {where}, so there is nothing to fill it from.",
                "Fill in the store's values, or exclude the store.",
            )
            self.add(
                rows[~np.isnan(filled[rows])],
                "notice",
                "carried-forward" if carried else "interpolated",
                name,
                what
                + " is missing in {n} of {where}, first {date}: "
                + ("the value before goes on." if carried else "interpolated."),
                "",
            )
            return filled
        remedy = "Fill in the values"
        if rule.policy != "required":
            remedy += (
                f", or choose a policy: nan: {{{_policy_key(rule.role)}: zero}}, interpolate, or "
                "carry (the last value goes on)"
            )
        remedy += "."
        if rule.role == "target" and self._wholly(missing).any():
            remedy = "Fill in the values, or leave out stores without any (--skip-bad-stores)."
        elif rule.role == "target" and len(self._trailing(missing)) == len(rows):
            remedy = "These rows look like future dates: pass them as a plan, not as history."
        self.add(
            rows,
            "error",
            "missing-value",
            name,
            what + " is missing in {n} of {where}, first {date}.",
            remedy,
        )
        return numbers

    def check_constant(self, values: Column, column: str, what: str, kind: str) -> None:
        """Report stores in which a series never changes: nothing can be learned from it there."""
        least, most = self.span(values)
        constant = least == most
        if not constant.any():
            return
        zero = bool((most[constant] == 0).all())
        n, of = int(constant.sum()), len(constant)
        everywhere = n == of
        store = None
        if self.layout is not None:
            store = str(self.layout.stores[int(np.flatnonzero(constant)[0])])
        state = "zero" if zero else "constant"
        # A store without a channel, or with a constant control, is ordinary; the same non-zero
        # amount in every step is suspicious.
        ordinary = not everywhere and (kind == "control" or (zero and kind == "channel"))
        self.findings.append(
            Finding(
                "notice" if ordinary else "warning",
                f"{state}-{kind}",
                f"{what} is {state} throughout in "
                + ("every store." if everywhere else f"{n} of {of} stores, first '{store}'."),
                ""
                if ordinary
                else "Nothing can be learned from it there; "
                "check the export, or remove the column from the schema.",
                column=column,
                store=None if everywhere and of > 1 else store,
                rows=n,
            )
        )

    def _trailing(self, missing: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Missing rows that are followed only by missing rows of the same store."""
        if self.layout is None:
            return np.zeros(0, np.int64)
        present = np.where(~missing, np.arange(len(missing)), -1)
        last = np.maximum.reduceat(present, self.layout.offsets[:-1])
        rows = np.flatnonzero(missing)
        return rows[rows > last[self.layout.store_of(rows)]]

    def _wholly(self, missing: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Stores without a single value."""
        if self.layout is None:
            return np.zeros(0, np.bool_)
        return np.logical_and.reduceat(missing, self.layout.offsets[:-1])

    def add(
        self,
        rows: NDArray[np.int64],
        severity: Severity,
        code: str,
        column: str,
        message: str,
        remedy: str,
    ) -> None:
        """One finding about rows like these; {n}, {where}, {date} are filled in."""
        if not len(rows):
            return
        n = counted(len(rows), "row")
        if self.layout is None:
            text = _fill_in(message, n=n, where="the table", date=f"row {rows[0] + 1}")
            self.findings.append(Finding(severity, code, text, remedy, column, rows=len(rows)))
            return
        if len(rows) == self.rows and len(self.layout.stores) > 1:
            text = _fill_in(message, n=n, where="all stores", date=self.layout.days.min())
            self.findings.append(Finding(severity, code, text, remedy, column, rows=len(rows)))
            return
        self.findings.append(
            about_stores(
                self.layout,
                np.unique(self.layout.store_of(rows)),
                code,
                _fill_in(message, n=n),
                remedy,
                severity=severity,
                column=column,
                date=self.layout.days[rows[0]],
                rows=len(rows),
            )
        )


def _fill_in(message: str, **values: object) -> str:
    """``str.format`` that leaves all other braces alone: column names may contain them."""
    for name, value in values.items():
        message = message.replace(f"{{{name}}}", str(value))
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
    numbers: Column, missing: NDArray[np.bool_], layout: Layout, carried: bool
) -> tuple[Column, NDArray[np.int64]]:
    """Linear interpolation within each store, or the last value ``carried`` forward; the first and
    last values are extended to the ends.

    Also returns the rows of stores without any value.
    """
    position = np.arange(len(numbers))
    rows = np.flatnonzero(missing)
    owner = layout.store_of(rows)
    before = np.maximum.accumulate(np.where(missing, -1, position))[rows]
    after = np.minimum.accumulate(np.where(missing, len(numbers), position)[::-1])[::-1][rows]
    has_before = before >= layout.offsets[owner]
    has_after = after < layout.offsets[owner + 1]
    left = np.where(has_before, before, after)
    right = np.where(has_after, after, before)
    empty = ~has_before & ~has_after
    left, right = np.where(empty, rows, left), np.where(empty, rows, right)
    share = np.zeros(len(rows)) if carried else (rows - left) / np.maximum(right - left, 1)
    filled = numbers.copy()
    filled[rows] = numbers[left] + np.where(left == right, 0, share) * (
        numbers[right] - numbers[left]
    )
    return filled, rows[empty]
