"""Pictures of decisions: returns, paths, budgets, and how stores differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from causalmmm.plots.style import (
    INK,
    OTHERS_COLOUR,
    PALE,
    PLAIN,
    TARGET,
    canvas,
    legend,
    number,
    series_colours,
    style_axes,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

_EVERYTHING = "all channels"
_TOTAL = "total"


def plot_roi(
    roi: pd.DataFrame, *, store: str, title: str | None = None, ax: Axes | None = None
) -> Figure:
    """ROI and marginal ROI by channel with 90 % intervals, as returned by ``CausalMMM.roi``.

    ``store`` is a store or a group of the frame, as in "all stores". A line marks an ROI of one,
    where money comes back. ``KeyError`` if the store is not in the frame.

    >>> plot_roi(model.roi(by="total"), store="all stores").savefig("roi.png")
    """
    rows = _of_store(roi, store, "returns").dropna(subset=["roi"])
    colours = series_colours(map(str, roi["channel"])) | {_EVERYTHING: INK}
    names = [str(name) for name in rows["channel"]]
    single = rows[rows["channel"] != _EVERYTHING]
    finding = f"No channel of {store} had spend"
    if len(single):
        best = max(single.to_dict("records"), key=lambda row: float(row["roi"]))
        most = number(float(best["roi"]))
        finding = f"{best['channel']} returns most in {store}: {most} per unit of spend"
    figure, axes = canvas(
        ax,
        (9.6, 1.7 + 0.46 * len(rows)),
        title or finding,
        "return on spend with 90 % intervals; diamond: return on the last per cent of it",
    )
    for row, (name, values) in enumerate(zip(names, rows.to_dict("records"), strict=True)):
        for shift, kind, sign in ((-0.13, "roi", "o"), (0.17, "mroi", "D")):
            ends = (values[f"{kind}_lower"], values[f"{kind}_upper"])
            alpha = 1.0 if kind == "roi" else 0.6
            axes.plot(ends, [row + shift] * 2, color=colours[name], lw=2.2, alpha=alpha)
            label = {"roi": "ROI", "mroi": "marginal ROI"}[kind] if row == 0 else None
            axes.plot([values[kind]], [row + shift], sign, ms=5.5, color=colours[name],
                      alpha=alpha, label=label)  # fmt: skip
    axes.axvline(1.0, color=PALE, lw=0.9, ls=(0, (3, 3)))
    _name_rows(axes, names)
    style_axes(axes, "incremental outcome / spend", across=True)
    axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
    legend(axes)
    return figure


def plot_shares(
    roi: pd.DataFrame, *, store: str, title: str | None = None, ax: Axes | None = None
) -> Figure:
    """Share of spend beside share of incremental outcome by channel, from ``CausalMMM.roi``.

    ``KeyError`` if the store is not in the frame.

    >>> plot_shares(model.roi(by="total"), store="all stores").savefig("shares.png")
    """
    rows = _of_store(roi, store, "returns")
    rows = rows[rows["channel"] != _EVERYTHING].fillna({"spend_share": 0.0, "outcome_share": 0.0})
    names = [str(name) for name in rows["channel"]]
    records = rows.to_dict("records")
    best = max(records, key=lambda row: float(row["outcome_share"] - row["spend_share"]))
    finding = (
        f"{best['channel']} has {best['spend_share']:.0%} of the spend of {store} "
        f"and {best['outcome_share']:.0%} of its outcome"
    )
    figure, axes = canvas(
        ax,
        (9.6, 1.7 + 0.5 * len(rows)),
        title or finding,
        "full bar: share of incremental outcome; pale bar: share of spend",
    )
    _paired_bars(axes, names, rows["outcome_share"], rows["spend_share"])
    for column, shift in (("outcome_share", -0.19), ("spend_share", 0.19)):
        for y, share in enumerate(rows[column]):
            axes.text(max(share, 0) + 0.004, y + shift, f"{share:.0%}", va="center", fontsize=8,
                      color=INK)  # fmt: skip
    style_axes(axes, "share of all channels", across=True)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    return figure


def plot_paths(
    paths: pd.DataFrame,
    *,
    store: str,
    target: str,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """What each channel brought, directly and through mediators, from ``CausalMMM.paths``.

    Parts of a bar are the paths; the line is the 90 % interval of their total. ``KeyError`` if the
    store is not in the frame.

    >>> paths = model.paths(by="total")
    >>> plot_paths(paths, store="all stores", target="gmv").savefig("paths.png")
    """
    rows = _of_store(paths, store, "paths")
    ways = rows[~rows["channel"].isin([_EVERYTHING, "interaction"])]
    names = list(dict.fromkeys(ways["channel"].astype(str)))
    colours = series_colours(names)
    totals = ways[ways["path"] == _TOTAL].set_index("channel")
    parts = ways[ways["path"] != _TOTAL]
    direct = float(parts[parts["path"].str.count(" -> ") == 1]["mean"].sum())
    whole = float(totals["mean"].sum())
    share = f"{1 - direct / whole:.0%}" if whole else "nothing"
    figure, axes = canvas(
        ax,
        (9.6, 1.7 + 0.4 * len(names)),
        title or f"{share} of what channels bring in {store} comes through mediators",
        "full colour: direct; paler: through mediators; line: 90 % interval of the total",
    )
    for row, name in enumerate(names):
        begins = {True: 0.0, False: 0.0}
        for place, value in enumerate(parts[parts["channel"] == name]["mean"].to_numpy(float)):
            begin = begins[value >= 0]
            alpha = 1.0 if place == 0 else max(0.25, 0.65 - 0.15 * place)
            axes.barh(row, value, left=begin, height=0.6, color=colours[name], alpha=alpha)
            begins[value >= 0] += value
        ends = totals.loc[[name], ["lower", "upper"]].to_numpy(float)[0]
        axes.plot(ends, [row, row], color=INK, lw=1.2, marker="|", ms=6)
    _name_rows(axes, names)
    style_axes(axes, f"incremental {target}", across=True)
    return figure


def plot_budget(
    channels: pd.DataFrame,
    *,
    gain: dict[str, float] | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Spend by channel before and after, from ``CausalMMM.optimize(...).channels``.

    ``gain`` is that of the budget: what the plan adds to the outcome, with a 90 % interval.

    >>> rows = [("x0", 100.0, 80.0, -0.2), ("x1", 50.0, 70.0, 0.4)]
    >>> channels = pd.DataFrame(rows, columns=["channel", "current", "spend", "change"])
    >>> plot_budget(channels).savefig("budget.png")
    """
    rows = channels[channels["channel"] != _EVERYTHING]
    names = [str(name) for name in rows["channel"]]
    moved = (rows["spend"] - rows["current"]).clip(lower=0).sum()
    whole = float(rows["current"].sum())
    finding = f"Moving {moved / whole if whole else 0:.0%} of the budget"
    if gain is not None:
        ends = f"{number(gain['lower'])} to {number(gain['upper'])}"
        finding += f" adds {number(gain['mean'])} (90 %: {ends})"
    figure, axes = canvas(
        ax,
        (9.6, 1.7 + 0.5 * len(rows)),
        title or finding,
        "full bar: optimised spend; pale bar: current spend, over all stores and steps of the plan",
    )
    _paired_bars(axes, names, rows["spend"], rows["current"])
    span = float(rows[["spend", "current"]].max().max()) or 1.0
    for y, (spend, change) in enumerate(zip(rows["spend"], rows["change"], strict=True)):
        label = "" if np.isnan(change) else f" {change:+.0%}"
        axes.text(spend + 0.008 * span, y - 0.19, f"{number(spend)}{label}", va="center",
                  fontsize=8.5, color=INK)  # fmt: skip
    style_axes(axes, "spend", across=True)
    axes.set_xlim(right=1.14 * span)
    return figure


def plot_stores(roi: pd.DataFrame, *, title: str | None = None, ax: Axes | None = None) -> Figure:
    """How stores or regions differ: every one's ROI by channel, from ``CausalMMM.roi``.

    A dot per store, and a line at their median.

    >>> plot_stores(model.roi()).savefig("stores.png")
    """
    rows = roi.dropna(subset=["roi"])
    names = list(dict.fromkeys(rows["channel"].astype(str)))
    colours = series_colours(names) | {_EVERYTHING: INK}
    by_channel = {n: rows.loc[rows["channel"] == n, "roi"].to_numpy(float) for n in names}
    single = {n: v for n, v in by_channel.items() if n != _EVERYTHING}
    spread = {n: np.ptp(np.quantile(v, [0.1, 0.9])) for n, v in single.items()}
    widest = max(spread, key=lambda n: spread[n]) if spread else ""
    figure, axes = canvas(
        ax,
        (9.6, 1.7 + 0.42 * len(names)),
        title or f"Stores differ most in their return on {widest}",
        f"ROI of {rows['store'].nunique()} stores by channel; line: median",
    )
    for row, name in enumerate(names):
        values = np.sort(by_channel[name])
        offset = 0.22 * np.sin(2.4 * np.arange(len(values)))  # apart, the same in every run
        style: dict[str, Any] = {"ms": 4, "mew": 0, "alpha": max(0.15, 0.6 - len(values) / 1500)}
        axes.plot(values, row + offset, "o", color=colours[name], **style)
        axes.plot([np.median(values)] * 2, [row - 0.33, row + 0.33], color=INK, lw=2)
    if by_channel:
        every = np.concatenate(list(by_channel.values()))
        low, high = np.quantile(every, [0.005, 0.995])
        axes.set_xlim(min(0.0, low), 1.08 * max(high, 1.0))
    axes.axvline(1.0, color=PALE, lw=0.9, ls=(0, (3, 3)))
    _name_rows(axes, names)
    style_axes(axes, "incremental outcome / spend", across=True)
    return figure


def plot_errors(
    metrics: pd.DataFrame, *, series: str, title: str | None = None, ax: Axes | None = None
) -> Figure:
    """Errors on hidden steps beside naive forecasts, from ``CausalMMM.evaluate``.

    Bars are wMAPE (``wape``) of every method at the longest horizon that was scored.

    >>> metrics = model.evaluate(panel, tests=["holdout"], horizon=4, origins=1)
    >>> plot_errors(metrics, series="gmv").savefig("errors.png")
    """
    rows = metrics[(metrics["series"] == series) & (metrics["metric"] == "wape")]
    if rows.empty:
        raise KeyError(f"no errors of '{series}' in these metrics")
    rows = rows[rows["horizon"] == rows["horizon"].max()].sort_values("value")
    names = [str(name) for name in rows["method"]]
    ours = rows[rows["method"] == "causalmmm"]["value"]
    rest = rows[rows["method"] != "causalmmm"]["value"]
    finding = f"Errors of {series} on hidden steps"
    if len(ours) and len(rest):
        word = "less" if float(ours.iloc[0]) < float(rest.min()) else "not less"
        finding = (
            f"Forecasts of {series} err by {float(ours.iloc[0]):.1%}, {word} than naive ones "
            f"({float(rest.min()):.1%})"
        )
    figure, axes = canvas(
        ax,
        (9.6, 1.7 + 0.4 * len(rows)),
        title or finding,
        f"wMAPE over {int(rows['horizon'].max())} steps that the model has not seen",
    )
    fill = [TARGET if name == "causalmmm" else OTHERS_COLOUR for name in names]
    axes.barh(np.arange(len(rows)), rows["value"], 0.6, color=fill)
    for y, value in enumerate(rows["value"]):
        axes.text(value, y, f" {value:.1%}", va="center", fontsize=8.5, color=INK)
    _name_rows(axes, names)
    style_axes(axes, "sum of absolute errors / sum of values", across=True)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    return figure


def _of_store(frame: pd.DataFrame, store: str, what: str) -> pd.DataFrame:
    rows = frame[frame["store"] == store]
    if rows.empty:
        raise KeyError(f"no {what} of '{store}' in this frame")
    return rows


def _paired_bars(axes: Axes, names: list[str], full: ArrayLike, pale: ArrayLike) -> None:
    """Two bars a channel in its colour, the second one pale and below."""
    at, colours = np.arange(len(names)), series_colours(names)
    fill = [colours[name] for name in names]
    axes.barh(at - 0.19, full, 0.36, color=fill)
    axes.barh(at + 0.19, pale, 0.36, color=fill, alpha=0.4)
    _name_rows(axes, names)


def _name_rows(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), names, **PLAIN)
    axes.set_ylim(len(names) - 0.4, -0.6)
