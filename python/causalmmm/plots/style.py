"""What all pictures share: colours, numbers as people write them, headlines, the style of axes.

matplotlib is imported only when a picture is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from causalmmm.extras import needing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

INK, PALE, GRID = "#1f2933", "#5f6b78", "#e4e7eb"
TARGET = "#0f766e"  # forecasts and fits of the target, and what is good
POSITIVE, NEGATIVE = TARGET, "#c2410c"
BASELINE_COLOUR, OWN_PAST_COLOUR, OTHERS_COLOUR = "#d5dbe1", "#aeb9c4", "#8b97a3"
# Told apart with any kind of colour blindness, and at least 3 : 1 on white (tests measure both).
PALETTE = (
    *("#149ce5", "#d2801e", "#805599", "#073e1d"),
    *("#934616", "#421d6f", "#b18b61", "#541042"),
)
PLAIN: dict[str, Any] = {"parse_math": False}  # names may contain dollar signs
_UNITS = ((1e12, " tn"), (1e9, " bn"), (1e6, " M"), (1e3, " k"))
_WRITTEN_OUT = 1e4  # smaller numbers are written with all their digits
_HEAD = 0.82  # inches that a headline takes
_CHARACTER = 0.6  # mean width of a character, in font sizes


def number(value: float, digits: int = 3) -> str:
    """A number as people write it: 1.2 M, 45.3 k, 1,250, 0.034; "-" where there is none.

    >>> [number(v) for v in (1_234_567, 45_300, 1250, 3.14159, 0.0342, 0, float("nan"))]
    ['1.23 M', '45.3 k', '1,250', '3.14', '0.0342', '0', '-']
    """
    if not math.isfinite(value):
        return "-"
    rounded = 0.0 if value == 0 else round(value, digits - 1 - math.floor(math.log10(abs(value))))
    size = abs(rounded)
    for unit, name in _UNITS:
        if size >= max(unit, _WRITTEN_OUT):
            return f"{rounded / unit:.{digits}g}{name}"
    if size >= 10 ** (digits - 1):
        return f"{rounded:,.0f}"
    places = max(0, digits - 1 - math.floor(math.log10(size))) if size else 0
    text = f"{rounded:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(share: float) -> str:
    """A share in per cent with one decimal, without a sign where it rounds to zero.

    >>> percent(0.0342), percent(-0.0002)
    ('3.4%', '0.0%')
    """
    return f"{share:z.1%}"


def tick_labels(values: Sequence[float]) -> list[str]:
    """Labels of evenly spaced ticks: one unit for all, and as many decimals as their steps need.

    >>> tick_labels([0, 500_000, 1_000_000])
    ['0', '0.5 M', '1.0 M']
    """
    if not len(values):
        return []
    largest = max(abs(v) for v in values)
    unit, name = next(((u, n) for u, n in _UNITS if largest >= max(u, _WRITTEN_OUT)), (1.0, ""))
    scaled = [v / unit for v in values]
    step = min((abs(b - a) for a, b in pairwise(scaled) if b != a), default=0)
    close = 0.01 * (step or largest / unit or 1.0)
    places = 0
    while places < 12 and any(abs(round(v, places) - v) > close for v in scaled):
        places += 1
    return ["0" if v == 0 else f"{v:,.{places}f}{name}" for v in scaled]


def series_colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each series by its place, so that it has the same one in every picture.

    ``names`` are the panel's series in order. Beyond the palette, colours repeat in lighter shades.
    """
    return {name: _shade(place) for place, name in enumerate(dict.fromkeys(names))}


def _shade(place: int) -> str:
    turn, slot = divmod(place, len(PALETTE))
    white = 1 - 0.6 ** min(turn, 3)
    mixed = (int(PALETTE[slot][i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(c + (255 - c) * white):02x}" for c in mixed)


def empty_figure(size: tuple[float, float], head: float = _HEAD) -> Figure:
    """A white figure whose axes keep clear of each other and of ``head`` inches for a headline."""
    with needing("a picture"):
        from matplotlib.figure import Figure
    figure = Figure(figsize=size, dpi=150, facecolor="white", layout="constrained")
    engine: Any = figure.get_layout_engine()
    engine.set(rect=(0.008, 0.01, 0.984, 0.98 - head / size[1]), h_pad=0.06, w_pad=0.06)
    return figure


def canvas(
    ax: Axes | None, size: tuple[float, float], title: str, subtitle: str
) -> tuple[Figure, Axes]:
    """The figure and axes to draw into: new ones with a headline, or ``ax`` with a plain title."""
    if ax is not None:
        ax.set_title(title, loc="left", fontsize=10.5, fontweight="bold", color=INK, **PLAIN)
        figure: Any = ax.get_figure(root=True)
        return figure, ax
    figure = empty_figure(size)
    headline(figure, title, subtitle)
    return figure, figure.add_subplot()


def headline(figure: Figure, title: str, subtitle: str) -> None:
    """The finding in bold, and what is drawn below it; both are cut to the figure's width."""
    width, height = figure.get_size_inches()
    size = max(10.0, min(14.0, 72 * (width - 0.4) / (_CHARACTER * max(len(title), 1))))
    bold: dict[str, Any] = {"fontsize": size, "fontweight": "bold", "color": INK, **PLAIN}
    left = 0.14 / width
    figure.text(left, 1 - 0.32 / height, _cut(title, size, width), **bold)
    small = _cut(subtitle, 9.5, width)
    figure.text(left, 1 - 0.56 / height, small, fontsize=9.5, color=PALE, **PLAIN)


def _cut(text: str, size: float, width: float) -> str:
    most = int(72 * (width - 0.3) / (0.53 * size))
    return text if len(text) <= most else text[: most - 1] + "…"


def style_date_axes(axes: Axes, unit: str) -> None:
    """Styled axes with short dates; amounts in ``unit`` start at zero, in every picture."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=3, maxticks=8)
    axes.xaxis.set_major_locator(locator)
    offsets = ["", *["%Y"] * 5]
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, offset_formats=offsets))
    style_axes(axes, unit)
    axes.margins(x=0.01)
    from_zero(axes)


def style_axes(axes: Axes, unit: str, *, across: bool = False) -> None:
    """A light grid and numbers along the axis of amounts, named ``unit``; no box.

    ``across``: amounts run along the horizontal axis (bars that lie).
    """
    amounts = axes.xaxis if across else axes.yaxis
    write_numbers(amounts)
    amounts.set_label_text(unit, fontsize=9, color=PALE, **PLAIN)
    axes.grid(axis="x" if across else "y", color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(PALE)
    axes.tick_params(colors=PALE, labelcolor=INK, labelsize=9, length=3)
    axes.tick_params(axis="y", length=0)


def from_zero(axes: Axes) -> None:
    """The vertical axis contains zero, and begins there unless something is negative."""
    low, high = axes.get_ylim()
    values = axes.dataLim.intervaly
    if values[0] >= 0:
        axes.set_ylim(0, max(high, 1e-12))
    elif high < 0:
        axes.set_ylim(low, 0)


def legend(axes: Axes, **changes: Any) -> None:
    """A key of everything that has a label, above the axes."""
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        return
    style: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0)}
    style |= {"ncols": min(len(labels), 6), "frameon": False, "fontsize": 8.5, "labelcolor": INK}
    style |= {"handlelength": 1.6, "columnspacing": 1.3, "borderaxespad": 0.2}
    made = axes.legend(handles, labels, **(style | changes))
    for text in made.get_texts():
        text.set_parse_math(False)


def write_numbers(axis: Axis) -> None:
    """Ticks of the axis as :func:`tick_labels` writes them."""
    from matplotlib.ticker import Formatter, MaxNLocator

    class Numbers(Formatter):
        def __call__(self, x: float, pos: int | None = None) -> str:
            return number(x)

        def format_ticks(self, values: list[float]) -> list[str]:
            return tick_labels(values)

    axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(Numbers())
