"""Histories and dates as an exported graph gets them: scales, calendar terms, places in time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from causalmmm.engine.spec.calendar import STEPS_PER_YEAR, Calendar, CalendarSpec, period_of

_CYCLE = 1461  # days in four years: exact from March 1900 to February 2100


def scale_of(history: Tensor) -> Tensor:
    """[B, N]: mean magnitude of every series over all rows [B, T, N] of a history; 1 if it never
    moved."""
    absent = history.isnan()
    total = torch.where(absent, 0.0, history).abs().to(torch.float64).sum(1)
    mean = (total / (~absent).to(torch.float64).sum(1)).to(history.dtype)
    return torch.where(mean > 0, mean, 1.0)


class StepNumber(nn.Module):
    """Steps from 1970 to a date, as ``dates.step_number`` counts them."""

    months: Tensor

    def __init__(self, freq: str) -> None:
        super().__init__()
        self.period = period_of(freq)
        days = _day("2000-01-01") + np.arange(_CYCLE)
        months = days.astype("datetime64[M]").astype(np.int64)
        self.register_buffer("months", torch.from_numpy(months))

    def forward(self, date: Tensor) -> Tensor:
        """int64 of days since 1970-01-01."""
        if self.period == "D":
            return date
        if self.period == "W":
            return (date - date.remainder(7)) // 7
        day = date - int(_day("2000-01-01").astype(np.int64))
        inside = day.remainder(_CYCLE)
        return self.months[inside] + (day - inside) // _CYCLE * 48


class ExportedCalendar(nn.Module):
    """``engine.spec.calendar`` as lookup tables: a week, a four-year cycle, and holidays."""

    cycle: Tensor
    week: Tensor
    holidays: Tensor
    control_mean: Tensor
    control_scale: Tensor

    def __init__(self, spec: CalendarSpec) -> None:
        super().__init__()
        without_holidays = replace(spec, country=None, control_mean=(), control_scale=())
        days = _day("2000-01-01") + np.arange(_CYCLE)
        table = Calendar(without_holidays, days).rows(np.arange(_CYCLE)[None])[0]
        weekly = [k for k, group in enumerate(without_holidays.groups) if group == "weekly"]
        others = [k for k in range(table.shape[1]) if k not in weekly]
        self.order = np.argsort([*others, *weekly]).tolist()
        self.steps_per_year = STEPS_PER_YEAR[period_of(spec.freq)]
        self.register_buffer("cycle", torch.from_numpy(table[:, others].copy()))
        self.register_buffer("week", torch.from_numpy(table[:7, weekly].copy()))
        self.register_buffer("holidays", _holidays(spec))
        self.register_buffer("control_mean", torch.tensor(spec.control_mean))
        self.register_buffer("control_scale", torch.tensor(spec.control_scale))

    def forward(self, date: Tensor, position: Tensor) -> Tensor:
        """float32 [B, T, Q0] at dates [B, T] (days since 1970-01-01); ``position`` [T] is in steps
        from the last row of the history."""
        day = date - int(_day("2000-01-01").astype(np.int64))
        cycle = self.cycle[day.remainder(_CYCLE)]
        trend = (position / self.steps_per_year).to(torch.float32)
        trend = trend.expand(date.shape).unsqueeze(-1)
        parts = [cycle[..., :1], trend, cycle[..., 2:], self.week[day.remainder(7)]]
        basis = torch.cat(parts, dim=-1)[..., self.order]
        if not len(self.holidays):
            return basis
        index = (date - int(_HOLIDAYS[0].astype(np.int64))).clamp(0, len(self.holidays) - 1)
        return torch.cat([basis, self.holidays[index].unsqueeze(-1)], dim=-1)

    def standardise(self, controls: Tensor) -> Tensor:
        """As ``Calendar.standardise``; missing rows take the mean."""
        return torch.where(controls.isnan(), 0.0, self.standardise_known(controls))

    def standardise_known(self, controls: Tensor) -> Tensor:
        """As ``Calendar.standardise``; missing values stay NaN."""
        return (controls - self.control_mean) / self.control_scale


def _day(text: str) -> np.datetime64:
    return np.datetime64(text, "D")


_HOLIDAYS = (_day("2000-01-01"), _day("2060-01-01"))


def known_dates(spec: CalendarSpec) -> tuple[str, str]:
    """First and last date for which an exported calendar is correct."""
    if spec.country is None:
        return "1900-03-01", "2100-02-28"
    return str(_HOLIDAYS[0]), str(_HOLIDAYS[1] - 1)


def _holidays(spec: CalendarSpec) -> Tensor:
    """float32 [days]: number of holidays in the period that begins on each day; empty without a
    country."""
    if spec.country is None:
        return torch.zeros(0)
    days = np.arange(_HOLIDAYS[0], _HOLIDAYS[1] + 40)
    daily = Calendar(CalendarSpec("D", 0, spec.country), days).rows(np.arange(len(days))[None])
    before = np.concatenate([[0], np.cumsum(daily[0, :, -1], dtype=np.int64)])
    first = np.arange(len(days) - 40)
    period = period_of(spec.freq)
    if period == "M":
        after = (days[first].astype("datetime64[M]") + 1).astype("datetime64[D]")
        end = (after - days[0]).astype(np.int64)
    else:
        end = first + (7 if period == "W" else 1)
    return torch.from_numpy((before[end] - before[first]).astype(np.float32))
