"""Trust on simulated panels: a row per measure, and one draw of every law."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from bench.experiments import trust

from causalmmm import CausalMMM


def test_every_measure_is_a_row_with_its_threshold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = CausalMMM.trust
    monkeypatch.setattr(
        CausalMMM, "trust", lambda model, panel, **how: every(model, panel, ["placebo"], **how)
    )
    rows = trust.main(["--quick", "--law", "reactive", "--out", str(tmp_path)])
    assert [row["measure"] for row in rows] == [
        "return of copies / own",
        "copies with a sure effect",
    ]
    assert all(row["passed"] in (0, 1) and row["cpu"] > 0 for row in rows)
    written: Any = pd.read_csv(tmp_path / "trust.csv")
    assert written["at_most"].tolist() == [0.5, 0.0]
    assert set(written["law"]) == {"reactive"}
