"""Words and numbers of messages."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from causalmmm.findings import rounded


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (53_351.7, "53,352"),
        (-1_234_567.0, "-1,234,567"),
        (999.96, "1,000.0"),
        (3.14159, "3.142"),
        (0.024171, "0.02417"),
        (0.0, "0"),
        (math.nan, "nan"),
        (math.inf, "inf"),
    ],
)
def test_numbers_have_four_digits_and_no_exponent(value: float, text: str) -> None:
    assert rounded(value) == text


@given(st.floats(1e-4, 1e15))
def test_a_rounded_number_is_near(value: float) -> None:
    assert float(rounded(value).replace(",", "")) == pytest.approx(value, rel=6e-4)
