"""Columns that hold only 0 and 1: closures, price changes. Their roles are given elsewhere."""

from __future__ import annotations

from typing import Any

import pandas as pd

from causalmmm.data.sources import Source

_SAMPLED_ROWS = 10_000


def is_flag(source: Source, name: str) -> bool:
    """Whether a column holds 0 and 1, both of them, and nothing else but missing values.

    A closure may begin late in a table: a column without change in its first rows is read to its
    end, any other only there.
    """
    first = source.column(name, _SAMPLED_ROWS)
    if not _only(first):
        return False
    if first.dropna().nunique() < 2 and len(first) == _SAMPLED_ROWS:
        first = source.column(name)
    return _only(first) and first.dropna().nunique() == 2


def _only(series: pd.Series[Any]) -> bool:
    """Whether a column holds no other number than 0 and 1; text and dates are none."""
    if not pd.api.types.is_numeric_dtype(series.dtype):
        return False
    values = series.dropna()
    return bool(len(values)) and bool(values.isin([0, 1]).all())
