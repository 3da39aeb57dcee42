"""Experiments as a user brings them: what they change, what they leave, what is refused."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from causalmmm import CausalMMM, Panel, load
from causalmmm.findings import PanelError
from causalmmm.simulation import simulate


@pytest.fixture(scope="module")
def reactive() -> Panel:
    """A panel whose spend follows the demand of its own week."""
    panel, _ = simulate(
        "weekly-mmm", seed=0, stores=3, steps=120, demand_on_spend=0.5, demand_on_outcome=0.15
    )
    return panel


@pytest.fixture(scope="module")
def model(reactive: Panel) -> CausalMMM:
    return CausalMMM(seed=0).fit(reactive, progress=False)


def _test_of(panel: Panel, channel: str, lift: float, error: float, **rest: Any) -> dict[str, Any]:
    days = panel.dates(panel.stores[0])
    row = {"store": "ALL", "channel": channel, "start": days[80], "end": days[99]}
    return row | {"lift": lift, "lift_se": error} | rest


def _calibrated(model: CausalMMM, *rows: dict[str, Any]) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return model.calibrate(pd.DataFrame(list(rows)))


def test_answers_follow_the_experiment_and_forecasts_stay(
    model: CausalMMM, reactive: Panel
) -> None:
    panel = reactive
    before = model.roi(by="total").set_index("channel")["outcome"]
    forecast = model.predict(horizon=4)
    expected = _calibrated(model, _test_of(panel, "x2", 1.0, 1e9))["before"][0]
    found = _calibrated(model, _test_of(panel, "x2", expected / 2, expected / 40))
    assert found["after"][0] == pytest.approx(expected / 2, rel=0.1)
    assert found["after_upper"][0] - found["after_lower"][0] < expected / 5
    after = model.roi(by="total").set_index("channel")["outcome"]
    assert after["x2"] / before["x2"] == pytest.approx(0.5, abs=0.07)
    others = [name for name in before.index if name.startswith("x") and name != "x2"]
    large = [name for name in others if before[name] > 0.05 * before["all channels"]]
    np.testing.assert_allclose(after[large], before[large], rtol=0.15)
    table = model.paths(by="total").set_index(["channel", "path"])["mean"]
    assert table["x2", "total"] == pytest.approx(after["x2"])
    assert table["all channels", "total"] == pytest.approx(
        table.xs("total", level="path").drop("all channels").sum()
    )
    target = forecast["series"] == panel.nodes[-1]
    again = model.predict(horizon=4)
    # the baseline gives back what the channel's mean response gained; a single step differs more
    sums = [frame.loc[target, "mean"].sum() for frame in (again, forecast)]
    assert sums[0] / sums[1] == pytest.approx(1, abs=0.03)


def test_a_conflict_is_told_and_survives_saving(
    model: CausalMMM, reactive: Panel, tmp_path: Path
) -> None:
    panel = reactive
    expected = _calibrated(model, _test_of(panel, "x4", 1.0, 1e9))["before"][0]
    row = _test_of(panel, "x4", expected / 5, expected / 50)
    with pytest.warns(UserWarning, match=r"experiment x4 in ALL.* where the panel expects"):
        found = model.calibrate(pd.DataFrame([row]))
    assert abs(found["conflict"][0]) > 2
    assert found["panel_wrong"][0] > 0.9
    model.save(tmp_path / "run")
    pd.testing.assert_frame_equal(load(tmp_path / "run").roi(panel), model.roi())


def test_spend_that_the_panel_lacks_is_added(model: CausalMMM, reactive: Panel) -> None:
    panel = reactive
    days = panel.dates(panel.stores[0])
    frame = panel.to_frame()
    dark = frame[panel.schema.date].between(days[80], days[99])
    frame.loc[dark, "x2"] = 0.0
    without = Panel.from_frame(frame, panel.schema)
    row = _test_of(panel, "x2", 100.0, 1e9, design="go-dark")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        full = model.calibrate(pd.DataFrame([row]), without)["before"][0]
        spent = panel.to_frame().loc[~dark, "x2"].mean() * dark.sum()
        half = model.calibrate(pd.DataFrame([row | {"spend": spent / 2}]), without)["before"][0]
    assert full > half > 0.4 * full  # saturation: the first half brings more than the second


def test_a_window_alone_has_less_than_with_its_carryover(model: CausalMMM, reactive: Panel) -> None:
    rows = [_test_of(reactive, "x2", 100.0, 1e9, scope=s) for s in ("immediate", "total")]
    found = _calibrated(model, *rows)
    assert 0 < found["before"][0] < found["before"][1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"store": "s9"}, "Row 1 of the experiments has no store 's9'"),
        (
            {"channel": "x22"},
            r"has no paid channel 'x22'.*\n?.*Did you mean 'x2'\? There are 'x0', ",
        ),
        ({"lift_se": 0.0}, "has lift_se '0.0', which is no number above 0"),
        ({"start": "soon"}, "Column 'start' .* contains 'soon' instead of a date in row 1"),
        ({"end": None}, "missing-date: Column 'end'"),
        ({"start": "2020-01-01 17:30"}, "time-of-day"),
        ({"start": "03/04/2020"}, "can be read in two ways"),
        ({"end": "1999-01-01"}, "before it starts"),
        ({"start": "1999-01-01"}, "the panel has .* there"),
        ({"design": "switchback"}, "it is one of holdback, heavy-up, go-dark"),
        ({"spend": 1e15}, "the panel has .* for the channel there"),
    ],
)
def test_bad_experiments_are_refused_by_row(
    model: CausalMMM,
    reactive: Panel,
    change: dict[str, Any],
    message: str,
) -> None:
    row = {k: str(v) for k, v in _test_of(reactive, "x2", 1.0, 1.0).items()} | change
    with pytest.raises(ValueError, match=message):
        model.calibrate(pd.DataFrame([row]))


def test_a_missing_column_is_named(model: CausalMMM, reactive: Panel) -> None:
    row = _test_of(reactive, "x2", 1.0, 1.0)
    del row["lift_se"]
    with pytest.raises(PanelError, match="no column 'lift_se'"):
        model.calibrate(pd.DataFrame([row]))
