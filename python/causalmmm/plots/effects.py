"""Pictures of effects: response and carry-over curves, the decomposition of the target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from causalmmm.inference.frames import BASELINE, OWN_PAST, REMAINDER
from causalmmm.plots.style import (
    BASELINE_COLOUR,
    INK,
    NEGATIVE,
    OTHERS_COLOUR,
    OWN_PAST_COLOUR,
    PALE,
    PALETTE,
    PLAIN,
    canvas,
    empty_figure,
    headline,
    legend,
    number,
    percent,
    series_colours,
    style_axes,
    style_date_axes,
    write_numbers,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANELS_PER_ROW = 3
_LIKELY = 0.5  # intervals of less probable edges are ignored for the common y range
_BACKGROUND = {BASELINE: BASELINE_COLOUR, OWN_PAST: OWN_PAST_COLOUR}
_OTHERS = "all others"
_ROUNDS_TO_ZERO = 0.0005  # a smaller share is written as 0.0%
ALL_STORES = "all stores"
_KEYS = {"usual": "dot: usual, while it runs", "planned": "diamond: planned"}


def plot_curves(
    curves: pd.DataFrame,
    *,
    store: str,
    target: str,
    usual: Mapping[str, float] | None = None,
    planned: Mapping[str, float] | None = None,
    measured: Mapping[str, str] | None = None,
    title: str | None = None,
) -> Figure:
    """Response curves of one store, as returned by ``CausalMMM.response_curves``.

    One panel per channel, largest effect first, with a common y axis: the effect given that the
    edge is present, with its 90 % interval, in a paler colour the less probable the edge is. A
    channel that the store has never used says so.

    usual     amount per step of every channel while it runs, marked with a dot.
    planned   the same under a plan, marked with a diamond.
    measured  what the amounts of a channel are, as in {"tv": "spend", "web": "impressions"}.

    ``KeyError`` if there are no curves of the store.

    >>> curves = model.response_curves(points=5)
    >>> plot_curves(curves, store=panel.stores[0], target="gmv").savefig("curves.png")
    """
    selected = curves[curves["store"] == store]
    if selected.empty:
        raise KeyError(f"no response curves of store '{store}'")
    colours = series_colours(map(str, selected["channel"]))
    channels = [(str(name), curve) for name, curve in selected.groupby("channel", sort=False)]
    channels.sort(key=lambda item: -abs(float(item[1]["expected"].iloc[-1])))
    columns = min(_PANELS_PER_ROW, len(channels))
    rows = -(-len(channels) // columns)
    figure = empty_figure((max(3.3 * columns, 8.6), 1.1 + 2.3 * rows))
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    marks = {"usual": usual or {}, "planned": planned or {}}
    for place, (axes, (name, curve)) in enumerate(zip(grid.flat, channels, strict=False)):
        at = {label: mark[name] for label, mark in marks.items() if name in mark}
        _draw_curve(axes, name, curve, at, colours[name])
        unit = f"{(measured or {}).get(name, 'amount')} per step"
        axes.set_xlabel(unit, fontsize=8.5, color=PALE, **PLAIN)
        axes.yaxis.label.set_visible(place % columns == 0)
        axes.set_ylabel(f"{target} per step", fontsize=9, color=PALE, **PLAIN)
    for axes in grid.flat[len(channels) :]:
        axes.set_axis_off()
    grid.flat[0].set_ylim(*_common_range([curve for _, curve in channels]))
    found = title or _curve_finding(channels, marks["usual"], target, store)
    keys = [key for label, key in _KEYS.items() if marks[label]]
    explained = "given the edge, 90 % interval; dashed: weighted by its probability"
    headline(figure, found, "; ".join([explained, *keys]))
    return figure


def _curve_finding(
    channels: list[tuple[str, pd.DataFrame]], usual: Mapping[str, float], target: str, store: str
) -> str:
    """Which channel would still gain most from twice its usual amount."""
    of = _whose(store)
    if not usual:
        return f"What constant spend adds to {target} of {of}"
    gains = {}
    for name, curve in channels:
        if name in usual and curve["amount"].iloc[-1] > 0:
            at = [usual[name], 2 * usual[name]]
            once, twice = np.interp(at, curve["amount"], curve["expected"])
            gains[name] = float(twice - once)
    if not gains:
        return f"No channel of {of} is in use"
    best = max(gains, key=lambda name: gains[name])
    gain = number(gains[best])
    return f"Twice the usual {best} would add {gain} to {target} of {of}, per step"


def _whose(store: str) -> str:
    return store if store == ALL_STORES else f"store {store}"


def _draw_curve(
    axes: Axes, name: str, curve: pd.DataFrame, marks: Mapping[str, float], colour: str
) -> None:
    amount, effect, expected, low, high = (
        curve[column].to_numpy(float)
        for column in ("amount", "effect", "expected", "lower", "upper")
    )
    bold: dict[str, Any] = {"fontsize": 10.5, "fontweight": "bold", "color": INK, **PLAIN}
    axes.set_title(name, loc="left", pad=5, **bold)
    style_axes(axes, "")
    write_numbers(axes.xaxis)
    axes.locator_params(axis="x", nbins=4)
    if amount[-1] <= 0:
        axes.text(0.5, 0.5, "not used here", transform=axes.transAxes, ha="center", color=PALE)
        axes.set_xticks([0])
        return
    probability = _edge_probability(curve)
    opacity = 0.3 + 0.7 * probability
    axes.fill_between(amount, low, high, color=colour, alpha=0.2 * opacity, lw=0)
    axes.plot(amount, effect, color=colour, lw=2.0, alpha=opacity, label="given the edge")
    axes.plot(amount, expected, color=INK, lw=0.9, ls=(0, (3, 2)), label="expected")
    for label, at in marks.items():
        sign = "o" if label == "usual" else "D"
        axes.axvline(at, color=PALE, lw=0.8, ls=(0, (1, 2)))
        y = float(np.interp(at, amount, effect))
        axes.plot([at], [y], sign, ms=5, color=colour, alpha=opacity, label=label)
    axes.margins(x=0)
    axes.set_title(f"edge: {probability:.0%}", loc="right", pad=5, fontsize=8.5, color=PALE)


def _edge_probability(curve: pd.DataFrame) -> float:
    """Expected effect as a share of the effect given the edge."""
    effect, expected = (float(curve[name].abs().max()) for name in ("effect", "expected"))
    return min(1.0, expected / effect) if effect > 0 else 0.0


def _common_range(curves: list[pd.DataFrame]) -> tuple[float, float]:
    """Limits of the y axis that all panels share: zero, and all likely effects."""
    used = [curve for curve in curves if curve["amount"].iloc[-1] > 0]
    likely = [curve for curve in used if _edge_probability(curve) >= _LIKELY]
    bounds = [c[["lower", "upper"]] for c in likely] or [c[["effect"]] for c in used or curves]
    low = min(0.0, *(float(bound.min().min()) for bound in bounds))
    high = max(0.0, *(float(bound.max().max()) for bound in bounds))
    margin = 0.06 * (high - low) or 1.0
    return (low - margin if low < 0 else 0.0), high + margin


def plot_adstock(
    adstock: pd.DataFrame, *, title: str | None = None, ax: Axes | None = None
) -> Figure:
    """Adstock curves, as returned by ``CausalMMM.adstock``: what of a step's spend acts when.

    One line per channel with its 90 % interval: the share of the effect that arrives at each lag.

    >>> plot_adstock(model.adstock(lags=6)).savefig("adstock.png")
    """
    from matplotlib.ticker import MaxNLocator

    colours = series_colours(map(str, adstock["channel"]))
    curves = [(str(name), curve) for name, curve in adstock.groupby("channel", sort=False)]
    mean_lag = {n: float((c["lag"] * c["share"]).sum() / c["share"].sum()) for n, c in curves}
    longest = max(mean_lag, key=lambda name: mean_lag[name])
    figure, axes = canvas(
        ax,
        (8.6, 4.2),
        title or f"{longest} carries over longest: {mean_lag[longest]:.1f} steps on average",
        "share of one step's effect that arrives so many steps later, with 90 % intervals",
    )
    for name, curve in curves:
        lag, share = curve["lag"].to_numpy(float), curve["share"].to_numpy(float)
        low, high = (curve[end].to_numpy(float) for end in ("lower", "upper"))
        axes.fill_between(lag, low, high, color=colours[name], alpha=0.1, lw=0)
        axes.plot(lag, share, "-o", ms=3, lw=1.6, color=colours[name], label=name)
    style_axes(axes, "share of the effect")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel("steps after the spend", fontsize=9, color=PALE)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=0)
    axes.margins(x=0.02)
    legend(axes, loc="upper right", bbox_to_anchor=(1, 1), ncols=1 + len(curves) // 9)
    return figure


def plot_decomposition(
    parts: pd.DataFrame, *, target: str, store: str | None = None, title: str | None = None
) -> Figure:
    """Decomposition of a target, as returned by ``CausalMMM.decompose``.

    Components stacked over time, negative ones below zero, with the observed values as a line;
    beside it each component's share of the total. Beyond eight series the smallest are combined.
    ``store`` None adds all stores of the frame up. ``KeyError`` if the store is not in the frame.

    >>> plot_decomposition(model.decompose(), target="gmv").savefig("parts.png")
    """
    wide = _by_date(parts, store)
    observed = wide.sum(axis=1)
    stacked = _combine_small(wide.drop(columns=REMAINDER))
    colours = _component_colours([str(name) for name in wide])
    used = [colours[str(name)] for name in stacked]
    figure = empty_figure((11.0, 4.8))
    axes, shares = figure.subplots(1, 2, width_ratios=(3.4, 1))
    values = stacked.to_numpy(float).T
    for side in (np.maximum, np.minimum):
        axes.stackplot(stacked.index, side(values, 0.0), colors=used, lw=0)
    axes.plot(observed.index, observed.to_numpy(float), color=INK, lw=1.1, label="observed")
    style_date_axes(axes, f"{target} per step")
    legend(axes)
    total = float(observed.sum())
    _draw_shares(shares, stacked, total, used)
    first, last = (f"{date:%Y-%m-%d}" for date in (wide.index[0], wide.index[-1]))
    headline(
        figure,
        title or _decomposition_finding(stacked, total, target, store),
        f"{first} to {last}; direct effects, weighted by the probability of their edges",
    )
    return figure


def plot_waterfall(
    parts: pd.DataFrame,
    *,
    target: str,
    store: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """From baseline to total: what each component of ``CausalMMM.decompose`` adds over all dates.

    ``store`` None adds all stores of the frame up. ``KeyError`` if the store is not in the frame.

    >>> plot_waterfall(model.decompose(), target="gmv").savefig("waterfall.png")
    """
    wide = _by_date(parts, store)
    sums = _combine_small(wide.drop(columns=REMAINDER)).sum()
    sums[REMAINDER] = float(wide[REMAINDER].sum())
    total = float(sums.sum())
    colours = _component_colours([str(name) for name in wide]) | {REMAINDER: PALE}
    figure, axes = canvas(
        ax,
        (9.6, 1.6 + 0.34 * (len(sums) + 1)),
        title or _decomposition_finding(sums.to_frame().T, total, target, store),
        f"sum of {target} over {len(wide)} steps, part by part; direct effects",
    )
    ends = np.cumsum(sums.to_numpy(float))
    begins = ends - sums.to_numpy(float)
    names = [str(name) for name in sums.index]
    span = max(float(ends.max()), 0.0) - min(float(begins.min()), 0.0) or 1.0
    for row, (name, begin, value) in enumerate(zip(names, begins, sums, strict=True)):
        axes.barh(row, value, left=begin, color=colours[name], height=0.66)
        label = f"{number(value)} ({percent(value / total)})" if total else number(value)
        right = max(begin, begin + value) + 0.01 * span
        axes.text(right, row, label, va="center", fontsize=8.5, color=INK)
    axes.barh(len(names), total, color=INK, height=0.66)
    axes.text(total + 0.01 * span, len(names), number(total), va="center", fontsize=8.5, color=INK)
    axes.set_yticks(range(len(names) + 1), [*names, f"{target}, observed"], **PLAIN)
    axes.invert_yaxis()
    style_axes(axes, target, across=True)
    axes.set_xlim(right=axes.get_xlim()[1] + 0.12 * span)
    return figure


def _by_date(parts: pd.DataFrame, store: str | None) -> pd.DataFrame:
    """Dates by components, of one store or of all together."""
    rows = parts if store is None else parts[parts["store"] == store]
    if rows.empty:
        raise KeyError(f"no decomposition of store '{store}'")
    return rows.pivot_table(
        index="date", columns="component", values="value", sort=False, aggfunc="sum"
    ).sort_index()


def _component_colours(components: list[str]) -> dict[str, str]:
    series = [c for c in components if c not in (*_BACKGROUND, REMAINDER)]
    return {**_BACKGROUND, _OTHERS: OTHERS_COLOUR, **series_colours(series)}


def _combine_small(wide: pd.DataFrame) -> pd.DataFrame:
    """Baseline, own past where there is some, then series by size; where several are beyond the
    palette, those as one column."""
    around = [name for name in _BACKGROUND if name == BASELINE or wide[name].any()]
    series = [name for name in wide if name not in _BACKGROUND]
    size = wide[series].abs().sum().sort_values(ascending=False, kind="stable")
    most = len(PALETTE) if len(series) > len(PALETTE) + 1 else len(series)
    shown = list(size.index[:most])
    combined = wide[[*around, *shown]].copy()
    if len(series) > len(shown):
        combined[_OTHERS] = wide[list(size.index[len(shown) :])].sum(axis=1)
    return combined


def _decomposition_finding(
    stacked: pd.DataFrame, total: float, target: str, store: str | None
) -> str:
    """The part that adds most, and what is there without any series."""
    of = f"{target} of {_whose(ALL_STORES if store is None else store)}"
    series = [name for name in stacked if name not in (*_BACKGROUND, _OTHERS, REMAINDER)]
    if not series or total == 0:
        return f"What {of} is made of"
    sums = stacked[series].sum() / total
    best, base = str(sums.idxmax()), float(stacked[BASELINE].sum()) / total
    return f"{best} adds most to {of}: {float(sums.max()):.1%}; the baseline is {base:.0%}"


def _draw_shares(axes: Axes, stacked: pd.DataFrame, total: float, colours: list[str]) -> None:
    shares = stacked.sum().to_numpy(float) / total if total else np.zeros(stacked.shape[1])
    position = np.arange(len(shares))
    axes.barh(position, shares, color=colours, height=0.68)
    span = max(0.0, float(shares.max())) - min(0.0, float(shares.min())) or 1.0
    for y, share in enumerate(shares):
        x = max(share, 0.0) + 0.03 * span
        colour = NEGATIVE if share <= -_ROUNDS_TO_ZERO else INK
        axes.text(x, y, percent(share), va="center", fontsize=8.5, color=colour)
    axes.set_yticks(position, [str(name) for name in stacked], **PLAIN)
    axes.tick_params(axis="y", length=0, labelsize=9, labelcolor=INK)
    axes.set_xticks([])
    axes.set_xlim(right=axes.get_xlim()[1] + 0.35 * span)
    axes.invert_yaxis()
    axes.spines[:].set_visible(False)
    axes.axvline(0, color=PALE, lw=0.8)
    axes.set_title("share of the total", loc="left", fontsize=9, color=PALE, pad=4)
