"""The picture of a forecast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from causalmmm.plots.style import INK, PALE, RAISES, dress_over_dates, empty_figure, headline

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def plot_forecast(
    forecast: pd.DataFrame,
    *,
    store: str,
    series: str,
    history: pd.Series[Any] | None = None,
    actual: pd.Series[Any] | None = None,
    tail: int = 84,
    title: str | None = None,
) -> Figure:
    """The forecast of one series of one store, as ``CausalMMM.predict`` gives it.

    ``history`` (its last ``tail`` steps are drawn) and ``actual`` (what happened since) are series
    over dates. ``KeyError`` when the forecast has no such store or series.
    """
    part = forecast[(forecast["store"] == store) & (forecast["series"] == series)]
    if part.empty:
        raise KeyError(f"no forecast of '{series}' in store '{store}'")
    figure = empty_figure((9.6, 4.8))
    axes = figure.add_axes((0.075, 0.115, 0.905, 0.69))
    dates, mean = part["date"].to_numpy(), part["mean"].to_numpy(float)
    join_dates, join_mean = dates, mean
    if history is not None and len(history):
        shown = history.iloc[-tail:]
        axes.plot(shown.index, shown.to_numpy(float), color=INK, lw=1.4, label="history")
        # The forecast grows out of the last known value.
        join_dates = np.concatenate([[shown.index[-1].to_datetime64()], dates])
        join_mean = np.concatenate([[float(shown.iloc[-1])], mean])
        axes.axvline(shown.index[-1], color=PALE, lw=0.8, ls=(0, (3, 3)))
    for level, alpha in zip(_levels(list(part.columns)), (0.16, 0.22, 0.26), strict=False):
        low, high = (part[f"{side}_{level}"].to_numpy(float) for side in ("lower", "upper"))
        if len(join_mean) > len(mean):
            low, high = (np.concatenate([join_mean[:1], bound]) for bound in (low, high))
        axes.fill_between(
            join_dates, low, high, color=RAISES, alpha=alpha, lw=0, label=f"{level} % interval"
        )
    axes.plot(join_dates, join_mean, color=RAISES, lw=2.0, label="forecast (mean)")
    if actual is not None and len(actual):
        axes.plot(
            actual.index,
            actual.to_numpy(float),
            color=INK,
            lw=0.9,
            marker="o",
            ms=3.6,
            mfc="white",
            mew=1.1,
            label="what happened",
        )
    dress_over_dates(axes)
    said = title or f"{series} of store {store}: the next {len(part)} steps"
    first, last = (np.datetime_as_string(d, unit="D") for d in (dates[0], dates[-1]))
    headline(figure, said, f"forecast from {first} to {last}")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="upper right",
        bbox_to_anchor=(0.985, 0.9),
        ncols=len(labels),
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
        handlelength=1.6,
        columnspacing=1.3,
    )
    return figure


def _levels(columns: Sequence[str]) -> list[str]:
    """Levels of the intervals in a forecast, widest first."""
    found = [c.removeprefix("lower_") for c in columns if c.startswith("lower_")]
    return sorted(found, key=float, reverse=True)
