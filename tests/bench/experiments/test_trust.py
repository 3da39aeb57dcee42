"""Trust on simulated panels: a row per measure, and one draw of every law."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from bench.experiments import trust


def test_every_measure_is_a_row_with_its_threshold(tmp_path: Path) -> None:
    asked = ["--quick", "--law", "reactive", "--tests", "placebo", "--out", str(tmp_path)]
    rows = trust.main(asked)
    assert [row["measure"] for row in rows] == [
        "return of copies / own",
        "copies with a sure effect",
    ]
    assert all(row["passed"] in (0, 1) and row["cpu"] > 0 for row in rows)
    written: Any = pd.read_csv(tmp_path / "trust-placebo.csv")
    assert written["at_most"].tolist() == [0.5, 0.0]
    assert set(written["law"]) == {"reactive"}
