"""Targets whose level jumps once for good, without a control that says why. Nothing is fitted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from causalmmm.engine.spec.calendar import Calendar, CalendarSpec, calendar_spec
from causalmmm.engine.spec.series import SeriesData

MOST_STORES = 0.5  # share of stores, beyond which a panel is said to jump
_STEP_SHARE = 0.5  # of a target's variance around its calendar, explained by one step
_MARGIN = 7  # rows at either end of a history where no step is looked for


def panel_jumps(data: SeriesData) -> bool:
    """Whether the target jumps in most stores."""
    return len(level_jumps(data, calendar_spec(data, None, None))) > MOST_STORES * data.n_stores


def level_jumps(data: SeriesData, spec: CalendarSpec) -> list[np.datetime64]:
    """The first date after the jump, of every store whose target jumps.

    What calendar and controls leave is explained by a step at the best row: by half of its variance
    or more, and better than by a trend.
    """
    calendar, dates = Calendar(spec, data.grid), []
    for store in range(data.n_stores):
        begin, end = data.offsets[store], data.offsets[store + 1]
        place = data.start[store] + np.arange(end - begin)
        basis = calendar.rows(place[None])[0].astype(np.float64)
        basis = np.delete(basis, 1, axis=1)  # a trend follows half of a step
        if data.controls.shape[1]:
            controls = calendar.standardise(data.controls[begin:end])
            basis = np.concatenate([basis, controls], axis=1)
        y = data.values[begin:end, -1].astype(np.float64)
        rest = y - basis @ np.linalg.lstsq(basis, y, rcond=None)[0]
        row = _jump(rest)
        if row is not None:
            dates.append(data.grid[place[row]].astype("datetime64[D]"))
    return dates


def _jump(rest: NDArray[np.float64]) -> int | None:
    count = np.arange(_MARGIN, len(rest) - _MARGIN)
    if not len(count) or not rest.any():
        return None
    before = np.cumsum(rest)[count - 1]
    explained = before**2 * len(rest) / (count * (len(rest) - count))  # by a step at each row
    best = int(explained.argmax())
    trend = np.polynomial.polynomial.polyfit(np.arange(len(rest)), rest, 1)
    slope = (np.polynomial.polynomial.polyval(np.arange(len(rest)), trend) ** 2).sum()
    is_step = explained[best] > max(_STEP_SHARE * (rest**2).sum(), 1.2 * slope)
    return int(count[best]) if is_step else None
