"""The bench commands run from end to end on small panels, without the model."""

from __future__ import annotations

import forecast
import numpy as np

from causalmmm.simulation import simulate


def test_forecast_bench_scores_every_baseline_at_every_horizon(tmp_path):
    options = "--stores 4 --seeds 0 --origins 3 --every 6 --baselines-only"
    rows = forecast.main([*options.split(), "--out", str(tmp_path)])
    assert {r["method"] for r in rows} == set(forecast.BASELINES)
    assert {r["horizon"] for r in rows} == {1, 7, 30}
    assert all(np.isfinite(r["mse"]) for r in rows)
    first = [r for r in rows if r["horizon"] == 1 and r["method"] == "store mean"]
    assert first[0]["mse"] == first[1]["mse"], "up to step 1 and at step 1 are the same"


def test_last_origin_ends_with_the_panel():
    panel, _ = simulate("airmmm", stores=3)
    task = forecast.rolling_origins(panel, origins=4, every=10)
    assert task.origins == (610, 620, 630, 640)
    assert task.actual.shape == (4, 3, 30)
    np.testing.assert_array_equal(task.actual[-1], task.history[:, -30:, -1])
