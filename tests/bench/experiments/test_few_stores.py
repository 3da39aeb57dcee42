"""The table of small panels: every method on the same draws."""

from __future__ import annotations

from bench.experiments import few_stores


def test_every_method_scores_the_stores_it_was_given(tmp_path):
    options = ["--sizes", "1", "3", "--methods", "eb-granger-7", "granger-bic", "--draws", "2"]
    rows = few_stores.main([*options, "--out", str(tmp_path)])
    assert [(r["stores"], r["seed"]) for r in rows[::2]] == [(1, 0), (1, 1), (3, 0), (3, 1)]
    assert all(r["scored stores"] == r["stores"] for r in rows)
    assert all(0 < r["auroc"] <= 1 for r in rows)
    assert (tmp_path / "few-stores-paper-small.csv").exists()
