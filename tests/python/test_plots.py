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

from causalmmm.plots import LOWERS, RAISES, plot_forecast, plot_graph

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
    assert colours == [LOWERS, RAISES, RAISES, RAISES]


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
    assert list(lines["what happened"].get_ydata()) == pytest.approx(list(after))
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


def test_matplotlib_is_imported_only_for_a_picture() -> None:
    code = "import sys, causalmmm.plots; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
