"""The picture of a store's causal graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from causalmmm.plots.style import INK, NEGATIVE, PALE, PLAIN, POSITIVE, empty_figure, headline

if TYPE_CHECKING:
    import networkx as nx
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle

Point = tuple[float, float]

ROLE_COLOURS = {
    "channel": "#3b6fb6",
    "organic": "#6d9e3f",
    "mediator": "#8e5ea2",
    "target": "#b7791f",
}
ROLE_NAMES = {"channel": "paid channel", "organic": "organic", "mediator": "mediator"}
_NODE = 0.16  # radius
_ARC = 0.55  # width of the channels' arc / half its height: edges among them cross empty space


def plot_graph(graph: nx.DiGraph[Any], *, title: str | None = None) -> Figure:
    """The graph of one store, as returned by ``CausalMMM.graph``.

    Channels on the left, mediators in the middle, the target on the right; edges are wider and
    darker the more probable they are, and coloured by the sign of their effect.
    """
    figure = empty_figure((9.6, 6.4))
    axes = figure.add_axes((0.02, 0.07, 0.96, 0.81))
    positions = _layout(graph)
    roles = _roles(graph)
    circles = {node: _draw_node(axes, str(node), roles[node], positions[node]) for node in graph}
    by_probability = sorted(
        graph.edges(data=True), key=lambda item: float(item[2].get("probability", 1.0))
    )
    for source, target, edge in by_probability:
        bend = _bend(graph, positions, source, target)
        _draw_edge(axes, circles[source], circles[target], edge, bend)
    left, right = (min(p[0] for p in positions.values()), max(p[0] for p in positions.values()))
    height = max(abs(p[1]) for p in positions.values())
    axes.set(xlim=(left - 0.75, right + 0.75), ylim=(-height - 0.35, height + 0.35))
    axes.set_aspect("equal")
    axes.set_axis_off()
    count = graph.number_of_edges()
    threshold = graph.graph.get("threshold")
    subtitle = f"{count} edge{'' if count == 1 else 's'}"
    if threshold is not None:
        subtitle += f" with a probability of at least {threshold:g}"
    headline(figure, title or f"Causal graph of store {graph.graph.get('store', '')}", subtitle)
    _draw_legend(figure, graph)
    return figure


def _roles(graph: nx.DiGraph[Any]) -> dict[Any, str]:
    return {node: str(graph.nodes[node].get("role")) for node in graph}


def _layout(graph: nx.DiGraph[Any]) -> dict[Any, Point]:
    """Channels on an arc to the left, mediators in a column, the target to the right."""
    roles = _roles(graph)
    drivers = [n for n in graph if roles[n] in ("channel", "organic")]
    mediators = [n for n in graph if roles[n] == "mediator"]
    targets = [n for n in graph if roles[n] == "target"]
    height = max(1.6, 0.23 * max(len(drivers), len(mediators)))
    rows = np.linspace(height, -height, len(drivers)) if len(drivers) > 1 else np.zeros(1)
    positions = {
        node: (float(-_ARC * height * np.sqrt(1 - 0.9 * (y / height) ** 2)), float(y))
        for node, y in zip(drivers, rows, strict=False)
    }
    for column, x in ((mediators, 0.75 * height), (targets, 1.55 * height)):
        spread = np.linspace(0.5, -0.5, len(column)) * height if len(column) > 1 else [0.0]
        positions |= {node: (float(x), float(y)) for node, y in zip(column, spread, strict=False)}
    return positions


def _bend(graph: nx.DiGraph[Any], positions: dict[Any, Point], source: Any, target: Any) -> float:
    """Curvature of an edge to its left (positive) or right, as a share of its length."""
    (x0, y0), (x1, y1) = positions[source], positions[target]
    drivers = [n for n, role in _roles(graph).items() if role in ("channel", "organic")]
    if source in drivers and target in drivers:
        # Among channels: into the free space right of the arc, most between neighbours; of two
        # opposite edges one goes farther out.
        bend = 0.22 + 0.8 / abs(drivers.index(source) - drivers.index(target))
        if graph.has_edge(target, source) and y1 > y0:
            bend += 0.14
        return bend if y1 > y0 else -bend
    if x1 < x0:  # from an outcome back to a channel: around the nodes between
        return 0.3 if y1 >= y0 else -0.3
    between = [
        positions[n] for n in graph if n not in (source, target) and x0 < positions[n][0] < x1
    ]
    length = float(np.hypot(x1 - x0, y1 - y0))
    for x, y in between:
        # Signed distance of the node from the straight edge, positive on its left.
        distance = ((x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)) / length
        if abs(distance) < 2.2 * _NODE:
            return 0.22 if distance >= 0 else -0.22
    return -0.14 if graph.has_edge(target, source) else 0.0


def _draw_edge(axes: Axes, start: Any, end: Any, edge: dict[str, Any], bend: float) -> None:
    from matplotlib.patches import FancyArrowPatch

    probability = float(edge.get("probability", 1.0))
    colour = NEGATIVE if float(edge.get("effect", 0.0)) < 0 else POSITIVE
    axes.add_patch(
        FancyArrowPatch(
            start.get_center(),
            end.get_center(),
            connectionstyle=f"arc3,rad={bend}",
            arrowstyle="-|>,head_length=0.42,head_width=0.2",
            mutation_scale=9 + 4 * probability,
            patchA=start,
            patchB=end,
            shrinkA=1,
            shrinkB=1.5,
            lw=_width(probability),
            alpha=_opacity(probability),
            color=colour,
            capstyle="butt",
            joinstyle="miter",
            zorder=1 + probability,
        )
    )


def _width(probability: float) -> float:
    return 0.6 + 1.9 * probability**2


def _opacity(probability: float) -> float:
    return 0.2 + 0.65 * probability**2


def _draw_node(axes: Axes, name: str, role: str, position: Point) -> Circle:
    from matplotlib.patches import Circle
    from matplotlib.patheffects import withStroke

    colour = ROLE_COLOURS.get(role, PALE)
    circle = Circle(position, _NODE, facecolor=colour, edgecolor="white", lw=1.5, zorder=3)
    axes.add_patch(circle)
    x, y = position
    halo = [withStroke(linewidth=3, foreground="white")]
    style: dict[str, Any] = {"fontsize": 9.5, "color": INK, "zorder": 4, "path_effects": halo}
    style |= PLAIN
    if role in ("channel", "organic"):
        axes.text(x - _NODE - 0.08, y, name, ha="right", va="center", **style)
    elif role == "target":
        axes.text(x + _NODE + 0.08, y, name, va="center", fontweight="bold", **style)
    else:  # away from the middle, where there are fewer edges
        below = y < 0
        offset = -_NODE - 0.1 if below else _NODE + 0.1
        axes.text(x, y + offset, name, ha="center", va="top" if below else "bottom", **style)
    return circle


def _draw_legend(figure: Figure, graph: nx.DiGraph[Any]) -> None:
    from matplotlib.lines import Line2D

    roles = set(_roles(graph).values())
    any_negative = any(edge.get("effect", 0.0) < 0 for *_, edge in graph.edges(data=True))
    threshold = float(graph.graph.get("threshold", 0.5))
    nodes = [
        Line2D([], [], marker="o", ls="", ms=8, mfc=colour, mec="white", label=label)
        for role, colour in ROLE_COLOURS.items()
        if role in roles
        for label in [ROLE_NAMES.get(role, role)]
    ]
    signs = [
        Line2D([], [], color=colour, lw=2.4, label=label)
        for colour, label in ((POSITIVE, "raises"), (NEGATIVE, "lowers"))[: 1 + any_negative]
    ]
    steps = sorted({round(threshold, 2), round((1 + threshold) / 2, 2), 1.0})
    widths = [
        Line2D([], [], color=INK, lw=_width(p), alpha=_opacity(p), label=f"{prefix}{p:g}")
        for p, prefix in zip(steps, ("probability ", "", ""), strict=False)
    ]
    figure.legend(
        handles=[*nodes, *signs, *widths],
        loc="lower center",
        ncols=len(nodes) + len(signs) + len(widths),
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
        handlelength=1.8,
        columnspacing=1.5,
    )
