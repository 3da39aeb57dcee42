"""The picture of a forecast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from causalmmm.plots.style import INK, PALE, POSITIVE, empty_figure, headline, style_date_axes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
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
    """The forecast of one series of one store, as returned by ``CausalMMM.predict``.

    ``history`` (its last ``tail`` steps) and ``actual`` (the observed future) are series over
    dates. ``KeyError`` if there is no forecast of the store or series.
    """
    selected = forecast[(forecast["store"] == store) & (forecast["series"] == series)]
    if selected.empty:
        raise KeyError(f"no forecast of '{series}' in store '{store}'")
    figure = empty_figure((9.6, 4.8))
    axes = figure.add_axes((0.075, 0.115, 0.905, 0.69))
    last = None
    if history is not None and len(history):
        last = history.iloc[-tail:].iloc[-1:]
        _draw_history(axes, history.iloc[-tail:])
    _draw_forecast(axes, selected, last)
    if actual is not None and len(actual):
        _draw_actual(axes, actual)
    style_date_axes(axes)
    dates = selected["date"].to_numpy()
    begin, end = (np.datetime_as_string(day, unit="D") for day in (dates[0], dates[-1]))
    headline(
        figure,
        title or f"{series} of store {store}: the next {len(selected)} steps",
        f"forecast from {begin} to {end}",
    )
    _draw_legend(figure, axes)
    return figure


def _draw_history(axes: Axes, history: pd.Series[Any]) -> None:
    axes.plot(history.index, history.to_numpy(float), color=INK, lw=1.4, label="history")
    axes.axvline(history.index[-1], color=PALE, lw=0.8, ls=(0, (3, 3)))


def _draw_forecast(axes: Axes, forecast: pd.DataFrame, last: pd.Series[Any] | None) -> None:
    """Mean and intervals, connected to the last value of the history if there is one."""
    dates = forecast["date"].to_numpy()
    start: list[float] = []
    if last is not None:
        dates = np.concatenate([[last.index[0].to_datetime64()], dates])
        start = [float(last.iloc[0])]

    def column(name: str) -> NDArray[np.float64]:
        return np.concatenate([start, forecast[name].to_numpy(float)])

    for level, alpha in zip(_levels(list(forecast.columns)), (0.16, 0.22, 0.26), strict=False):
        low, high = column(f"lower_{level}"), column(f"upper_{level}")
        label = f"{level} % interval"
        axes.fill_between(dates, low, high, color=POSITIVE, alpha=alpha, lw=0, label=label)
    axes.plot(dates, column("mean"), color=POSITIVE, lw=2.0, label="forecast (mean)")


def _draw_actual(axes: Axes, actual: pd.Series[Any]) -> None:
    marker: dict[str, Any] = {"marker": "o", "ms": 3.6, "mfc": "white", "mew": 1.1}
    values = actual.to_numpy(float)
    axes.plot(actual.index, values, color=INK, lw=0.9, label="actual", **marker)


def _draw_legend(figure: Figure, axes: Axes) -> None:
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


def _levels(columns: Sequence[str]) -> list[str]:
    """Levels of the intervals in a forecast, widest first."""
    levels = [name.removeprefix("lower_") for name in columns if name.startswith("lower_")]
    return sorted(levels, key=float, reverse=True)
