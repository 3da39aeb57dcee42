"""The two columns that say which row is which: names of stores and dates, read and checked.

Nothing here knows other columns, or whether the dates of a store follow each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalmmm.data.readers import Source
from causalmmm.data.schema import NATIONAL
from causalmmm.dates import Days, parse_dates
from causalmmm.findings import Finding, first_few

Codes = NDArray[np.integer[Any]]


@dataclass
class Keys:
    """Store and date of every row, in the order of the file.

    stores  str [S]; alphabetical, or by value where every name is a whole number.
    codes   int [rows]; index into ``stores``, -1 for a row without a store.
    days    datetime64[D] [rows]; NaT for a row without a readable date.
    """

    stores: NDArray[np.str_]
    codes: Codes
    days: Days
    findings: list[Finding] = field(default_factory=list)

    @property
    def trusted(self) -> bool:
        """False when the dates may have been read wrongly, or no row has both keys: looking at
        the order of such rows would only raise false alarms."""
        doubts = {"ambiguous-date", "mixed-time-zone", "time-zone", "time-of-day"}
        wrong = any(f.severity == "error" and f.code in doubts for f in self.findings)
        return not wrong and bool(((self.codes >= 0) & ~np.isnat(self.days)).any())


def read_keys(source: Source, store: str | None, date: str) -> Keys:
    """Read both columns; ``store`` None means that all rows belong to one store."""
    if store is None:
        keys = Keys(np.array([NATIONAL]), np.zeros(source.rows, np.int8), np.empty(0, "M8[D]"))
    else:
        keys = _read_stores(source.column(store), store)
    series = source.column(date)
    parsed = parse_dates(series, date)
    keys.days = parsed.days
    keys.findings += parsed.findings
    lost = np.flatnonzero(keys.codes < 0)
    words = f"no store in column '{store}'"
    remedy = "Fill the store's name, or remove the rows."
    _refuse_rows(keys, lost, "missing-store", words, store or "", remedy)
    empty = np.flatnonzero(series.isna().to_numpy())
    _refuse_rows(
        keys,
        empty,
        "missing-date",
        f"no date in column '{date}'",
        date,
        "Fill the date, or remove the row.",
    )
    bad = np.flatnonzero(parsed.bad)
    if len(bad):
        _refuse_rows(
            keys,
            bad,
            "unparsable-date",
            f"'{series.iloc[int(bad[0])]}' instead of a date in column '{date}'",
            date,
            "Write dates as YYYY-MM-DD.",
        )
    return keys


def _read_stores(series: pd.Series[Any], column: str) -> Keys:
    if isinstance(series.dtype, pd.CategoricalDtype):
        codes, distinct = series.cat.codes.to_numpy(), series.cat.categories
    else:
        codes, distinct = pd.factorize(series)
        distinct = pd.Index(distinct)
    if pd.api.types.is_float_dtype(distinct.dtype) and (distinct == np.rint(distinct)).all():
        distinct = distinct.astype("int64")
    names = np.asarray(distinct.astype(str), dtype=np.str_)
    bare = np.char.strip(names)
    codes = np.append(np.where(bare == "", -1, np.arange(len(names), dtype=np.int32)), -1)[codes]
    order = _name_order(names)
    place = np.full(len(names) + 1, -1, np.int32)
    place[order] = np.arange(len(names), dtype=np.int32)
    keys = Keys(names[order], place[codes], np.empty(0, "M8[D]"))
    spaced = names[(bare != names) & (bare != "")]
    if len(spaced):
        keys.findings.append(
            Finding(
                "warning",
                "store-name-spaces",
                f"Names in column '{column}' begin or end with spaces: {first_few(spaced)}.",
                "Remove the spaces, so that 'A' and 'A ' are the same store.",
                column=column,
                store=str(spaced[0]),
            )
        )
    return keys


def _refuse_rows(
    keys: Keys, rows: NDArray[np.int64], code: str, what: str, column: str, remedy: str
) -> None:
    if not len(rows):
        return
    number = int(rows[0])
    owner = int(keys.codes[number])
    store = str(keys.stores[owner]) if owner >= 0 else None
    date = str(keys.days[number]) if len(keys.days) and not np.isnat(keys.days[number]) else None
    where = f"row {number + 1}" + (f" of store '{store}'" if store is not None else "")
    more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
    keys.findings.append(
        Finding(
            "error",
            code,
            f"There is {what}: {where}{more}.",
            remedy,
            column=column,
            store=store,
            date=date,
            rows=len(rows),
        )
    )


def _name_order(names: NDArray[np.str_]) -> NDArray[np.int64]:
    """Alphabetical, but by value where every name is a whole number."""
    if len(names) and np.char.isdecimal(names).all():
        plain = np.char.lstrip(names, "0")
        return np.lexsort((names, plain, np.char.str_len(plain)))
    return np.argsort(names, kind="stable")
