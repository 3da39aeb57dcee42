"""Pictures of forecasts, fits, curves and decompositions show all that they are given."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex

from causalmmm.plots import (
    plot_adstock,
    plot_curves,
    plot_decomposition,
    plot_fit,
    plot_forecast,
    plot_residuals,
    plot_waterfall,
)
from causalmmm.plots.style import PALETTE

if TYPE_CHECKING:
    from conftest import Fitted


def texts(figure: Any) -> set[str]:
    return {t.get_text() for t in [*figure.texts, *figure.axes[0].texts]}


def test_a_forecast_shows_history_bands_mean_and_what_happened(fitted: Fitted) -> None:
    history, hidden = fitted.panel.split(10)
    store = str(fitted.panel.stores[2])
    forecast = fitted.model.predict(history, level=(50, 80, 95))
    known, after = (
        pd.Series(p.select([store]).data.values[:, -1], index=p.dates(store))
        for p in (history, hidden)
    )
    figure = plot_forecast(
        forecast, store=store, series="gmv", history=known, actual=after, tail=20
    )
    axes = figure.axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    assert len(lines["history"].get_ydata()) == 20
    assert list(lines["actual"].get_ydata()) == pytest.approx(list(after))
    mean = forecast.query("store == @store and series == 'gmv'")["mean"]
    assert list(lines["forecast (mean)"].get_ydata())[1:] == pytest.approx(list(mean))
    bands = [c.get_label() for c in axes.collections if isinstance(c, PolyCollection)]
    assert bands == ["95 % interval", "80 % interval", "50 % interval"]
    assert any(f"gmv of store {store}" in text for text in texts(figure))


def test_a_forecast_stands_alone_too(fitted: Fitted) -> None:
    forecast = fitted.model.predict(fitted.panel)
    figure = plot_forecast(forecast, store=str(fitted.panel.stores[0]), series="pv", title="pv")
    assert {line.get_label() for line in figure.axes[0].lines} == {"forecast (mean)"}
    with pytest.raises(KeyError, match="no forecast of 'x9'"):
        plot_forecast(forecast, store=str(fitted.panel.stores[0]), series="x9")


def test_curves_are_drawn_channel_by_channel_with_bands_and_usual_amounts(fitted: Fitted) -> None:
    store = str(fitted.panel.stores[1])
    curves = fitted.model.response_curves(store=store, points=9)
    channels = list(dict.fromkeys(curves["channel"]))
    figure = plot_curves(curves, store=store, target="gmv", usual={channels[0]: 2.0})
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes if axes.axison}
    last = curves[curves["amount"] > 0].groupby("channel").last()["expected"]
    assert list(panels) == list(last.abs().sort_values(ascending=False, kind="stable").index)
    for name, axes in panels.items():
        rows = curves[curves["channel"] == name]
        lines = {line.get_label(): line for line in axes.lines}
        assert list(lines["given the edge"].get_ydata()) == pytest.approx(list(rows["effect"]))
        assert list(lines["expected"].get_ydata()) == pytest.approx(list(rows["expected"]))
        assert ("usual" in lines) == (name == channels[0])
        (band,) = (c for c in axes.collections if isinstance(c, PolyCollection))
        top = band.get_paths()[0].get_extents().ymax
        assert top == pytest.approx(rows["upper"].max())
        share = (rows["expected"] / rows["effect"]).iloc[-1]
        assert axes.get_title(loc="right") == f"edge: {share:.0%}"
    assert len({axes.get_ylim() for axes in panels.values()}) == 1
    with pytest.raises(KeyError, match="no response curves of store 'x9'"):
        plot_curves(curves, store="x9", target="gmv")


def test_a_curve_that_lowers_is_drawn_below_zero() -> None:
    rows = {"store": "a", "channel": "tv", "amount": [0.0, 1.0], "expected": [0.0, -1.0]}
    rows |= {"effect": [0.0, -2.0], "lower": [0.0, -3.0], "upper": [0.0, -1.0]}
    (axes,) = plot_curves(pd.DataFrame(rows), store="a", target="gmv").axes
    assert to_hex(axes.lines[0].get_color()) == PALETTE[0]
    assert axes.get_ylim()[0] < -3.0
    assert axes.get_title(loc="right") == "edge: 50%"


def test_a_channel_that_a_store_has_never_used_says_so_and_has_no_axis_of_its_own() -> None:
    rows = [("tv", a, 2 * a) for a in (0.0, 1.0)] + [("radio", 0.0, 0.0)] * 2
    frame = pd.DataFrame(rows, columns=["channel", "amount", "effect"]).assign(store="a")
    for name in ("expected", "lower", "upper"):
        frame[name] = frame["effect"]
    measured = {"tv": "impressions", "radio": "spend"}
    usual = {"tv": 0.5, "radio": 0.0}
    figure = plot_curves(frame, store="a", target="gmv", usual=usual, measured=measured)
    tv, radio = figure.axes[:2]
    assert [t.get_text() for t in radio.texts] == ["not used here"]
    assert not radio.lines
    assert list(radio.get_xticks()) == [0]
    assert tv.get_xlabel() == "impressions per step"
    title = figure.texts[0].get_text()
    assert title == "Twice the usual tv would add 1 to gmv of store a, per step"
    fleet = plot_curves(
        frame.assign(store="all stores"), store="all stores", target="gmv", usual=usual
    )
    assert (
        fleet.texts[0].get_text() == "Twice the usual tv would add 1 to gmv of all stores, per step"
    )


def test_planned_and_usual_amounts_are_marked_on_the_curve() -> None:
    frame = pd.DataFrame({"amount": [0.0, 2.0], "effect": [0.0, 4.0]}).assign(
        store="a", channel="tv", expected=0.0, lower=0.0, upper=4.0
    )
    figure = plot_curves(frame, store="a", target="gmv", usual={"tv": 0.5}, planned={"tv": 1.5})
    marks = {line.get_label(): line.get_xydata() for line in figure.axes[0].lines}
    assert marks["usual"] == pytest.approx(np.array([[0.5, 1.0]]))
    assert marks["planned"] == pytest.approx(np.array([[1.5, 3.0]]))
    assert "diamond: planned" in figure.texts[1].get_text()


def test_carry_over_curves_are_those_of_the_model(fitted: Fitted) -> None:
    adstock = fitted.model.adstock(lags=60)
    assert list(adstock.columns) == ["channel", "lag", "share", "lower", "upper"]
    assert adstock.groupby("channel")["share"].sum().to_numpy() == pytest.approx(1, abs=0.02)
    assert (adstock[adstock["lag"] == 0]["share"] == 0).all()  # effects begin a step later
    figure = plot_adstock(adstock)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    for name, rows in adstock.groupby("channel"):
        assert list(lines[name].get_ydata()) == list(rows["share"])
    with pytest.raises(ValueError, match="at least 0"):
        fitted.model.adstock(lags=-1)


def test_the_channel_that_carries_over_longest_is_named() -> None:
    rows = [("tv", 0, 0.5), ("tv", 1, 0.5), ("web", 0, 0.9), ("web", 1, 0.1)]
    frame = pd.DataFrame(rows, columns=["channel", "lag", "share"]).assign(lower=0.0, upper=1.0)
    figure = plot_adstock(frame)
    assert figure.texts[0].get_text() == "tv carries over longest: 0.5 steps on average"


def fit_frame(rest: list[float], hidden: int) -> pd.DataFrame:
    dates = pd.date_range("2024-01-01", periods=len(rest), freq="W-MON")
    shown = np.arange(len(rest)) >= len(rest) - hidden
    actual = np.full(len(rest), 100.0)
    columns = {"date": dates, "actual": actual, "expected": actual - rest, "hidden": shown}
    return pd.DataFrame(columns)


def test_a_fit_says_how_far_off_it_is_and_marks_what_was_hidden() -> None:
    figure = plot_fit(fit_frame([2.0, -2.0] * 5 + [10.0, -10.0], 2), target="gmv")
    assert figure.texts[0].get_text() == (
        "Expected gmv misses by 2.0% where the model was fitted, by 10.0% on hidden steps"
    )
    lines = {line.get_label(): list(line.get_ydata()) for line in figure.axes[0].lines}
    assert lines["actual"] == [100.0] * 12
    assert lines["expected"][-2:] == [90.0, 110.0]
    assert figure.axes[0].get_ylim()[0] == 0
    (ground,) = figure.axes[0].patches
    assert ground.get_label() == "hidden from the fit"
    assert not plot_fit(fit_frame([2.0, -2.0], 0), target="gmv").axes[0].patches


def test_residuals_say_whether_they_follow_a_pattern() -> None:
    figure = plot_residuals(fit_frame([1.0] * 6 + [-1.0] * 6, 0), target="gmv")
    assert figure.texts[0].get_text() == "75% of a residual of gmv is still there a step later"
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert heights == [1.0] * 6 + [-1.0] * 6
    other = plot_residuals(fit_frame([1.0, 1.0, -1.0, -1.0] * 4, 0), target="gmv")
    assert "follow no pattern" in other.texts[0].get_text()


def test_a_waterfall_leads_from_nothing_to_what_was_observed() -> None:
    figure = plot_waterfall(decomposition(3), target="gmv")
    bars = [(b.get_x(), b.get_width()) for b in figure.axes[0].patches]
    steps = [(0, 120), (120, 20), (140, -11), (129, 6), (135, 4), (139, 4), (0, 143)]
    assert np.array(bars) == pytest.approx(np.array(steps))
    labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert labels[-1] == "gmv, observed"


def test_stores_add_up_where_none_is_named() -> None:
    two = pd.concat([decomposition(2), decomposition(2).assign(store="b")])
    figure = plot_decomposition(two, target="gmv")
    one = plot_decomposition(two, store="a", target="gmv")
    whole, half = (f.axes[0].lines[0].get_ydata() for f in (figure, one))
    assert list(whole) == [2 * v for v in half]
    assert "gmv of all stores" in figure.texts[0].get_text()


def decomposition(series: int) -> pd.DataFrame:
    """Two days of one store: 60 baseline, 10 own past, x(k) k + 1, x0 minus 5.5."""
    values = {"baseline": 60.0, "own past": 10.0}
    values |= {f"x{k}": float(k + 1) for k in range(series)} | {"x0": -5.5, "remainder": 2.0}
    dates = pd.to_datetime(["2024-05-01", "2024-05-02"])
    return pd.DataFrame(
        [
            {"store": "a", "date": date, "component": name, "value": value}
            for date in dates
            for name, value in values.items()
        ]
    )


def test_parts_are_stacked_to_what_was_observed_and_shares_are_of_it() -> None:
    figure = plot_decomposition(decomposition(3), store="a", target="gmv")
    over_time, shares = figure.axes
    observed = 60 + 10 - 5.5 + 2 + 3 + 2
    assert list(over_time.lines[0].get_ydata()) == [observed] * 2
    tops = [c.get_paths()[0].get_extents() for c in over_time.collections]
    assert max(t.ymax for t in tops) == pytest.approx(60 + 10 + 2 + 3)
    assert min(t.ymin for t in tops) == pytest.approx(-5.5)
    names = [t.get_text() for t in shares.get_yticklabels()]
    assert names == ["baseline", "own past", "x0", "x2", "x1"]
    widths = [bar.get_width() for bar in shares.patches]
    assert widths == pytest.approx([w / observed for w in (60, 10, -5.5, 3, 2)])
    with pytest.raises(KeyError, match="no decomposition of store 'b'"):
        plot_decomposition(decomposition(1), store="b", target="gmv")


def test_what_there_is_no_colour_for_is_drawn_together() -> None:
    figure = plot_decomposition(decomposition(12), store="a", target="gmv")
    names = [t.get_text() for t in figure.axes[1].get_yticklabels()]
    assert len(names) == 2 + 8 + 1
    assert names[-1] == "all others"
    assert figure.axes[1].patches[-1].get_width() == pytest.approx((2 + 3 + 4 + 5) / 143.5)


def test_a_part_that_is_zero_and_a_group_of_one_are_not_drawn() -> None:
    parts = decomposition(9)
    parts.loc[parts["component"] == "own past", "value"] = 0.0
    figure = plot_decomposition(parts, store="a", target="gmv")
    names = [t.get_text() for t in figure.axes[1].get_yticklabels()]
    assert names[0] == "baseline"
    assert sorted(names[1:]) == [f"x{k}" for k in range(9)]


def test_matplotlib_is_imported_only_for_a_picture() -> None:
    code = "import sys, causalmmm.plots; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
