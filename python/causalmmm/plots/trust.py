"""The picture of ``CausalMMM.trust``: every measure beside what it may be at most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from causalmmm.plots.style import (
    INK,
    NEGATIVE,
    PALE,
    PLAIN,
    POSITIVE,
    canvas,
    number,
    style_axes,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FURTHEST = 2.0  # times what is allowed; what is beyond is drawn there, with an arrow


def plot_trust(trust: pd.DataFrame, *, title: str | None = None, ax: Axes | None = None) -> Figure:
    """How much of what its threshold allows every measure uses up, from ``CausalMMM.trust``.

    A point per measure with a threshold, left of the line where it keeps it. Tests that were not
    run say so. ``ValueError`` for a frame without rows to draw.

    >>> columns = ["test", "measure", "value", "at_least", "at_most", "passed", "meaning"]
    >>> row = ("placebo", "copies", 0.2, np.nan, 0.5, True, "")
    >>> plot_trust(pd.DataFrame([row], columns=columns)).savefig("trust.png")
    """
    rows = trust[trust["passed"].notna() | (trust["measure"] == "not run")]
    if rows.empty:
        raise ValueError("no measure of this frame has a threshold")
    figure, axes = canvas(
        ax,
        (9.6, 1.7 + 0.3 * len(rows)),
        title or _finding(rows),
        "share used up of the error, change or effect that each threshold allows",
    )
    records = rows.to_dict("records")
    for y, row in enumerate(records):
        if row["measure"] == "not run":
            axes.text(0.02, y, "not run", va="center", fontsize=8.5, color=PALE)
            continue
        colour = POSITIVE if row["passed"] else NEGATIVE
        used = _used(row)
        at = min(used, _FURTHEST)
        axes.plot([0, at], [y, y], color=colour, lw=2, alpha=0.5)
        axes.plot([at], [y], ">" if used > _FURTHEST else "o", ms=6, color=colour)
        axes.text(_FURTHEST + 0.06, y, _kept(row), va="center", fontsize=8.5, color=INK)
    axes.axvline(1.0, color=INK, lw=1.0)
    axes.set_yticks(range(len(records)), [_name(row) for row in records], **PLAIN)
    axes.set_ylim(len(records) - 0.4, -0.6)
    style_axes(axes, "share of what is allowed (line: threshold)", across=True)
    axes.set_xlim(0, _FURTHEST + 0.75)
    axes.set_xticks([0, 0.5, 1, 1.5, 2], ["0%", "50%", "100%", "150%", "200%"])
    return figure


def _finding(rows: pd.DataFrame) -> str:
    judged = rows[rows["passed"].notna()]
    missed = judged[~judged["passed"].astype(bool)]
    kept = len(judged) - len(missed)
    finding = f"{kept} of {len(judged)} measures keep their thresholds"
    if len(missed):
        finding += f"; missed in {', '.join(dict.fromkeys(missed['test']))}"
    return finding


def _used(row: dict[Any, Any]) -> float:
    """Distance from the best value, in distances of the threshold from it.

    The best value is zero under an upper bound, one over a lower bound, the middle between two.
    """
    low, high, value = row["at_least"], row["at_most"], row["value"]
    best = 0.0 if np.isnan(low) else 1.0 if np.isnan(high) else (low + high) / 2
    allowed = abs((low if np.isnan(high) else high) - best)
    wrong = float(abs(value - best))
    if allowed == 0:
        return float("inf") if wrong else 0.0
    return float(wrong / allowed)


def _kept(row: dict[Any, Any]) -> str:
    low, high, value = row["at_least"], row["at_most"], number(row["value"])
    if np.isnan(low):
        return f"{value}  (≤ {number(high)})"
    if np.isnan(high):
        return f"{value}  (≥ {number(low)})"
    return f"{value}  ({number(low)} to {number(high)})"


def _name(row: dict[Any, Any]) -> str:
    return str(row["test"] if row["measure"] == "not run" else f"{row['test']}: {row['measure']}")
