"""What all pictures share: colours, the empty figure, its headline, the style of axes.

matplotlib is imported only when a picture is drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from causalmmm.extras import needing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

INK, PALE, GRID = "#1f2933", "#7b8794", "#e4e7eb"
POSITIVE, NEGATIVE = "#0f766e", "#c2410c"
PLAIN: dict[str, Any] = {"parse_math": False}  # names may contain dollar signs


def empty_figure(size: tuple[float, float]) -> Figure:
    with needing("a picture"):
        from matplotlib.figure import Figure
    return Figure(figsize=size, dpi=150, facecolor="white")


def headline(figure: Figure, title: str, subtitle: str) -> None:
    height = figure.get_figheight()
    bold: dict[str, Any] = {"fontsize": 14, "fontweight": "bold", "color": INK, **PLAIN}
    figure.text(0.03, 1 - 0.34 / height, title, **bold)
    figure.text(0.03, 1 - 0.58 / height, subtitle, fontsize=9.5, color=PALE, **PLAIN)


def style_date_axes(axes: Axes) -> None:
    """Styled axes with short dates; the y axis starts at zero if values come near it."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=4, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    offsets = ["", *["%Y"] * 5]
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, offset_formats=offsets))
    style_axes(axes)
    axes.margins(x=0.01)
    if axes.get_ylim()[0] > 0 and axes.get_ylim()[0] < 0.35 * axes.get_ylim()[1]:
        axes.set_ylim(bottom=0)


def style_axes(axes: Axes) -> None:
    """A light grid, no box, thousands separators."""
    group_thousands(axes.yaxis)
    axes.grid(axis="y", color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(PALE)
    axes.tick_params(colors=PALE, labelcolor=INK, labelsize=9, length=3)
    axes.tick_params(axis="y", length=0)


def group_thousands(axis: Axis) -> None:
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
