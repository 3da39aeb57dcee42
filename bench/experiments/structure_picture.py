"""One picture of the structure table: who wins where. Rows in, a figure out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bench.lib.record import Row


def picture(rows: Sequence[Row], value: str) -> Figure:
    """Methods by scenarios: mean and standard deviation over seeds, the best of each column framed.

    Methods are in order of their mean over the scenarios they were measured on; the first column
    shows it for methods measured on all.
    """
    scenarios = list(dict.fromkeys(row["scenario"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    cells = [[_values(rows, m, s, value) for s in scenarios] for m in methods]
    mean = np.array([[np.mean(v) if v else np.nan for v in line] for line in cells])
    spread = np.array(
        [[np.std(v, ddof=1) if len(v) > 1 else np.nan for v in line] for line in cells]
    )
    overall = np.nanmean(mean, axis=1)
    order = np.argsort(-overall)
    methods, mean, spread = [methods[k] for k in order], mean[order], spread[order]
    complete = np.where(np.isnan(mean).any(1), np.nan, overall[order])
    shown = np.column_stack([complete, mean])

    figure = Figure(figsize=(2.8 + 1.05 * shown.shape[1], 1.6 + 0.42 * len(methods)))
    axes = figure.add_subplot()
    axes.imshow(shown, cmap="RdYlGn", vmin=0.4, vmax=1.0, aspect="auto", alpha=0.7)
    for (k, c), number in np.ndenumerate(shown):
        if np.isnan(number):
            continue
        best = number >= np.nanmax(shown[:, c]) - 1e-9
        text = f"{number:.3f}"
        if c and not np.isnan(spread[k, c - 1]):
            text += f"\n±{spread[k, c - 1]:.3f}"
        axes.text(
            c, k, text, ha="center", va="center", fontsize=7.5, fontweight="bold" if best else None
        )
        if best:
            axes.add_patch(_frame(c, k))
    axes.set_xticks(range(shown.shape[1]), ["all, mean", *scenarios], rotation=35, ha="right")
    axes.set_yticks(range(len(methods)), methods)
    axes.axvline(0.5, color="white", linewidth=4)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    what = value.replace("_", " ").replace("auroc", "AUROC")
    figure.suptitle(f"{what}, held-out stores", x=0.01, ha="left", fontsize=11)
    figure.tight_layout()
    return figure


def _values(rows: Sequence[Row], method: str, scenario: str, value: str) -> list[float]:
    chosen = [r for r in rows if (r["method"], r["scenario"]) == (method, scenario)]
    return [float(r[value]) for r in chosen if value in r]


def _frame(column: int, line: int) -> Rectangle:
    return Rectangle((column - 0.5, line - 0.5), 1, 1, fill=False, edgecolor="black", linewidth=1.6)
