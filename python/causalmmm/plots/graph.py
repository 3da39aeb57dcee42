"""The picture of a causal graph: channels, then mediators, then the target, from left to right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causalmmm.plots.style import (
    INK,
    PALE,
    PLAIN,
    canvas,
    legend,
    series_colours,
)

if TYPE_CHECKING:
    import networkx as nx
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Point = tuple[float, float]

_LAYER = {"channel": 0, "organic": 0, "mediator": 1, "target": 2}
_HEADS = ("channels", "mediators", "target")
_ACROSS = (2.1, 5.2, 8.3)  # centres of the layers, in inches
_ROW = 0.4  # inches between nodes of a layer
_HALF_WIDTH, _HALF_HEIGHT = 0.72, 0.13
_SLOT = 0.1  # inches between arrows that end at one node
_LONGEST_NAME = 17
_LIKELY = 0.5  # probability from which an edge counts as one in the title
_WEAK = 0.3  # edges of a lower mean probability are left out of a mean over stores


@dataclass(frozen=True)
class _Box:
    """Where a node is drawn; arrows from earlier layers end at ``slots`` on its left side."""

    x: float
    y: float
    half_height: float

    @property
    def left(self) -> float:
        return self.x - _HALF_WIDTH

    @property
    def right(self) -> float:
        return self.x + _HALF_WIDTH


def plot_graph(
    graph: nx.DiGraph[Any], *, title: str | None = None, ax: Axes | None = None
) -> Figure:
    """The graph of one store, as returned by ``CausalMMM.graph``, or of several (``mean_graph``).

    Arrows have the colour of their source, are wide and opaque where probable, thin and faint where
    not, and dashed where the source lowers its target. Every arrow into a node ends at a place of
    its own. A graph without edges says what to do next.

    >>> figure = plot_graph(model.graph(panel.stores[0]))
    >>> figure.savefig("graph.png")
    """
    boxes = _layout(graph)
    tall = max(b.y + b.half_height for b in boxes.values())
    low = min(b.y - b.half_height for b in boxes.values())
    title = title or _finding(graph)
    figure, axes = canvas(ax, (9.6, tall - low + 1.95), title, _subtitle(graph))
    colours = series_colours(graph) | {n: INK for n in graph if _role(graph, n) == "target"}
    slots = _slots(graph, boxes)
    order = sorted(graph.edges(data=True), key=lambda item: float(item[2].get("probability", 1)))
    for source, target, edge in order:
        _draw_edge(axes, boxes, slots, source, target, edge, colours[source])
    for node, box in boxes.items():
        _draw_node(axes, str(node), box, colours[node])
    for layer, name in enumerate(_HEADS):
        if any(_LAYER.get(_role(graph, n), 0) == layer for n in graph):
            style: dict[str, Any] = {"fontsize": 9, "color": PALE, "ha": "center"}
            axes.text(_ACROSS[layer], tall + 0.2, name, **style)
    if not graph.number_of_edges():
        _say_what_next(axes, graph, (tall + low) / 2)
    axes.set(xlim=(0, 9.6), ylim=(low - 0.3, tall + 0.42))
    axes.set_axis_off()
    _draw_legend(axes, graph)
    return figure


def mean_graph(
    graphs: Sequence[nx.DiGraph[Any]], name: str, *, least: float = _WEAK
) -> nx.DiGraph[Any]:
    """One graph for several stores: mean probability and effect of every edge, from ``least`` on.

    The graphs must hold all edges (``threshold=0``); ``share`` of an edge is the share of stores
    in which its probability is one half or more.

    >>> graphs = [model.graph(store, threshold=0) for store in panel.stores]
    >>> mean_graph(graphs, "all stores").graph["stores"]
    2
    """
    import networkx as nx

    mean: nx.DiGraph[Any] = nx.DiGraph(store=name, threshold=least, stores=len(graphs))
    mean.add_nodes_from(graphs[0].nodes(data=True))
    for source in mean:
        for target in mean:
            edges = [g.get_edge_data(source, target, {}) for g in graphs]
            probability = np.array([float(e.get("probability", 0.0)) for e in edges])
            if source == target or probability.mean() < least:
                continue
            effect = float(np.mean([float(e.get("effect", 0.0)) for e in edges]))
            mean.add_edge(
                source,
                target,
                probability=float(probability.mean()),
                effect=effect,
                share=float((probability >= 0.5).mean()),
            )
    return mean


def _role(graph: nx.DiGraph[Any], node: Any) -> str:
    return str(graph.nodes[node].get("role"))


def _finding(graph: nx.DiGraph[Any]) -> str:
    """How many channels reach the target, directly or through mediators."""
    import networkx as nx

    channels = [n for n in graph if _LAYER.get(_role(graph, n), 0) == 0]
    targets = [n for n in graph if _role(graph, n) == "target"]
    of = "" if not graph.graph.get("store") else f" of {_who(graph)}"
    if not targets or not channels:
        return f"Causal graph{of}"
    likely = _likely(graph)
    direct = [n for n in channels if likely.has_edge(n, targets[0])]
    ways = likely.subgraph([n for n in graph if n not in channels])
    through = [
        n
        for n in channels
        if n not in direct
        and any(m in ways and nx.has_path(ways, m, targets[0]) for m in likely.successors(n))
    ]
    if not direct and not through:
        return f"No channel is seen to drive {targets[0]}{of}"
    text = f"{len(direct)} of {len(channels)} channels drive {targets[0]}{of} directly"
    return text + (f", {len(through)} more through mediators" if through else "")


def _likely(graph: nx.DiGraph[Any]) -> nx.DiGraph[Any]:
    """The nodes of a graph, and its edges that are more likely than not."""
    likely = graph.copy()
    edges = likely.edges(data="probability", default=1.0)
    likely.remove_edges_from([(a, b) for a, b, p in edges if float(p) < _LIKELY])
    return likely


def _who(graph: nx.DiGraph[Any]) -> str:
    name = str(graph.graph["store"])
    return name if graph.graph.get("stores") else f"store {name}"


def _subtitle(graph: nx.DiGraph[Any]) -> str:
    count, threshold = graph.number_of_edges(), graph.graph.get("threshold")
    text = f"{count} edge{'' if count == 1 else 's'}"
    if graph.graph.get("stores"):
        return text + f"; probabilities are means over {graph.graph['stores']} stores"
    return text if threshold is None else text + f" with a probability of at least {threshold:g}"


def _layout(graph: nx.DiGraph[Any]) -> dict[Any, _Box]:
    """Channels in a column, mediators above and below the way from channels to the target."""
    layers: list[list[Any]] = [[], [], []]
    for node in graph:
        layers[_LAYER.get(_role(graph, node), 0)].append(node)
    height = _ROW * max(len(layers[0]) - 1, 3)
    boxes = {
        node: _Box(_ACROSS[0], height / 2 - k * height / max(len(layers[0]) - 1, 1), _HALF_HEIGHT)
        for k, node in enumerate(layers[0])
    }
    first = 0.45 * height + 0.1  # clear of the curves from channels to the target
    ends = {True: first, False: -first}  # of what is above and below
    for k, node in enumerate(layers[1]):
        tall = max(_HALF_HEIGHT, _room(sum(p in layers[0] for p in graph.predecessors(node))))
        above = k % 2 == 0
        side = 1 if above else -1
        boxes[node] = _Box(_ACROSS[1], ends[above] + side * (tall - _HALF_HEIGHT), tall)
        ends[above] += side * (_ROW + 2 * (tall - _HALF_HEIGHT))
    arrows = max((graph.in_degree(n) for n in layers[2]), default=0)
    for k, node in enumerate(layers[2]):
        boxes[node] = _Box(_ACROSS[2], -k * height, max(0.2, _room(arrows)))
    return {node: boxes[node] for node in graph}


def _room(arrows: int) -> float:
    """Half the height of a node at which so many arrows end apart."""
    return 0.5 * _SLOT * (arrows + 1)


def _slots(graph: nx.DiGraph[Any], boxes: dict[Any, _Box]) -> dict[tuple[Any, Any], float]:
    """Height at which each arrow from an earlier layer ends: in the order of their sources."""
    slots = {}
    for node, box in boxes.items():
        earlier = [s for s in graph.predecessors(node) if boxes[s].x < box.x]
        earlier.sort(key=lambda s: boxes[s].y)
        room = 2 * (box.half_height - 0.04)
        for k, source in enumerate(earlier):
            slots[source, node] = box.y + room * ((k + 0.5) / len(earlier) - 0.5)
    return slots


def _draw_edge(
    axes: Axes,
    boxes: dict[Any, _Box],
    slots: dict[tuple[Any, Any], float],
    source: Any,
    target: Any,
    edge: dict[str, Any],
    colour: str,
) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    start, end = boxes[source], boxes[target]
    if start.x < end.x:
        points = _forward(start, end, slots[source, target])
    elif start.x == end.x:
        points = _beside(start, end)
    else:
        points = _back(start, end, min(b.y - b.half_height for b in boxes.values()))
    probability = float(edge.get("probability", 1.0))
    lowers = float(edge.get("effect", 0.0)) < 0
    axes.add_patch(
        FancyArrowPatch(
            path=Path(points, [Path.MOVETO, *[Path.CURVE4] * 3]),
            arrowstyle="-|>,head_length=0.4,head_width=0.2",
            mutation_scale=7 + 5 * probability,
            lw=_width(probability),
            ls=(0, (3, 1.2)) if lowers else "-",
            alpha=_opacity(probability),
            color=colour,
            capstyle="butt",
            joinstyle="miter",
            zorder=1 + probability,
        )
    )


def _forward(start: _Box, end: _Box, slot: float) -> list[Point]:
    x0, x1 = start.right, end.left - 0.03
    bend = 0.5 * (x1 - x0)
    return [(x0, start.y), (x0 + bend, start.y), (x1 - bend, slot), (x1, slot)]


def _beside(start: _Box, end: _Box) -> list[Point]:
    """To a node of the same layer: an arc on its left, farther out the farther the node."""
    away = min(0.3 + 0.28 * abs(start.y - end.y), 1.7)
    below = 0.05 if end.y > start.y else -0.05
    x = start.left
    return [
        (x, start.y + below),
        (x - away, start.y + below),
        (x - away, end.y - below),
        (end.left - 0.03, end.y - below),
    ]


def _back(start: _Box, end: _Box, floor: float) -> list[Point]:
    """To an earlier layer: below everything else."""
    leaves = (start.x, start.y - start.half_height)
    return [
        leaves,
        (start.x, floor - 0.9),
        (end.right + 1.6, min(floor, end.y) - 0.3),
        (end.right + 0.03, end.y - 0.07),
    ]


def _width(probability: float) -> float:
    return 0.5 + 2.0 * probability**2


def _opacity(probability: float) -> float:
    return 0.12 + 0.8 * probability**2


def _draw_node(axes: Axes, name: str, box: _Box, colour: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    corner = (box.left, box.y - box.half_height)
    axes.add_patch(
        FancyBboxPatch(
            corner,
            2 * _HALF_WIDTH,
            2 * box.half_height,
            boxstyle="round,pad=0,rounding_size=0.07",
            facecolor="white",
            edgecolor=colour,
            lw=2.0,
            zorder=3,
        )
    )
    short = name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8.5, "color": INK}
    style |= {"zorder": 4, **PLAIN}
    axes.text(box.x, box.y, short, **style)


def _say_what_next(axes: Axes, graph: nx.DiGraph[Any], y: float) -> None:
    threshold = float(graph.graph.get("threshold", 0.5))
    lower = max(0.05, round(threshold / 2, 2))
    text = (
        f"No edge has a probability\nof {threshold:g} or more: this history does not tell.\n"
        f"Look at weaker ones (threshold={lower:g}),\nfit a longer history or more stores,\n"
        "or state what you know:\nrequired=[(source, target)]"
    )
    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 9.5, "color": INK}
    axes.text(_ACROSS[1], y, text, linespacing=1.6, zorder=5, **style)


def _draw_legend(axes: Axes, graph: nx.DiGraph[Any]) -> None:
    from matplotlib.lines import Line2D

    if not graph.number_of_edges():
        return
    threshold = float(graph.graph.get("threshold", 0.5))
    steps = sorted({round(threshold, 2), round((1 + threshold) / 2, 2), 1.0})
    handles = [
        Line2D([], [], color=INK, lw=_width(p), alpha=_opacity(p), label=f"{prefix}{p:g}")
        for p, prefix in zip(steps, ("probability ", "", ""), strict=False)
    ]
    handles.append(Line2D([], [], color=INK, lw=1.6, label="raises"))
    if any(float(edge.get("effect", 0.0)) < 0 for *_, edge in graph.edges(data=True)):
        handles.append(Line2D([], [], color=INK, lw=1.6, ls=(0, (3, 1.2)), label="lowers"))
    for handle in handles:
        axes.add_line(handle)
    legend(axes, loc="upper center", bbox_to_anchor=(0.5, 0.0))
