"""Regressors of the baseline: intercept, trend, weekly and yearly cycles, holidays, controls.

A calendar is a function of dates alone, so history and forecast horizon use the same one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causalmmm.engine.spec.series import SeriesData

STEPS_PER_YEAR = {"D": 365.25, "W": 365.25 / 7, "M": 12.0}
_YEARLY_HARMONICS = 3
_WEEKLY_HARMONICS = 3  # complete: six columns span all weekday effects beside the intercept


def period_of(freq: str) -> str:
    """The period of a pandas alias such as "D", "W-MON" or "MS": "D", "W" or "M"."""
    period = freq[0]
    if period not in STEPS_PER_YEAR:
        raise ValueError(f"frequency {freq!r} is not daily (D), weekly (W-...) or monthly (MS)")
    return period


def usual_harmonics(freq: str, lengths: NDArray[np.int64]) -> int:
    """Default number of yearly harmonics for histories of ``lengths`` [S].

    None where the median history is shorter than half a year: a yearly cycle estimated from so
    little of it makes graphs and forecasts worse.
    """
    half_year = STEPS_PER_YEAR[period_of(freq)] / 2
    return _YEARLY_HARMONICS if np.median(lengths) >= half_year else 0


def extend_grid(grid: NDArray[np.datetime64], freq: str, steps: int) -> NDArray[np.datetime64]:
    """The grid extended by ``steps`` periods."""
    last = grid[-1]
    ahead = np.arange(1, steps + 1)
    if period_of(freq) == "M":
        tail = (last.astype("datetime64[M]") + ahead).astype("datetime64[D]")
    else:
        tail = last + ahead * (7 if period_of(freq) == "W" else 1)
    return np.concatenate([grid, tail])


@dataclass(frozen=True)
class CalendarSpec:
    """Terms of the baseline; saved with the model.

    yearly           number of harmonics of the yearly cycle.
    country          ISO code of the holiday calendar (needs the ``holidays`` package), or None.
    control_mean, control_scale   mean and standard deviation of each control in the training panel.
    """

    freq: str
    yearly: int
    country: str | None = None
    control_mean: tuple[float, ...] = ()
    control_scale: tuple[float, ...] = ()

    @property
    def groups(self) -> tuple[str, ...]:
        """The group of each regressor, in column order; each group has its own prior variance."""
        weekly = 6 if period_of(self.freq) == "D" else 0
        return (
            ("intercept", "trend")
            + ("weekly",) * weekly
            + ("yearly",) * (2 * self.yearly)
            + ("holiday",) * (self.country is not None)
            + ("control",) * len(self.control_mean)
        )


def calendar_spec(data: SeriesData, yearly: int | None, country: str | None) -> CalendarSpec:
    """The terms of a panel; ``yearly=None`` takes the usual number of harmonics."""
    mean = data.controls.mean(0, dtype=np.float64)
    scale = data.controls.std(0, dtype=np.float64)
    return CalendarSpec(
        freq=data.freq,
        yearly=usual_harmonics(data.freq, data.lengths) if yearly is None else yearly,
        country=country,
        control_mean=tuple(float(v) for v in mean),
        control_scale=tuple(float(v) if v > 0 else 1.0 for v in scale),
    )


class Calendar:
    """The regressors of a :class:`CalendarSpec` on a grid of dates."""

    def __init__(self, spec: CalendarSpec, grid: NDArray[np.datetime64]) -> None:
        self.spec, self.grid = spec, grid
        self.table = _table(spec, grid)  # [G, Q0], the trend's column is zero
        self.control_mean = np.asarray(spec.control_mean, np.float32)
        self.control_scale = np.asarray(spec.control_scale, np.float32)
        self.steps_per_year = STEPS_PER_YEAR[period_of(spec.freq)]

    def rows(self, position: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32 [B, T, Q0] at grid positions [B, T]; the trend, in years, ends at 0."""
        on_grid = np.clip(position, 0, len(self.grid) - 1)
        basis = self.table[on_grid]
        basis[..., 1] = (position - position[:, -1:]) / self.steps_per_year
        return basis

    def ahead(self, last: NDArray[np.int64], steps: int) -> NDArray[np.float32]:
        """float32 [B, steps, Q0] for the steps after grid positions ``last`` [B]; the trend goes on
        from 0 at ``last``."""
        position = last[:, None] + np.arange(1, steps + 1)
        basis = self.rows(position)
        basis[..., 1] = (position - last[:, None]) / self.steps_per_year
        return basis

    def standardise(self, controls: NDArray[np.float32]) -> NDArray[np.float32]:
        """Controls standardised by the training panel's mean and standard deviation."""
        centred = controls - self.control_mean
        standardised: NDArray[np.float32] = centred / self.control_scale
        return standardised


def _table(spec: CalendarSpec, grid: NDArray[np.datetime64]) -> NDArray[np.float32]:
    day = grid.astype("datetime64[D]").astype(np.int64)
    columns = [np.ones(len(grid)), np.zeros(len(grid))]
    if period_of(spec.freq) == "D":
        columns += _fourier(day / 7.0, _WEEKLY_HARMONICS)
    year = grid.astype("datetime64[Y]")
    begin, end = year.astype("datetime64[D]"), (year + 1).astype("datetime64[D]")
    fraction_of_year = (grid - begin).astype(np.int64) / (end - begin).astype(np.int64)
    columns += _fourier(fraction_of_year, spec.yearly)
    if spec.country is not None:
        columns.append(_holidays(spec, grid))
    return np.stack(columns, axis=1).astype(np.float32)


def _fourier(cycles: NDArray[np.float64], harmonics: int) -> list[NDArray[np.float64]]:
    angles = [2 * np.pi * k * cycles for k in range(1, harmonics + 1)]
    return [wave(angle) for angle in angles for wave in (np.sin, np.cos)]


def _holidays(spec: CalendarSpec, grid: NDArray[np.datetime64]) -> NDArray[np.float64]:
    """Number of public holidays in each period."""
    try:
        import holidays
    except ImportError as error:
        raise ImportError(
            f"the holiday calendar of {spec.country!r} needs the holidays package; "
            "run pip install 'causalmmm[holidays]'"
        ) from error
    period_edges = extend_grid(grid, spec.freq, 1).astype("datetime64[D]")
    years = range(period_edges[0].astype(object).year, period_edges[-1].astype(object).year + 1)
    try:
        table = holidays.country_holidays(str(spec.country), years=years)
    except NotImplementedError:
        raise ValueError(
            f"there is no holiday calendar of {spec.country!r}; pass a two-letter country code"
        ) from None
    dates = np.sort(np.array([np.datetime64(d, "D") for d in table]))
    holidays_before = np.searchsorted(dates, period_edges)
    return np.diff(holidays_before).astype(np.float64)
