"""Graphs: layers, arrows that can be told apart, weak edges weak, and what an empty one says."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import networkx as nx
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from causalmmm.plots import mean_graph, plot_graph
from causalmmm.plots.style import INK, PALETTE


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
    graph.add_edge("visits", "sales", probability=0.6, effect=1.0)
    graph.add_edge("tv", "web", probability=0.7, effect=1.0)
    return graph


def boxes(figure: Figure) -> dict[str, FancyBboxPatch]:
    axes = figure.axes[0]
    names = [t.get_text() for t in axes.texts]
    drawn = [p for p in axes.patches if isinstance(p, FancyBboxPatch)]
    return dict(zip(names, drawn, strict=False))


def arrows(figure: Figure) -> list[FancyArrowPatch]:
    return [p for p in figure.axes[0].patches if isinstance(p, FancyArrowPatch)]


def words(figure: Any) -> str:
    return " ".join(t.get_text() for t in [*figure.texts, *figure.axes[0].texts])


def test_a_graph_runs_from_channels_through_mediators_to_the_target(graph: nx.DiGraph) -> None:
    figure = plot_graph(graph)
    at = {name: box.get_x() for name, box in boxes(figure).items()}
    assert at["tv"] == at["web"] == at["mail"] < at["visits"] < at["sales"]
    assert "1 of 3 channels drive sales of store Köln [1] directly, 1 more through" in words(figure)
    assert "4 edges with a probability of at least 0.4" in words(figure)
    for head in ("channels", "mediators", "target"):
        assert head in words(figure)


def test_weak_edges_are_thin_and_faint_and_colours_are_those_of_the_source(
    graph: nx.DiGraph,
) -> None:
    drawn = arrows(plot_graph(graph))  # the most probable last, on top
    assert [a.get_linewidth() for a in drawn] == sorted(a.get_linewidth() for a in drawn)
    assert drawn[0].get_alpha() < 0.35 < 0.8 < drawn[-1].get_alpha()
    visits = PALETTE[3]
    sources = [PALETTE[1], visits, PALETTE[0], PALETTE[0]]
    assert [to_hex(a.get_edgecolor()) for a in drawn] == sources
    assert [a.get_linestyle() != "-" for a in drawn] == [True, False, False, False]  # lowers


def test_thirty_arrows_into_the_target_end_at_places_of_their_own() -> None:
    graph = nx.DiGraph(store="a", threshold=0.1)
    for k in range(30):
        graph.add_node(f"x{k}", role="channel")
    graph.add_node("sales", role="target")
    for k in range(30):
        graph.add_edge(f"x{k}", "sales", probability=0.2 + k / 40, effect=1.0)
    figure = plot_graph(graph)
    box = boxes(figure)["sales"]
    ends = sorted(float(a._path_original.vertices[-1][1]) for a in arrows(figure))
    assert min(b - a for a, b in pairwise(ends)) > 0.08  # inches
    assert box.get_y() < ends[0]
    assert ends[-1] < box.get_y() + box.get_height()


def test_arrows_into_a_mediator_end_apart_and_mediators_keep_clear_of_each_other() -> None:
    graph = nx.DiGraph(store="a", threshold=0.1)
    for k in range(12):
        graph.add_node(f"x{k}", role="channel")
    for name in ("views", "visits", "search"):
        graph.add_node(name, role="mediator")
    graph.add_node("sales", role="target")
    for k in range(12):
        for name in ("views", "search"):
            graph.add_edge(f"x{k}", name, probability=0.9, effect=1.0)
    figure = plot_graph(graph)
    ends = sorted(float(a._path_original.vertices[-1][1]) for a in arrows(figure))
    assert min(b - a for a, b in pairwise(ends)) > 0.08  # inches
    drawn = boxes(figure)
    sides = sorted(
        (b.get_y(), b.get_y() + b.get_height())
        for n, b in drawn.items()
        if n[0] in "vs" and n != "sales"
    )
    assert all(high < low for (_, high), (low, _) in pairwise(sides))


def test_a_graph_without_edges_says_what_to_do_next(graph: nx.DiGraph) -> None:
    graph.remove_edges_from(list(graph.edges))
    told = words(plot_graph(graph))
    assert "No edge has a probability" in told
    assert "threshold=0.2" in told
    assert "required=" in told


def test_a_graph_is_drawn_into_given_axes(graph: nx.DiGraph) -> None:
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert plot_graph(graph, ax=right, title="mine") is figure
    assert not left.patches
    assert right.get_title(loc="left") == "mine"


def test_several_stores_become_their_mean(graph: nx.DiGraph) -> None:
    other = graph.copy()
    other.edges["tv", "visits"].update(probability=0.15, effect=1.0)
    other.remove_edge("tv", "web")
    mean = mean_graph([graph, other], "north", least=0.4)
    assert mean.edges["tv", "visits"] == pytest.approx(
        {"probability": 0.55, "effect": 2.0, "share": 0.5}
    )
    assert not mean.has_edge("tv", "web")  # 0.35 on average
    figure = plot_graph(mean)
    assert "means over 2 stores" in words(figure)
    assert "of north directly" in words(figure)
    assert to_hex(boxes(figure)["sales"].get_edgecolor()) == INK
