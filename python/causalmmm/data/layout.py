"""``Layout``: which row of a table is which step of which store; and findings about stores."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalmmm.dates import Days
from causalmmm.findings import Finding, Severity, first_few

# Of findings about several stores this many are named in the message.
LISTED = 5

PERIOD_WORDS = {"D": "daily", "MS": "monthly"}


@dataclass
class Layout:
    """The rows of a table in store and date order.

    stores    str [S], sorted.
    order     int64 [rows]: file row of each sorted row; None if the file is in order already.
              Rows that the file lacks (see ``gaps``) stand for the row before them.
    offsets   int64 [S + 1] into the sorted rows.
    days      datetime64[D] [rows], sorted like the rows.
    freq      frequency detected or declared; None if neither.
    closed    bool [rows]: steps that the file lacks, in which nothing was spent or sold; or None.
    """

    stores: NDArray[np.str_]
    order: NDArray[np.int64] | None
    offsets: NDArray[np.int64]
    days: Days
    freq: str | None = None
    closed: NDArray[np.bool_] | None = None
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


def about_stores(
    layout: Layout,
    stores: NDArray[np.integer[Any]],
    code: str,
    message: str,
    remedy: str,
    *,
    severity: Severity = "error",
    column: str | None = None,
    date: object = None,
    rows: int | None = None,
) -> Finding:
    """One finding about these stores (positions, sorted); {where} in the message names them."""
    names = tuple(layout.stores[stores].tolist())
    where = f"store '{names[0]}'"
    if len(names) > 1:
        where = f"{len(names)} stores ({first_few(names, LISTED)})"
    day = None if date is None else str(date)
    text = message.replace("{where}", where).replace("{date}", day or "")
    text = text[0].upper() + text[1:]
    return Finding(severity, code, text, remedy, column, names[0], day, rows, names)


def describe_freq(freq: str | None) -> str:
    """``daily``, ``weekly (MON)`` or ``monthly``."""
    if freq is None:
        return "of unknown frequency"
    if freq == "W":
        return "weekly"
    return PERIOD_WORDS.get(freq) or f"weekly ({freq[2:]})"
