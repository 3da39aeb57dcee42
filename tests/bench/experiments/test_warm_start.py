"""Fits from the usual start and from the prior's reading differ in that alone."""

from __future__ import annotations

from pathlib import Path

from bench.experiments.warm_start import main


def test_both_starts_are_measured_on_the_same_stores_and_differ(tmp_path: Path) -> None:
    options = ["--stores", "60", "--epochs", "2", "--seeds", "0", "--out", str(tmp_path)]
    rows = {row["start"]: row for row in main(options)}
    assert set(rows) == {"usual", "prior"}
    assert {row["stores"] for row in rows.values()} == {60}, "those fitted on"
    assert rows["usual"]["updates"] == rows["prior"]["updates"] == 2
    assert rows["prior"]["auroc"] != rows["usual"]["auroc"], "the start reaches the fit"
    assert all(row["auroc"] > 0.8 for row in rows.values())
