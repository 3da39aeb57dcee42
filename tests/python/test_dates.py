"""The arithmetic of dates on daily, weekly and monthly grids."""

from __future__ import annotations

import numpy as np
import pytest

from causalmmm.dates import describe_step, next_steps, on_step, step_number, steps_from

GRIDS = [
    ("D", ["2024-02-28", "2024-02-29", "2024-03-01"]),
    ("W-WED", ["2024-02-21", "2024-02-28", "2024-03-06"]),
    ("MS", ["2023-12-01", "2024-01-01", "2024-02-01"]),
]


@pytest.mark.parametrize(("freq", "dates"), GRIDS)
def test_steps_follow_and_are_numbered(freq: str, dates: list[str]) -> None:
    grid = np.array(dates, "datetime64[D]")
    assert (steps_from(grid[0], 3, freq) == grid).all()
    assert step_number(grid, freq, grid[0]).tolist() == [0, 1, 2]
    assert on_step(grid, freq).all()


@pytest.mark.parametrize(("freq", "dates"), GRIDS)
def test_every_date_has_its_own_next_step(freq: str, dates: list[str]) -> None:
    first, second, third = np.array(dates, "datetime64[D]")
    days = np.array([second, first, second])
    assert next_steps(days, freq).tolist() == np.array([third, second, third]).tolist()


@pytest.mark.parametrize(
    ("freq", "words"),
    [("D", "a date"), ("W-MON", "a Monday"), ("W-SUN", "a Sunday"), ("MS", "the first day")],
)
def test_steps_are_described_in_words(freq: str, words: str) -> None:
    assert describe_step(freq).startswith(words)
