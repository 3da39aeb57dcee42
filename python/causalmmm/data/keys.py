"""The key columns of a table: store names and dates, read and checked row by row.

Other columns, and whether a store's dates are complete, are checked elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalmmm.data.schema import NATIONAL
from causalmmm.data.sources import Source
from causalmmm.dates import Days, parse_dates
from causalmmm.findings import Finding, counted, first_few

MAX_NAME = 200  # characters of a store's name
Codes = NDArray[np.integer[Any]]


@dataclass
class Keys:
    """Store and date of every row, in file order.

    stores  str [S]; sorted alphabetically, or by value if every name is an integer.
    codes   int [rows]; index into ``stores``, -1 for a row without a store.
    days    datetime64[D] [rows]; NaT for a row without a readable date.
    """

    stores: NDArray[np.str_]
    codes: Codes
    days: Days
    findings: list[Finding] = field(default_factory=list)

    @property
    def trusted(self) -> bool:
        """False when dates may have been misread, or no row has both keys: checking the order of
        such rows would only produce false alarms."""
        misread = {"ambiguous-date", "mixed-time-zone", "time-zone", "time-of-day"}
        unreliable = any(f.severity == "error" and f.code in misread for f in self.findings)
        return not unreliable and bool(((self.codes >= 0) & ~np.isnat(self.days)).any())


def read_keys(source: Source, store: str | None, date: str) -> Keys:
    """Read both columns; with ``store`` None all rows belong to one store."""
    if store is None:
        keys = Keys(np.array([NATIONAL]), np.zeros(source.rows, np.int8), np.empty(0, "M8[D]"))
    else:
        keys = _read_stores(source.column(store), store)
    series = source.column(date)
    parsed = parse_dates(series, date)
    keys.days = parsed.days
    keys.findings += parsed.findings
    _add_row_error(
        keys,
        np.flatnonzero(keys.codes < 0),
        "missing-store",
        f"Column '{store}' (store) is empty",
        store or "",
        "Fill in the store's name, or remove the rows.",
    )
    _add_row_error(
        keys,
        np.flatnonzero(series.isna().to_numpy()),
        "missing-date",
        f"Column '{date}' (date) is empty",
        date,
        "Fill in the date, or remove the rows.",
    )
    bad = np.flatnonzero(parsed.bad)
    if len(bad):
        _add_row_error(
            keys,
            bad,
            "unparsable-date",
            f"Column '{date}' contains '{series.iloc[int(bad[0])]}' instead of a date",
            date,
            "Write dates as YYYY-MM-DD.",
        )
    return keys


def without_stores(source: Source, store: str, date: str, names: Collection[str]) -> Source:
    """The table without the rows of these stores."""
    keys = read_keys(source, store, date)
    gone = np.isin(keys.stores, list(names))
    kept = np.flatnonzero(~np.append(gone, False)[keys.codes])

    def fetch(name: str, first: int | None) -> pd.Series[Any]:
        part = source.column(name).iloc[kept[:first]]
        categories = isinstance(part.dtype, pd.CategoricalDtype)
        return part.cat.remove_unused_categories() if categories else part

    return Source(source.names, len(kept), fetch, source.notices)


def _read_stores(series: pd.Series[Any], column: str) -> Keys:
    if isinstance(series.dtype, pd.CategoricalDtype):
        codes, distinct = series.cat.codes.to_numpy(), series.cat.categories
    else:
        codes, distinct = pd.factorize(series)
        distinct = pd.Index(distinct)
    whole = pd.api.types.is_float_dtype(distinct.dtype) and np.isfinite(distinct).all()
    if whole and (distinct == np.rint(distinct)).all():
        distinct = distinct.astype("int64")
    texts, too_long = _shortened(list(distinct.astype(str)))
    names = np.array(texts, dtype=np.str_)
    stripped = np.char.strip(names)
    codes = np.append(np.where(stripped == "", -1, np.arange(len(names), dtype=np.int32)), -1)[
        codes
    ]
    order = _name_order(names)
    rank = np.full(len(names) + 1, -1, np.int32)
    rank[order] = np.arange(len(names), dtype=np.int32)
    keys = Keys(names[order], rank[codes], np.empty(0, "M8[D]"))
    if too_long:
        keys.findings.append(
            Finding(
                "error",
                "long-name",
                f"Column '{column}' contains a name of {len(too_long)} characters, "
                f"'{too_long[:40]}...'; at most {MAX_NAME} are read.",
                "Check that this is the column of store names.",
                column=column,
            )
        )
    by_spelling: dict[str, list[str]] = {}
    for name in names.tolist():
        by_spelling.setdefault("".join(name.casefold().split()), []).append(name)
    twice = [same for same in by_spelling.values() if len(same) > 1]
    if twice:
        shown = "; ".join(first_few(same) for same in twice[:3])
        keys.findings.append(
            Finding(
                "warning",
                "store-spelling",
                f"{counted(len(twice), 'store')} in column '{column}' may be written in several "
                f"ways: {shown}. They are read as different stores.",
                "Write each store in one way (capitals and spaces count).",
                column=column,
                store=twice[0][0],
                stores=tuple(name for same in twice for name in same),
            )
        )
    spaced = names[(stripped != names) & (stripped != "")]
    if len(spaced):
        keys.findings.append(
            Finding(
                "warning",
                "store-name-spaces",
                f"Names in column '{column}' start or end with spaces: {first_few(spaced)}.",
                "Remove the spaces, so that 'A' and 'A ' become the same store.",
                column=column,
                store=str(spaced[0]),
            )
        )
    return keys


def _shortened(names: list[str]) -> tuple[list[str], str]:
    """Names of bounded length, as they are held in arrays of fixed width; and the longest if it is
    too long."""
    longest = max(names, key=len, default="")
    if len(longest) <= MAX_NAME:
        return names, ""
    return [n if len(n) <= MAX_NAME else f"{n[:40]}... {k}" for k, n in enumerate(names)], longest


def _add_row_error(
    keys: Keys, rows: NDArray[np.int64], code: str, problem: str, column: str, remedy: str
) -> None:
    if not len(rows):
        return
    first = int(rows[0])
    code_of_store = int(keys.codes[first])
    store = str(keys.stores[code_of_store]) if code_of_store >= 0 else None
    date = str(keys.days[first]) if len(keys.days) and not np.isnat(keys.days[first]) else None
    where = f"row {first + 1}" + (f" of store '{store}'" if store is not None else "")
    more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
    keys.findings.append(
        Finding(
            "error",
            code,
            f"{problem} in {where}{more}.",
            remedy,
            column=column,
            store=store,
            date=date,
            rows=len(rows),
        )
    )


def _name_order(names: NDArray[np.str_]) -> NDArray[np.int64]:
    """Order of the names: alphabetical, or by value if every name is an integer."""
    if len(names) and np.char.isdecimal(names).all():
        plain = np.char.lstrip(names, "0")
        return np.lexsort((names, plain, np.char.str_len(plain)))
    return np.argsort(names, kind="stable")
