"""Tables of an exported file beside those of its model."""

from __future__ import annotations

import pandas as pd

# The file's responses are float32. A remainder or an interaction is what is left of some six such
# parts, and no better than their last digits: eight roundings of the column's largest value.
ROUNDED = 8 * 2.0**-24


def assert_same_table(model: pd.DataFrame, file: pd.DataFrame) -> None:
    """Both have the same columns, equal but for roundings."""
    assert len(model)
    assert list(model) == list(file)
    for name, column in model.items():
        digits = ROUNDED * column.abs().max() if column.dtype.kind == "f" else 0.0
        pd.testing.assert_series_equal(column, file[name], rtol=1e-4, atol=digits)
