"""The structure bench runs from end to end on small panels, without the model, and resumes."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from bench.experiments import structure

FAST = ["eb-granger-7", "granger-bic", "granger-oracle", "receiver-variance", "edge-frequency"]


def run(out, *more: str) -> list[dict]:
    arguments = ["--stores", "40", "--out", str(out), *more]
    if "--methods" not in more:
        arguments += ["--methods", *FAST]
    return structure.main(arguments)


def test_every_method_scores_the_same_held_out_stores(tmp_path, capsys):
    rows = run(tmp_path, "--scenario", "paper-small", "--seeds", "0", "1")
    assert [(r["seed"], r["method"]) for r in rows] == [(s, m) for s in (0, 1) for m in FAST]
    assert all(r["scored stores"] == 8 and r["training stores"] == 32 for r in rows)
    assert all(0.0 <= r["heterogeneous_auroc"] <= 1.0 for r in rows)
    scores = {r["method"]: r for r in rows if r["seed"] == 0}
    assert scores["granger-oracle"]["auroc"] > 0.75
    assert scores["edge-frequency"]["heterogeneous_auroc"] == 0.5
    assert 0.0 <= scores["eb-granger-7"]["ece"] <= 1.0
    assert scores["granger-bic"]["shd"] < 56
    assert "receiver-variance" in capsys.readouterr().out
    with (tmp_path / "structure-paper-small.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(rows)


def test_what_is_measured_stays_and_what_is_new_is_added(tmp_path):
    first = run(tmp_path, "--seeds", "0", "--methods", "granger-bic")
    path = tmp_path / "structure-paper-small.csv"
    text = path.read_text().replace(f"{first[0]['auroc']:.6g}", "0.123456", 1)
    path.write_text(text)
    rows = run(tmp_path, "--seeds", "0", "1", "--methods", "granger-bic", "edge-frequency")
    found = {(r["seed"], r["method"]): r["auroc"] for r in rows}
    assert len(found) == len(rows) == 4
    assert found[0, "granger-bic"] == 0.123456, "read, not measured again"
    again = run(tmp_path, "--seeds", "0", "--methods", "granger-bic", "--again")
    assert len(again) == 4
    assert [r["auroc"] for r in again if (r["seed"], r["method"]) == (0, "granger-bic")] == [
        first[0]["auroc"]
    ]


def test_another_size_is_another_row(tmp_path):
    run(tmp_path, "--seeds", "0", "--methods", "granger-bic")
    rows = run(tmp_path, "--seeds", "0", "--methods", "granger-bic", "--stores", "30")
    assert [r["training stores"] for r in rows] == [32, 24]


def test_table_and_picture_are_drawn_from_what_is_measured(tmp_path, capsys):
    run(tmp_path, "--seeds", "0", "1", "--scenario", "paper-small", "lag7")
    rows = structure.main(["--draw", "--out", str(tmp_path)])
    assert {r["scenario"] for r in rows} == {"paper-small", "lag7"}
    assert len(rows) == 2 * 2 * len(FAST)
    assert "±" in capsys.readouterr().out
    assert (tmp_path / "structure.png").stat().st_size > 10_000


def test_nothing_measured_is_said_rather_than_drawn(tmp_path):
    with pytest.raises(SystemExit, match="nothing measured"):
        structure.main(["--draw", "--out", str(tmp_path)])


def test_no_store_is_both_trained_on_and_held_out():
    train, held_out = structure.split(30, 0.2, seed=0)
    assert np.array_equal(np.sort(np.concatenate([train, held_out])), np.arange(30))
    assert len(held_out) == 6
