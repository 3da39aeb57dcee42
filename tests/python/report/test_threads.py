"""A report is gathered on several threads."""

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


@pytest.fixture(autouse=True)
def threads_given_back() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_report_is_the_same_on_one_thread_and_on_several(
    weekly: tuple[CausalMMM, Panel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, panel = weekly
    torch.set_num_threads(3)
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
