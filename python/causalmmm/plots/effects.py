"""Pictures of effects: response curves and the decomposition of the target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from causalmmm.inference.frames import BASELINE, OWN_PAST, REMAINDER
from causalmmm.plots.style import (
    INK,
    NEGATIVE,
    PALE,
    PLAIN,
    POSITIVE,
    empty_figure,
    group_thousands,
    headline,
    style_axes,
    style_date_axes,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANELS_PER_ROW = 3
_LIKELY = 0.5  # intervals of less probable edges are ignored for the common y range
_BACKGROUND = {BASELINE: "#dfe4e9", OWN_PAST: "#bcc6cf"}
_OTHERS, _OTHERS_COLOUR = "all others", "#8b97a3"
_PALETTE = (
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
    """Response curves of one store, as returned by ``CausalMMM.response_curves``.

    One panel per channel, largest effect first, with a common y axis: the effect given that the
    edge is present, with its 90 % interval, in a paler colour the less probable the edge is.
    ``usual`` amounts are marked. ``KeyError`` if there are no curves of the store.
    """
    selected = curves[curves["store"] == store]
    if selected.empty:
        raise KeyError(f"no response curves of store '{store}'")
    channels = [(str(name), curve) for name, curve in selected.groupby("channel", sort=False)]
    channels.sort(key=lambda item: -abs(float(item[1]["expected"].iloc[-1])))
    columns = min(_PANELS_PER_ROW, len(channels))
    rows = -(-len(channels) // columns)
    height = 1.5 + 2.0 * rows
    figure = empty_figure((max(3.3 * columns, 8.6), height))
    grid = figure.subplots(
        rows,
        columns,
        sharey=True,
        squeeze=False,
        gridspec_kw={"hspace": 0.62, "wspace": 0.12},
    )
    figure.subplots_adjust(left=0.1, right=0.975, top=1 - 1.12 / height, bottom=0.62 / height)
    for axes, (name, curve) in zip(grid.flat, channels, strict=False):
        _draw_curve(axes, name, curve, None if usual is None else usual.get(name))
    for axes in grid.flat[len(channels) :]:
        axes.set_axis_off()
    grid.flat[0].set_ylim(*_common_range([curve for _, curve in channels]))
    figure.supxlabel("amount per step", fontsize=9.5, color=PALE)
    headline(
        figure,
        title or f"Effect of constant spend on {target} of store {store}, per step",
        "given the edge, with its 90 % interval; dashed: weighted by the edge's probability"
        + ("; dot: usual amount" if usual else ""),
    )
    return figure


def _draw_curve(axes: Axes, name: str, curve: pd.DataFrame, usual: float | None) -> None:
    amount, effect, expected, low, high = (
        curve[column].to_numpy(float)
        for column in ("amount", "effect", "expected", "lower", "upper")
    )
    probability = _edge_probability(curve)
    colour = NEGATIVE if effect[-1] < 0 else POSITIVE
    opacity = 0.3 + 0.7 * probability
    axes.fill_between(amount, low, high, color=colour, alpha=0.2 * opacity, lw=0)
    axes.plot(amount, effect, color=colour, lw=2.0, alpha=opacity, label="given the edge")
    axes.plot(amount, expected, color=INK, lw=0.9, ls=(0, (3, 2)), label="expected")
    if usual is not None:
        axes.axvline(usual, color=PALE, lw=0.8, ls=(0, (1, 2)))
        effect_at_usual = float(np.interp(usual, amount, effect))
        axes.plot([usual], [effect_at_usual], "o", ms=5, color=colour, alpha=opacity, label="usual")
    style_axes(axes)
    group_thousands(axes.xaxis)
    axes.margins(x=0)
    axes.locator_params(axis="x", nbins=4)
    bold: dict[str, Any] = {"fontsize": 10.5, "fontweight": "bold", "color": INK, **PLAIN}
    axes.set_title(name, loc="left", pad=5, **bold)
    axes.set_title(f"edge: {probability:.0%}", loc="right", pad=5, fontsize=8.5, color=PALE)


def _edge_probability(curve: pd.DataFrame) -> float:
    """Expected effect as a share of the effect given the edge."""
    effect, expected = (float(curve[name].abs().max()) for name in ("effect", "expected"))
    return min(1.0, expected / effect) if effect > 0 else 0.0


def _common_range(curves: list[pd.DataFrame]) -> tuple[float, float]:
    """Limits of the y axis that all panels share."""
    likely = [curve for curve in curves if _edge_probability(curve) >= _LIKELY]
    bounds = [curve[["lower", "upper"]] for curve in likely] or [c[["effect"]] for c in curves]
    low = min(0.0, *(float(bound.min().min()) for bound in bounds))
    high = max(0.0, *(float(bound.max().max()) for bound in bounds))
    margin = 0.06 * (high - low) or 1.0
    return (low - margin if low < 0 else 0.0), high + margin


def plot_decomposition(
    parts: pd.DataFrame, *, store: str, target: str, title: str | None = None
) -> Figure:
    """Decomposition of one store's target, as returned by ``CausalMMM.decompose``.

    Components stacked over time, negative ones below zero, with the observed values as a line;
    beside it each component's share of the total. Beyond eight series the smallest are combined.
    ``KeyError`` if the store is not in the frame.
    """
    rows = parts[parts["store"] == store]
    if rows.empty:
        raise KeyError(f"no decomposition of store '{store}'")
    wide = rows.pivot_table(index="date", columns="component", values="value", sort=False)
    observed = wide.sum(axis=1)
    stacked = _combine_small(wide.drop(columns=REMAINDER))
    palette, fixed = iter(_PALETTE), {**_BACKGROUND, _OTHERS: _OTHERS_COLOUR}
    colours = [fixed.get(str(name)) or next(palette) for name in stacked]
    figure = empty_figure((11.0, 4.8))
    axes = figure.add_axes((0.065, 0.115, 0.615, 0.69))
    values = stacked.to_numpy(float).T
    for side in (np.maximum, np.minimum):
        axes.stackplot(stacked.index, side(values, 0.0), colors=colours, lw=0)
    axes.plot(observed.index, observed.to_numpy(float), color=INK, lw=1.1, label="observed")
    style_date_axes(axes)
    axes.legend(loc="upper left", frameon=False, fontsize=8.5, labelcolor=INK)
    _draw_shares(figure, stacked, float(observed.sum()), colours)
    first, last = (f"{date:%Y-%m-%d}" for date in (wide.index[0], wide.index[-1]))
    headline(
        figure,
        title or f"Decomposition of {target} of store {store}",
        f"{first} to {last}; direct effects, weighted by the probability of their edges",
    )
    return figure


def _combine_small(wide: pd.DataFrame) -> pd.DataFrame:
    """Baseline, own past, then series by size; those beyond the palette as one column."""
    series = [name for name in wide if name not in _BACKGROUND]
    size = wide[series].abs().sum().sort_values(ascending=False)
    shown = list(size.index[: len(_PALETTE)])
    combined = wide[[*_BACKGROUND, *shown]].copy()
    if len(series) > len(shown):
        combined[_OTHERS] = wide[list(size.index[len(shown) :])].sum(axis=1)
    return combined


def _draw_shares(figure: Figure, stacked: pd.DataFrame, total: float, colours: list[str]) -> None:
    shares = stacked.sum().to_numpy(float) / total if total else np.zeros(stacked.shape[1])
    axes = figure.add_axes((0.8, 0.115, 0.15, 0.69))
    position = np.arange(len(shares))
    axes.barh(position, shares, color=colours, height=0.68)
    span = max(0.0, float(shares.max())) - min(0.0, float(shares.min())) or 1.0
    for y, share in enumerate(shares):
        x = max(share, 0.0) + 0.03 * span
        axes.text(x, y, f"{share:.1%}", va="center", fontsize=8.5, color=INK)
    axes.set_yticks(position, [str(name) for name in stacked], **PLAIN)
    axes.tick_params(axis="y", length=0, labelsize=9, labelcolor=INK)
    axes.set_xticks([])
    axes.invert_yaxis()
    axes.spines[:].set_visible(False)
    axes.axvline(0, color=PALE, lw=0.8)
    axes.set_title("share of the total", loc="left", fontsize=9, color=PALE, pad=4)
