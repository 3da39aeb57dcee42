"""Pictures of effects: response curves, and what the target is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from causalmmm.inference.frames import BASELINE, OWN_PAST, REMAINDER
from causalmmm.plots.style import (
    INK,
    LOWERS,
    PALE,
    PLAIN,
    RAISES,
    dress,
    dress_over_dates,
    empty_figure,
    group_thousands,
    headline,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ACROSS = 3  # panels in a row
_LIKELY = 0.5  # intervals of less probable edges do not decide the height of all panels
_GROUND = {BASELINE: "#dfe4e9", OWN_PAST: "#bcc6cf"}
_OTHERS, _OTHERS_COLOUR = "all others", "#8b97a3"
_SENDERS = (
    *("#3b6fb6", "#d08a2e", "#2f8f7f", "#b5476d"),
    *("#7a5ea8", "#6d9e3f", "#4aa3c7", "#8c6d4f"),
)


def plot_curves(
    curves: pd.DataFrame,
    *,
    store: str,
    target: str,
    usual: Mapping[str, float] | None = None,
    title: str | None = None,
) -> Figure:
    """Response curves of one store, as ``CausalMMM.response_curves`` gives them.

    One panel for a channel, the one that matters most first, all of one height: its effect where
    the edge is present with the 90 % interval, paler the less probable the edge is. ``usual``
    amounts are marked. ``KeyError`` when there are no curves of the store.
    """
    part = curves[curves["store"] == store]
    if part.empty:
        raise KeyError(f"no response curves of store '{store}'")
    channels = [(str(name), rows) for name, rows in part.groupby("channel", sort=False)]
    channels.sort(key=lambda item: -abs(float(item[1]["expected"].iloc[-1])))
    across = min(_ACROSS, len(channels))
    down = -(-len(channels) // across)
    height = 1.5 + 2.0 * down
    figure = empty_figure((max(3.3 * across, 8.6), height))
    grid = figure.subplots(
        down,
        across,
        sharey=True,
        squeeze=False,
        gridspec_kw={"hspace": 0.62, "wspace": 0.12},
    )
    figure.subplots_adjust(left=0.1, right=0.975, top=1 - 1.12 / height, bottom=0.62 / height)
    for axes, (name, rows) in zip(grid.flat, channels, strict=False):
        _draw_curve(axes, name, rows, None if usual is None else usual.get(name))
    for axes in grid.flat[len(channels) :]:
        axes.set_axis_off()
    grid.flat[0].set_ylim(*_reach([rows for _, rows in channels]))
    figure.supxlabel("amount of every step", fontsize=9.5, color=PALE)
    headline(
        figure,
        title or f"What constant spend adds to {target} of store {store}, per step",
        "where the edge is present, with its 90 % band; dashed: weighed by the edge's probability"
        + ("; dot: usual amount" if usual else ""),
    )
    return figure


def _draw_curve(axes: Axes, name: str, rows: pd.DataFrame, usual: float | None) -> None:
    amount, effect, expected, low, high = (
        rows[column].to_numpy(float)
        for column in ("amount", "effect", "expected", "lower", "upper")
    )
    probability = _probability(rows)
    colour = LOWERS if effect[-1] < 0 else RAISES
    opacity = 0.3 + 0.7 * probability
    axes.fill_between(amount, low, high, color=colour, alpha=0.2 * opacity, lw=0)
    axes.plot(amount, effect, color=colour, lw=2.0, alpha=opacity, label="where the edge is")
    axes.plot(amount, expected, color=INK, lw=0.9, ls=(0, (3, 2)), label="expected")
    if usual is not None:
        axes.axvline(usual, color=PALE, lw=0.8, ls=(0, (1, 2)))
        at = float(np.interp(usual, amount, effect))
        axes.plot([usual], [at], "o", ms=5, color=colour, alpha=opacity, label="usual")
    dress(axes)
    group_thousands(axes.xaxis)
    axes.margins(x=0)
    axes.locator_params(axis="x", nbins=4)
    bold: dict[str, Any] = {"fontsize": 10.5, "fontweight": "bold", "color": INK, **PLAIN}
    axes.set_title(name, loc="left", pad=5, **bold)
    axes.set_title(f"edge: {probability:.0%}", loc="right", pad=5, fontsize=8.5, color=PALE)


def _probability(rows: pd.DataFrame) -> float:
    """Of the edge: what is expected, as a share of the effect where the edge is present."""
    effect, expected = (float(rows[name].abs().max()) for name in ("effect", "expected"))
    return min(1.0, expected / effect) if effect > 0 else 0.0


def _reach(channels: list[pd.DataFrame]) -> tuple[float, float]:
    """Least and largest value that panels of one height show."""
    sure = [rows for rows in channels if _probability(rows) >= _LIKELY]
    ends = [rows[["lower", "upper"]] for rows in sure] or [rows[["effect"]] for rows in channels]
    low = min(0.0, *(float(part.min().min()) for part in ends))
    high = max(0.0, *(float(part.max().max()) for part in ends))
    room = 0.06 * (high - low) or 1.0
    return (low - room if low < 0 else 0.0), high + room


def plot_decomposition(
    parts: pd.DataFrame, *, store: str, target: str, title: str | None = None
) -> Figure:
    """What the target of one store is made of, as ``CausalMMM.decompose`` gives it.

    Stacked over time, what lowers the target below zero, with what was observed as a line; beside
    it every part's share of the total. Beyond eight series the smallest are drawn together.
    ``KeyError`` when the frame does not have the store.
    """
    rows = parts[parts["store"] == store]
    if rows.empty:
        raise KeyError(f"no decomposition of store '{store}'")
    wide = rows.pivot_table(index="date", columns="component", values="value", sort=False)
    observed = wide.sum(axis=1)
    stacked = _few(wide.drop(columns=REMAINDER))
    senders, named = iter(_SENDERS), {**_GROUND, _OTHERS: _OTHERS_COLOUR}
    colours = [named.get(str(name)) or next(senders) for name in stacked]
    figure = empty_figure((11.0, 4.8))
    axes = figure.add_axes((0.065, 0.115, 0.615, 0.69))
    values = stacked.to_numpy(float).T
    for side in (np.maximum, np.minimum):
        axes.stackplot(stacked.index, side(values, 0.0), colors=colours, lw=0)
    axes.plot(observed.index, observed.to_numpy(float), color=INK, lw=1.1, label="observed")
    dress_over_dates(axes)
    axes.legend(loc="upper left", frameon=False, fontsize=8.5, labelcolor=INK)
    _draw_shares(figure, stacked, float(observed.sum()), colours)
    first, last = (f"{date:%Y-%m-%d}" for date in (wide.index[0], wide.index[-1]))
    headline(
        figure,
        title or f"What {target} of store {store} is made of",
        f"{first} to {last}; direct effects, weighed by the probability of their edges",
    )
    return figure


def _few(wide: pd.DataFrame) -> pd.DataFrame:
    """Baseline, own past, then series by size; what there is no colour for is added up."""
    senders = [name for name in wide if name not in _GROUND]
    size = wide[senders].abs().sum().sort_values(ascending=False)
    shown = list(size.index[: len(_SENDERS)])
    few = wide[[*_GROUND, *shown]].copy()
    if len(senders) > len(shown):
        few[_OTHERS] = wide[list(size.index[len(shown) :])].sum(axis=1)
    return few


def _draw_shares(figure: Figure, stacked: pd.DataFrame, total: float, colours: list[str]) -> None:
    shares = stacked.sum().to_numpy(float) / total if total else np.zeros(stacked.shape[1])
    axes = figure.add_axes((0.8, 0.115, 0.15, 0.69))
    place = np.arange(len(shares))
    axes.barh(place, shares, color=colours, height=0.68)
    span = max(0.0, float(shares.max())) - min(0.0, float(shares.min())) or 1.0
    for y, share in enumerate(shares):
        aside = max(share, 0.0) + 0.03 * span
        axes.text(aside, y, f"{share:.1%}", va="center", fontsize=8.5, color=INK)
    axes.set_yticks(place, [str(name) for name in stacked], **PLAIN)
    axes.tick_params(axis="y", length=0, labelsize=9, labelcolor=INK)
    axes.set_xticks([])
    axes.invert_yaxis()
    axes.spines[:].set_visible(False)
    axes.axvline(0, color=PALE, lw=0.8)
    axes.set_title("share of the total", loc="left", fontsize=9, color=PALE, pad=4)
