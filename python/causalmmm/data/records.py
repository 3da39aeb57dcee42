"""Small tables of a user's own about a panel: one record a row, checked by row.

Which columns there are and what a record means is decided by the modules that read them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd

from causalmmm.data.panel import Panel
from causalmmm.data.readers import Readable, open_source
from causalmmm.dates import Days, parse_dates
from causalmmm.findings import Finding, PanelError, closest, first_few, refusal

ALL = "ALL"
_NUMBERS = ("lift", "lift_se", "spend", "min", "max")


def read_records(
    table: Readable,
    what: str,
    needed: tuple[str, ...],
    optional: tuple[str, ...],
    *,
    others: bool = True,
) -> pd.DataFrame:
    """The columns of a table that are known.

    what    the table in a message, as "experiments".
    others  whether it may have other columns, which are not read.

    Raises ``PanelError`` where a column that is needed is missing, or there are no rows.
    """
    source = open_source(table, lambda name: name not in _NUMBERS)
    missing = [name for name in needed if name not in source.names]
    if missing:
        hint = closest(missing[0], source.names)
        raise refusal(
            "missing-column",
            f"The {what} have no column {first_few(missing)}.",
            f"{hint}Needed are {', '.join(needed)}; optional {', '.join(optional)}.",
            kind=PanelError,
            column=missing[0],
        )
    unknown = [name for name in source.names if name not in (*needed, *optional)]
    if unknown and not others:
        hint = closest(unknown[0], (*needed, *optional))
        raise refusal(
            "unknown-column",
            f"The {what} have a column '{unknown[0]}' that means nothing.",
            f"{hint}Columns are {', '.join((*needed, *optional))}.",
            kind=PanelError,
            column=unknown[0],
        )
    if not source.rows:
        raise refusal("no-rows", f"The {what} have no rows.", "Add them.", kind=PanelError)
    return pd.DataFrame({n: source.column(n) for n in (*needed, *optional) if n in source.names})


def read_groups(table: Readable) -> dict[str, str]:
    """Store -> group, from a table of store and group; refused where a store is in two."""
    groups: dict[str, str] = {}
    frame = read_records(table, "groups", ("store", "group"), ())
    for store, group in zip(frame["store"].astype(str), frame["group"].astype(str), strict=True):
        if groups.setdefault(store, group) != group:
            raise refusal(
                "store-in-two-groups",
                f"Store '{store}' is in the groups '{groups[store]}' and '{group}'.",
                "Leave it in one.",
                kind=PanelError,
                store=store,
            )
    return groups


class RecordCheck:
    """Reads cells of numbered rows and remembers what is wrong with them.

    what  the table in a message;  code  of the findings.
    """

    def __init__(self, panel: Panel, what: str, code: str) -> None:
        self.panel, self.what, self.code = panel, what, code
        self.names = panel.stores.tolist()
        self.paid = panel.schema.channels
        self.findings: list[Finding] = []

    def days(self, series: pd.Series[Any], column: str, *, needed: bool = True) -> Days:
        """datetime64[D] of every row, read as the dates of a panel are; where they are not needed,
        NaT for empty cells."""
        parsed = parse_dates(series, column)
        self.findings += parsed.findings
        for wrong in np.flatnonzero(np.isnat(parsed.days)):
            value = series.iloc[int(wrong)]
            if pd.isna(value) and not needed:
                continue
            what = "is empty" if pd.isna(value) else f"contains '{value}' instead of a date"
            self.findings.append(
                Finding(
                    "error",
                    "missing-date" if pd.isna(value) else "unparsable-date",
                    f"Column '{column}' of the {self.what} {what} in row {wrong + 1}.",
                    "Write dates as YYYY-MM-DD.",
                    column=column,
                )
            )
        return parsed.days

    def number(
        self,
        number: int,
        row: dict[str, Any],
        name: str,
        *,
        above: float = -np.inf,
        least: float = -np.inf,
    ) -> float:
        """A finite number, above ``above`` and not below ``least``."""
        try:
            value = float(row[name])
        except (ValueError, TypeError):
            value = np.nan
        if not (np.isfinite(value) and value > above and value >= least):
            bound = "" if above == -np.inf else f" above {above:g}"
            bound = bound if least == -np.inf else f" of {least:g} or more"
            self.wrong(number, name, f"has {name} '{row[name]}', which is no number{bound}")
        return value

    def word(
        self, number: int, row: dict[str, Any], name: str, default: str, known: Collection[str]
    ) -> str:
        """One of the words that are known; the default where there is none."""
        value = row.get(name, np.nan)
        text = default if pd.isna(value) else str(value)
        if text not in known:
            self.wrong(number, name, f"has {name} '{value}'; it is one of {', '.join(known)}")
        return text

    def wrong(
        self, number: int, column: str, what: str, name: str = "", known: list[str] | None = None
    ) -> None:
        remedy = f"{closest(name, known)}There are {first_few(known)}. " if known else ""
        self.findings.append(
            Finding(
                "error",
                self.code,
                f"Row {number} of the {self.what} {what}.",
                f"{remedy}Correct the row.",
                column=column,
            )
        )
