"""A dot per method and panel, with its spread over seeds. Rows in, a matplotlib figure out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.lib.record import Row

INK, PALE, OURS = "#1f2933", "#c3cad3", "#0f766e"
_LOG_SCALE_RATIO = 30.0  # largest over smallest value from which an axis is logarithmic
Panel = tuple[str, Callable[[Row], bool], str]


def dot_plot(
    rows: Sequence[Row], *, by: str, panels: Sequence[Panel], ours: str, title: str
) -> Figure:
    """One panel per (title, which rows, value); lines are the values of ``by``, ``ours`` marked.

    Lines are in order of their mean over the last panel, the lowest on top. A panel is logarithmic
    where its values span more than ``_LOG_SCALE_RATIO`` times the least.
    """
    names = list(dict.fromkeys(row[by] for row in rows))

    def values(name: str, which: Callable[[Row], bool], value: str) -> list[float]:
        chosen = [float(r[value]) for r in rows if r[by] == name and which(r) and value in r]
        return [v for v in chosen if np.isfinite(v)] or [np.nan]

    means = np.array([[np.mean(values(n, w, v)) for _, w, v in panels] for n in names])
    spreads = [[np.std(values(n, w, v)) for _, w, v in panels] for n in names]
    order = np.argsort(-means[:, -1])
    figure = Figure(figsize=(2.2 + 2.9 * len(panels), 1.3 + 0.34 * len(names)))
    every = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for k, (axes, (heading, _, _)) in enumerate(zip(every, panels, strict=True)):
        for height, line in enumerate(order):
            mine = names[line] == ours
            colour = OURS if mine else INK
            axes.errorbar(
                means[line, k], height, xerr=spreads[line][k], fmt="o", ms=7 if mine else 5,
                color=colour, capsize=2, lw=1.2,
            )  # fmt: skip
            axes.annotate(
                f"{means[line, k]:.3g}", (means[line, k], height), (0, 6), fontsize=7.5,
                textcoords="offset points", ha="center", color=colour,
            )  # fmt: skip
        axes.set_title(heading, fontsize=9.5, loc="left")
        axes.set_yticks(range(len(order)), [names[line] for line in order])
        axes.set_ylim(-0.6, len(order) - 0.2)
        axes.grid(axis="y", color=PALE, lw=0.5)
        axes.margins(x=0.15)
        least, most = np.nanmin(means[:, k]), np.nanmax(means[:, k])
        if least > 0 and most > _LOG_SCALE_RATIO * least:
            axes.set_xscale("log")
        else:
            axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.tick_params(axis="x", labelsize=8)
    for label, line in zip(every[0].get_yticklabels(), order, strict=True):
        if names[line] == ours:
            label.set(color=OURS, fontweight="bold")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    figure.tight_layout()
    return figure
