"""Blocks on several threads: results in order, few at a time, errors told, threads given back."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from causalmmm.decisions.in_order import in_order


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
def test_results_come_in_order_from_threads_that_work_at_the_same_time() -> None:
    meeting = threading.Barrier(2, timeout=30)

    def work(number: int) -> tuple[int, int]:
        meeting.wait()  # ends only when two are at work
        return number, torch.get_num_threads()

    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(6):
            taken.append(number)
            yield number

    results = in_order(work, items(), 2)
    assert next(results) == (0, 1)
    assert taken == [0, 1, 2]
    assert [number for number, _ in results] == [1, 2, 3, 4, 5]
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
def test_an_error_is_told_and_threads_are_given_back() -> None:
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda number: 1 // number, [1, 0, 1, 1], 2))
    assert torch.get_num_threads() == 3
