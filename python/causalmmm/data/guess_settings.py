"""Guessing how a table is written, for ``init``: encoding, decimal comma, business days, carrying.

Reading itself guesses none of this: a number is never read in another way than was asked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd

from causalmmm.data.gaps import Gaps
from causalmmm.data.guess import is_key
from causalmmm.data.keys import read_keys
from causalmmm.data.layout import Layout
from causalmmm.data.readers import Readable, open_source
from causalmmm.data.rows import lay_out
from causalmmm.data.schema import Schema
from causalmmm.data.sources import Source
from causalmmm.data.table_file import TableFile
from causalmmm.dates import weekday
from causalmmm.findings import RefusedInput

_SAMPLED_ROWS = 10_000
_AMOUNT = re.compile(r"[+-]?\d[\d.,' \u00a0\u202f]*")


@dataclass(frozen=True)
class Settings:
    """How the table is written, with the reason of every guess by the name of its setting."""

    table: Readable
    business_days: bool = False
    carried: bool = False
    reasons: dict[str, str] = field(default_factory=dict)


def guess_table(data: Readable) -> tuple[Readable, dict[str, str]]:
    """The same table, with a guess how its text is written where it is a path, and the reasons.

    Raises ``PanelError`` if it cannot be read in any way that is tried.
    """
    if isinstance(data, TableFile) or not isinstance(data, (str, PathLike)):
        return data, {}
    table, reasons = TableFile(data), {}
    try:
        source = open_source(table, is_key)
    except RefusedInput as refused:
        if not any(finding.code == "encoding" for finding in refused.report):
            raise
        table = replace(table, encoding="cp1252")
        source = open_source(table, is_key)
        reasons["encoding"] = "not UTF-8; this is Windows' for western Europe"
    signs = _number_signs(source)
    if signs is not None:
        decimal, thousands, example = signs
        table = replace(table, decimal=decimal, thousands=thousands)
        reasons["decimal"] = f"numbers such as {example}"
    return table, reasons


def guess_settings(table: Readable, schema: Schema, reasons: dict[str, str]) -> Settings:
    """Whether weekends are missing, and whether controls have one value a month at most."""
    found = Settings(table, reasons=dict(reasons))
    keys = (schema.store, schema.date)
    source = open_source(table, keys.__contains__)
    read = read_keys(source, schema.store, schema.date)
    if not read.trusted or not source.rows:
        return found
    layout = lay_out(read, schema.freq, 1, schema.date)
    if layout.freq == "D" and bool((weekday(layout.days) < 5).all()):
        filled = lay_out(read, schema.freq, 1, schema.date, Gaps(business_days=True))
        if filled.closed is not None:
            found = replace(found, business_days=True)
            found.reasons["business_days"] = "the table has no Saturdays and Sundays"
    monthly = [name for name in schema.control_names if _is_monthly(source.column(name), layout)]
    if monthly:
        found = replace(found, carried=True)
        found.reasons["carry"] = f"{', '.join(monthly)}: at most one value a month"
    return found


def _number_signs(source: Source) -> tuple[str, str, str] | None:
    """Decimal and thousands sign of text columns with amounts, and an example that decides."""
    votes: dict[tuple[str, str], str] = {}
    for name in source.names:
        series = source.column(name, _SAMPLED_ROWS)
        if is_key(name) or not isinstance(series.dtype, pd.CategoricalDtype):
            continue
        texts = [str(text).strip() for text in series.cat.categories]
        amounts = [text for text in texts if _AMOUNT.fullmatch(text)]
        if not amounts or len(amounts) < 0.8 * len(texts):
            continue
        for text in amounts:
            if (signs := _signs(text)) is not None:
                votes.setdefault(signs, text)
    decimals = {decimal for decimal, _ in votes}
    if len(decimals) != 1:  # none that decides, or they contradict each other
        return None
    (decimal,) = decimals
    between = sorted({thousands for _, thousands in votes} - {""})
    if len(between) > 1:
        return None
    # Where the comma is a decimal sign, 1.234 has a thousands sign, not three decimals.
    usual = "." if decimal == "," else ""
    return decimal, between[0] if between else usual, next(iter(votes.values()))


def _signs(text: str) -> tuple[str, str] | None:
    """(decimal, thousands) of a number where it can only be read in one way; else None."""
    text = text.lstrip("+-").replace("\u00a0", " ").replace("\u202f", " ")
    marks = re.findall(r"[.,' ]", text)
    if not marks:
        return None
    last, others = marks[-1], set(marks[:-1])
    tail = text.rpartition(last)[2]
    if last in "' ":  # 1'234 or 1 234: what is before decimals is not known, so a point
        return (".", last) if len(set(marks)) == 1 else None
    if not others:
        return (last, "") if last == "," and len(tail) != 3 else None
    if others == {last}:  # 1.234.567
        return (("," if last == "." else "."), last)
    if len(others) == 1 and marks.count(last) == 1:
        return (last, others.pop())
    return None


def _is_monthly(series: pd.Series[Any], layout: Layout) -> bool:
    """Whether a column has values, but in no store more than one a month, in shorter steps."""
    present = layout.sort(series.notna().to_numpy())
    if layout.freq == "MS" or not len(layout.days) or present.all() or present.sum() < 2:
        return False
    rows = np.flatnonzero(present)
    months = layout.days[rows].astype("datetime64[M]").astype(np.int64)
    owner = layout.store_of(rows)
    same = (np.diff(months) == 0) & (np.diff(owner) == 0)
    return not bool(same.any())
