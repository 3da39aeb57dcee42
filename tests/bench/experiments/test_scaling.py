"""Scaling and ablations: the slope is right by hand, and each command runs on a few stores."""

from __future__ import annotations

import numpy as np
import pytest
from bench.experiments import ablations, scaling

from causalmmm.simulation import simulate


def test_slope_is_one_when_time_grows_with_stores():
    def rows(power: float) -> list[dict[str, float]]:
        return [{"stores": s, "seconds_per_epoch": 1e-3 * s**power} for s in (1000, 2000, 8000)]

    assert scaling.slope(rows(1.0), "stores") == pytest.approx(1.0)
    assert scaling.slope(rows(1.2), "stores") == pytest.approx(1.2)


def test_more_series_and_more_training_stores_are_measured_and_drawn(tmp_path):
    options = "--parts series quality --series 8 10 --series-stores 20 --epochs 2"
    options += " --training 20 40 --held-out 10 --seeds 0"
    one_epoch = ["--settings", '{"epochs": 2}', "--out", str(tmp_path)]
    rows = scaling.main([*options.split(), *one_epoch])
    assert [r["series"] for r in rows if "series" in r] == [8, 10]
    quality = [r for r in rows if "training stores" in r]
    assert [r["training stores"] for r in quality] == [20, 40]
    assert all(0.0 <= r["auroc"] <= 1.0 for r in quality)
    assert (tmp_path / "scaling.png").stat().st_size > 0


def test_a_graph_present_or_absent_everywhere_tells_no_edges_apart(tmp_path):
    names = ["every edge present", "no edge present", "no context"]
    options = ["--scenario", "paper-small", "--stores", "20", "--seeds", "0", "--origins", "2"]
    few = ["--settings", '{"epochs": 1, "draws": 4}', "--out", str(tmp_path)]
    rows = ablations.main([*options, *few, "--ablations", *names])
    found = {row["ablation"]: row for row in rows}
    assert found["every edge present"]["auroc"] == found["no edge present"]["auroc"] == 0.5
    assert all(np.isfinite(row[f"mse_{h}"]) for row in rows for h in (1, 7, 30))
    assert (tmp_path / "ablations-paper-small.png").stat().st_size > 0


def test_dropping_context_changes_nothing_else():
    panel, _ = simulate("paper-small", stores=3)
    bare = ablations.without_context(panel)
    assert panel.context_names
    assert not bare.context_names
    np.testing.assert_array_equal(bare.data.values, panel.data.values)
    assert list(bare.stores) == list(panel.stores)
