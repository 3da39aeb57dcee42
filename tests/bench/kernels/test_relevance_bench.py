"""The benchmark of the evidence's regressions runs, and compares like with like."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.kernels import relevance

pytest.importorskip("causalmmm._C", reason="needs the compiled extension")


def test_both_forms_of_both_regressions(tmp_path: Path) -> None:
    rows = relevance.main(["--sizes", "3x40", "--rounds", "1", "--out", str(tmp_path)])
    assert [row["regressions"] for row in rows] == ["lags", "responses"]
    assert all(row["difference"] < 1e-8 for row in rows)
    assert (tmp_path / "relevance.csv").exists()
