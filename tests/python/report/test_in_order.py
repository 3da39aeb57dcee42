"""Blocks on several threads: results in order, few at a time, errors told, threads given back."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch

from causalmmm import CausalMMM, Panel
from causalmmm.report import gather as whole
from causalmmm.report.in_order import in_order


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


@pytest.mark.usefixtures("three_threads")
def test_a_report_is_the_same_on_one_thread_and_on_several(
    weekly: tuple[CausalMMM, Panel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, panel = weekly
    monkeypatch.setattr(sys.modules[whole.__module__], "_STORES_AT_ONCE", 1)
    threads: set[int] = set()
    decompose = CausalMMM.decompose

    def noting(self: CausalMMM, block: Panel) -> pd.DataFrame:
        threads.add(threading.get_ident())
        return decompose(self, block)

    monkeypatch.setattr(CausalMMM, "decompose", noting)
    several = whole(model, panel, tmp_path / "stores", horizon=4)
    assert len(threads) > 1
    torch.set_num_threads(1)
    again = tmp_path / "again"
    again.mkdir()
    one = whole(model, panel, again / "stores", horizon=4)
    assert one.facts == several.facts
    assert (again / "stores").read_bytes() == (tmp_path / "stores").read_bytes()
    for name, frame in one.frames.items():
        pd.testing.assert_frame_equal(frame, several.frames[name], check_exact=True)
