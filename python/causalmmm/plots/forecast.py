"""The picture of a forecast, and of a fit beside what happened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from causalmmm.plots.style import (
    INK,
    PALE,
    TARGET,
    canvas,
    empty_figure,
    from_zero,
    headline,
    legend,
    number,
    style_axes,
    style_date_axes,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_PATTERN = 0.2  # autocorrelation of residuals that is worth a word


def plot_forecast(
    forecast: pd.DataFrame,
    *,
    store: str,
    series: str,
    history: pd.Series[Any] | None = None,
    actual: pd.Series[Any] | None = None,
    tail: int = 84,
    planned: bool = False,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """The forecast of one series of one store, as returned by ``CausalMMM.predict``.

    ``history`` (its last ``tail`` steps) and ``actual`` (the observed future) are series over
    dates. ``planned`` labels a forecast made under a plan of spend. The title says how the forecast
    compares with as many steps before it. ``KeyError`` if there is no forecast of the store or
    series.

    >>> forecast = model.predict(horizon=8)
    >>> plot_forecast(forecast, store=panel.stores[0], series="gmv").savefig("forecast.png")
    """
    selected = forecast[(forecast["store"] == store) & (forecast["series"] == series)]
    if selected.empty:
        raise KeyError(f"no forecast of '{series}' in store '{store}'")
    dates = selected["date"].to_numpy()
    begin, end = (np.datetime_as_string(day, unit="D") for day in (dates[0], dates[-1]))
    under = "under the plan" if planned else "if spend goes on as before, no plan given"
    figure, axes = canvas(
        ax,
        (9.6, 4.8),
        title or _finding(selected, store, series, history, planned),
        f"forecast from {begin} to {end}, {under}",
    )
    last = None
    if history is not None and len(history):
        last = history.iloc[-tail:].iloc[-1:]
        _draw_history(axes, history.iloc[-tail:])
    _draw_forecast(axes, selected, last)
    if actual is not None and len(actual):
        _draw_actual(axes, actual)
    style_date_axes(axes, f"{series} per step")
    legend(axes)
    return figure


def _finding(
    selected: pd.DataFrame,
    store: str,
    series: str,
    history: pd.Series[Any] | None,
    planned: bool,
) -> str:
    """What the forecast says, in a sentence."""
    steps, total = len(selected), float(selected["mean"].sum())
    text = f"{series} of store {store}: {number(total)} over the next {steps} steps"
    before = 0.0 if history is None or len(history) < steps else float(history.iloc[-steps:].sum())
    if before > 0:
        text += f", {total / before - 1:+.0%} on the last {steps}"
    return text + (" (planned)" if planned else "")


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
        axes.fill_between(dates, low, high, color=TARGET, alpha=alpha, lw=0, label=label)
    axes.plot(dates, column("mean"), color=TARGET, lw=2.0, label="forecast (mean)")


def _draw_actual(axes: Axes, actual: pd.Series[Any]) -> None:
    marker: dict[str, Any] = {"marker": "o", "ms": 3.6, "mfc": "white", "mew": 1.1}
    values = actual.to_numpy(float)
    axes.plot(actual.index, values, color=INK, lw=0.9, label="actual", **marker)


def _levels(columns: Sequence[str]) -> list[str]:
    """Levels of the intervals in a forecast, widest first."""
    levels = [name.removeprefix("lower_") for name in columns if name.startswith("lower_")]
    return sorted(levels, key=float, reverse=True)


def plot_fit(
    fit: pd.DataFrame, *, target: str, title: str | None = None, ax: Axes | None = None
) -> Figure:
    """Expected against actual over time: a frame date, actual, expected, hidden.

    ``hidden`` marks the steps that the model was not fitted on; they have a grey ground. The title
    gives the wMAPE (sum of absolute errors over sum of actual values) of either part.

    >>> parts = model.decompose(panel).query("store == @panel.stores[0]")
    >>> wide = parts.pivot(index="date", columns="component", values="value")
    >>> fit = pd.DataFrame({"actual": wide.sum(axis=1), "hidden": False}).reset_index()
    >>> fit["expected"] = wide.drop(columns="remainder").sum(axis=1).to_numpy()
    >>> plot_fit(fit, target="gmv").savefig("fit.png")
    """
    hidden = fit["hidden"].to_numpy(bool)
    error = (fit["actual"] - fit["expected"]).abs().to_numpy(float)
    actual = fit["actual"].to_numpy(float)

    def wmape(rows: NDArray[np.bool_]) -> str:
        return f"{error[rows].sum() / max(np.abs(actual[rows]).sum(), 1e-12):.1%}"

    finding = f"Expected {target} misses by {wmape(~hidden)} where the model was fitted"
    if hidden.any():
        finding += f", by {wmape(hidden)} on hidden steps"
    figure, axes = canvas(
        ax,
        (9.6, 4.2),
        title or finding,
        "one-step expectation where fitted; forecast from the last known step where hidden",
    )
    dates = fit["date"].to_numpy()
    if hidden.any():
        begin = dates[hidden][0]
        axes.axvspan(begin, dates[-1], color="#eef1f4", lw=0, zorder=0, label="hidden from the fit")
    axes.plot(dates, actual, color=INK, lw=1.2, label="actual")
    axes.plot(dates, fit["expected"], color=TARGET, lw=1.6, label="expected", ls=(0, (4, 1.5)))
    style_date_axes(axes, f"{target} per step")
    legend(axes)
    return figure


def plot_residuals(fit: pd.DataFrame, *, target: str, title: str | None = None) -> Figure:
    """Residuals over time and their distribution, from a frame date, actual, expected, hidden.

    The title says how much of a residual is still there a step later (its autocorrelation), or that
    there is no such pattern.

    >>> parts = model.decompose(panel).query("store == @panel.stores[0]")
    >>> wide = parts.pivot(index="date", columns="component", values="value")
    >>> fit = pd.DataFrame({"actual": wide.sum(axis=1), "hidden": False}).reset_index()
    >>> fit["expected"] = wide.drop(columns="remainder").sum(axis=1).to_numpy()
    >>> plot_residuals(fit, target="gmv").savefig("residuals.png")
    """
    rest = (fit["actual"] - fit["expected"]).to_numpy(float)[~fit["hidden"].to_numpy(bool)]
    dates = fit["date"].to_numpy()[~fit["hidden"].to_numpy(bool)]
    centred = rest - rest.mean()
    size = float((centred**2).sum())
    kept = float((centred[1:] * centred[:-1]).sum() / size) if size > 0 else 0.0
    finding = f"Residuals of {target} follow no pattern from step to step"
    if abs(kept) > _PATTERN:
        side = "is still there" if kept > 0 else "comes back with the opposite sign"
        finding = f"{abs(kept):.0%} of a residual of {target} {side} a step later"
    figure = empty_figure((9.6, 3.6))
    headline(
        figure,
        title or finding,
        "actual minus expected where the model was fitted",
    )
    over_time, spread = figure.subplots(1, 2, width_ratios=(3, 1))
    over_time.bar(dates, rest, width=_step(dates), color=TARGET, lw=0)
    style_date_axes(over_time, f"residual of {target}")
    over_time.axhline(0, color=PALE, lw=0.8)
    spread.hist(rest, bins=min(24, max(6, len(rest) // 6)), color=TARGET, orientation="horizontal")
    style_axes(spread, "steps", across=True)
    spread.sharey(over_time)
    spread.tick_params(axis="y", labelleft=False)
    from_zero(over_time)
    return figure


def _step(dates: NDArray[Any]) -> Any:
    return np.median(np.diff(dates)) * 0.8 if len(dates) > 1 else np.timedelta64(1, "D")
