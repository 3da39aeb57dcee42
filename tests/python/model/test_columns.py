"""The page of columns names what the frames have, in their order."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from causalmmm import CausalMMM
from causalmmm.simulation import simulate

PAGE = Path(__file__).parents[3] / "docs" / "columns.md"


def documented(question: str) -> list[str]:
    _, found, rest = PAGE.read_text(encoding="utf-8").partition(f"## {question}()\n")
    assert found, f"docs/columns.md has no section on {question}()"
    rows = re.findall(r"^\| (\w+) \|", rest.partition("\n## ")[0], re.MULTILINE)
    return rows[1:]  # without the heading


@pytest.fixture(scope="module")
def weekly() -> CausalMMM:
    panel, _ = simulate("weekly-mmm", seed=1, stores=3, steps=60)
    return CausalMMM(draws=40, horizon=3, device="cpu").fit(panel, progress=False)


@pytest.mark.parametrize("question", ["contributions", "paths", "roi"])
@pytest.mark.filterwarnings("ignore")
def test_columns_of_weekly_answers_are_documented(weekly: CausalMMM, question: str) -> None:
    frame: pd.DataFrame = getattr(weekly, question)()
    assert list(frame.columns) == documented(question)


ANSWERS: dict[str, Callable[[Any], pd.DataFrame]] = {
    "graphs": lambda fitted: fitted.model.graphs(fitted.panel),
    "predict": lambda fitted: fitted.model.predict(fitted.panel),
    "decompose": lambda fitted: fitted.model.decompose(fitted.panel),
    "response_curves": lambda fitted: fitted.model.response_curves(panel=fitted.panel),
    "evaluate": lambda fitted: fitted.model.evaluate(fitted.panel),
}


@pytest.mark.parametrize("question", ANSWERS)
def test_columns_of_answers_are_documented(fitted: Any, question: str) -> None:
    assert list(ANSWERS[question](fitted).columns) == documented(question)
