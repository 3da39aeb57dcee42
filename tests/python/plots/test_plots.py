"""Pictures show what they are given: nodes by role, edges by probability and sign, all bands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import networkx as nx
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from matplotlib.patches import Circle, FancyArrowPatch

from causalmmm.plots import plot_curves, plot_decomposition, plot_forecast, plot_graph
from causalmmm.plots.style import NEGATIVE, POSITIVE

if TYPE_CHECKING:
    from conftest import Fitted


@pytest.fixture
def graph() -> nx.DiGraph:
    graph = nx.DiGraph(store="Köln [1]", threshold=0.4)
    for name, role in (
        ("tv", "channel"), ("web", "channel"), ("mail", "organic"), ("visits", "mediator"),
        ("sales", "target"),
    ):  # fmt: skip
        graph.add_node(name, role=role)
    graph.add_edge("tv", "visits", probability=0.95, effect=3.0)
    graph.add_edge("web", "sales", probability=0.5, effect=-1.0)
    graph.add_edge("sales", "tv", probability=0.6, effect=1.0)
    graph.add_edge("tv", "web", probability=0.7, effect=1.0)
    return graph


def texts(figure: Any) -> set[str]:
    return {t.get_text() for t in [*figure.texts, *figure.axes[0].texts]}


def test_a_graph_runs_from_channels_through_mediators_to_the_target(graph: nx.DiGraph) -> None:
    figure = plot_graph(graph)
    labels = {t.get_text() for t in figure.axes[0].texts}
    assert labels == {"tv", "web", "mail", "visits", "sales"}
    circles = [p for p in figure.axes[0].patches if isinstance(p, Circle)]
    across = dict(zip(graph, (c.get_center()[0] for c in circles), strict=True))
    assert max(across[n] for n in ("tv", "web", "mail")) < across["visits"] < across["sales"]
    assert any("Köln [1]" in text for text in texts(figure))
    assert "4 edges with a probability of at least 0.4" in texts(figure)


def test_edges_widen_with_probability_and_are_coloured_by_sign(graph: nx.DiGraph) -> None:
    arrows = [p for p in plot_graph(graph).axes[0].patches if isinstance(p, FancyArrowPatch)]
    widths = [a.get_linewidth() for a in arrows]
    assert widths == sorted(widths)  # the most probable on top
    assert len(set(widths)) == 4
    colours = [to_hex(a.get_edgecolor()) for a in arrows]
    assert colours == [NEGATIVE, POSITIVE, POSITIVE, POSITIVE]


def test_a_graph_without_edges_is_still_a_picture(graph: nx.DiGraph, tmp_path: Path) -> None:
    graph.remove_edges_from(list(graph.edges))
    plot_graph(graph, title="nothing").savefig(tmp_path / "g.png")
    assert (tmp_path / "g.png").read_bytes().startswith(b"\x89PNG")


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


def test_a_curve_that_lowers_is_drawn_below_zero_in_its_colour() -> None:
    rows = {"store": "a", "channel": "tv", "amount": [0.0, 1.0], "expected": [0.0, -1.0]}
    rows |= {"effect": [0.0, -2.0], "lower": [0.0, -3.0], "upper": [0.0, -1.0]}
    (axes,) = plot_curves(pd.DataFrame(rows), store="a", target="gmv").axes
    assert to_hex(axes.lines[0].get_color()) == NEGATIVE
    assert axes.get_ylim()[0] < -3.0
    assert axes.get_title(loc="right") == "edge: 50%"


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


def test_matplotlib_is_imported_only_for_a_picture() -> None:
    code = "import sys, causalmmm.plots; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
