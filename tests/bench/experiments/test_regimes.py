"""The bench of both regimes says which of them evidence asks for."""

from __future__ import annotations

from pathlib import Path

from bench.experiments.regimes import main


def test_evidence_knows_when_effects_begin(tmp_path: Path) -> None:
    laws = ["weekly", "weekly, a week later", "daily", "daily, within the day"]
    options = ["--stores", "6", "--seeds", "1", "--regime", "evidence", "--out", str(tmp_path)]
    found = {row["law"]: row for row in main(["--law", *laws, *options])}
    assert {name: row["within"] > 5 for name, row in found.items()} == {
        "weekly": True,
        "weekly, a week later": False,
        "daily": False,
        "daily, within the day": True,
    }
    assert found["daily"]["auto"] == "amortised"
    assert found["daily, within the day"]["auto"] == "regression"
