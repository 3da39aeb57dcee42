"""Dates as steps of a calendar: reading them from a column, and finding how far apart they are.

Knows days, weeks and months as numpy arrays; knows nothing of stores' values or of files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from causalmmm.findings import Finding, first_few

if TYPE_CHECKING:
    import pandas as pd

Days = NDArray[np.datetime64]

WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")

# 1970-01-01 was a Thursday.
_EPOCH_WEEKDAY = 3


def weekday(days: Days) -> NDArray[np.int64]:
    """int64, 0 for Monday ... 6 for Sunday."""
    number = days.astype("datetime64[D]").astype(np.int64)
    found: NDArray[np.int64] = (number + _EPOCH_WEEKDAY) % 7
    return found


def steps_from(first: np.datetime64 | str, count: int, freq: str) -> Days:
    """datetime64[D] [count]: ``first`` and the steps that follow it at the frequency."""
    day: Days = np.array([first], "datetime64[D]")
    if freq == "MS":
        return (day.astype("datetime64[M]") + np.arange(count)).astype("datetime64[D]")
    return day + np.arange(count) * (1 if freq == "D" else 7)


def step_number(days: Days, freq: str, first: np.datetime64) -> NDArray[np.int64]:
    """int64: how many steps each day lies after ``first``, rounded down between steps."""
    if freq == "MS":
        months = days.astype("datetime64[M]").astype(np.int64)
        return months - np.array([first], "datetime64[M]").astype(np.int64)
    apart: NDArray[np.int64] = (days - first).astype(np.int64)
    return apart if freq == "D" else apart // 7


def on_step(days: Days, freq: str) -> NDArray[np.bool_]:
    """bool: whether each day is a step of the frequency."""
    if freq == "D":
        return np.ones(len(days), dtype=bool)
    if freq == "MS":
        return np.asarray(days.astype("datetime64[M]").astype("datetime64[D]") == days)
    return np.asarray(weekday(days) == WEEKDAYS.index(freq[2:]))


def is_month_end(days: Days) -> NDArray[np.bool_]:
    return np.asarray((days + 1).astype("datetime64[M]") != days.astype("datetime64[M]"))


@dataclass(frozen=True)
class ParsedDates:
    """A column of dates read: datetime64[D] [rows], NaT where ``bad``, and what was noticed."""

    days: Days
    bad: NDArray[np.bool_]
    findings: list[Finding]


def parse_dates(series: pd.Series[Any], column: str) -> ParsedDates:
    """Read a column of dates, date-times, ISO or local text, or whole numbers like 20240131."""
    import pandas as pd

    missing = series.isna().to_numpy()
    if isinstance(series.dtype, pd.CategoricalDtype):
        found = _parse_texts(series.cat.categories, series, column)
    elif isinstance(series.dtype, pd.DatetimeTZDtype):
        zone = str(series.dtype.tz)
        local = series.dt.tz_localize(None)
        found = _whole_days(local.to_numpy(), column, zone)
    elif pd.api.types.is_datetime64_dtype(series.dtype):
        found = _whole_days(series.to_numpy(), column, None)
    elif pd.api.types.is_numeric_dtype(series.dtype) and not pd.api.types.is_bool_dtype(series):
        found = _parse_numbers(series.to_numpy(dtype=np.float64, na_value=np.nan))
    else:
        found = np.full(len(series), np.datetime64("NaT", "D")), []
    days, findings = found
    return ParsedDates(days, np.isnat(days) & ~missing, findings)


def _parse_numbers(numbers: NDArray[np.float64]) -> tuple[Days, list[Finding]]:
    """20240131 as a day, 202401 as a month; other numbers are no dates."""
    import pandas as pd

    possible = (numbers > 0) & (numbers < 1e8)
    whole = np.where(possible, numbers, 0).astype(np.int64)
    whole = np.where((whole >= 190001) & (whole <= 221112), whole * 100 + 1, whole)
    distinct, place = np.unique(whole, return_inverse=True)
    texts = pd.Series(distinct).astype(str).where((distinct > 1900_00_00) & (distinct < 2212_00_00))
    parsed = pd.to_datetime(texts, format="%Y%m%d", errors="coerce")
    return parsed.to_numpy().astype("datetime64[D]")[place], []


# The ways in which files write dates; the first that reads most of the texts is taken.
_FORMATS = (
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%Y.%m.%d",
    "%Y%m%d",
    "%Y-%m",
    "%Y%m",
    "%d.%m.%Y",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d %b %Y",
    "%d-%b-%Y",
    "%b %d, %Y",
    "%b %Y",
    "%B %d, %Y",
    "%m/%d/%y",
    "%d/%m/%y",
)
_TIME = re.compile(r"[T ](\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?)\s*(Z|UTC|[+-]\d{2}:?\d{2})?$")


def _parse_texts(
    distinct: pd.Index[Any], series: pd.Series[Any], column: str
) -> tuple[Days, list[Finding]]:
    import pandas as pd

    texts = [str(text).strip() for text in distinct]
    matches = [_TIME.search(text) for text in texts]
    plain = pd.Series([t[: m.start()] if m else t for t, m in zip(texts, matches, strict=True)])
    plain = plain.astype("str")
    readings: list[tuple[int, str, pd.Series[Any]]] = []
    for form in _FORMATS:
        read = pd.to_datetime(plain, format=form, errors="coerce")
        readings.append((int(read.notna().sum()), form, read))
        if form.startswith("%Y") and read.notna().all():
            break
    most = max((count for count, _, _ in readings), default=0)
    best = [(form, read) for count, form, read in readings if count == most]
    nothing = np.full(len(series), np.datetime64("NaT", "D"))
    if not most:
        return nothing, []
    form, read = min(best, key=lambda item: _irregularity(item[1]))
    findings = []
    if len({tuple(other.dropna()) for _, other in best}) > 1:
        findings.append(_ambiguous(column, form, best))
    codes = series.cat.codes.to_numpy()
    days = read.to_numpy().astype("datetime64[D]")
    zones = {"UTC" if m.group(2) == "Z" else m.group(2) for m in matches if m}
    if any(m is None for m in matches):
        zones.add(None)
    if len(zones) > 1 and any(zones):
        named = first_few(sorted(str(z or "none") for z in zones))
        findings.append(_mixed_zones(column, named))
    times: Any = pd.to_timedelta(pd.Series([_clock(m) for m in matches])).to_numpy()
    stamped = days.astype("datetime64[us]") + times
    whole, more = _whole_days(stamped, column, next(iter(zones)) if len(zones) == 1 else None)
    return np.where(codes >= 0, whole[codes], np.datetime64("NaT", "D")), [*findings, *more]


def _clock(match: re.Match[str] | None) -> str:
    if match is None:
        return "00:00:00"
    clock = match.group(1)
    return clock if clock.count(":") == 2 else f"{clock}:00"


def _irregularity(read: pd.Series[Any]) -> int:
    """How many different steps the sorted dates take: the right reading takes the fewest."""
    days = np.unique(read.dropna().to_numpy().astype("datetime64[D]"))
    months = days.astype("datetime64[M]")
    if (months.astype("datetime64[D]") == days).all():
        return len(np.unique(np.diff(months)))
    return len(np.unique(np.diff(days)))


def _ambiguous(column: str, form: str, best: list[tuple[str, Any]]) -> Finding:
    order = {"d": "day", "b": "month", "m": "month", "Y": "year", "y": "year", "B": "month"}
    words = "-".join(order[letter] for letter in re.findall(r"%(\w)", form))
    equal = len({_irregularity(read) for _, read in best}) == 1
    return Finding(
        "error" if equal else "notice",
        "ambiguous-date",
        f"Dates in column '{column}' can be read in two ways"
        + ("." if equal else f"; read as {words}, which gives evenly spaced dates."),
        "Write dates as YYYY-MM-DD." if equal else "",
        column=column,
    )


def _mixed_zones(column: str, named: str) -> Finding:
    return Finding(
        "error",
        "mixed-time-zone",
        f"Dates in column '{column}' carry different time zones: {named}.",
        "Write local calendar dates as YYYY-MM-DD, without time and zone.",
        column=column,
    )


def _whole_days(
    stamps: NDArray[np.datetime64], column: str, zone: str | None
) -> tuple[Days, list[Finding]]:
    days: Days = stamps.astype("datetime64[D]")
    off = (days.astype(stamps.dtype) != stamps) & ~np.isnat(stamps)
    if off.any():
        example = str(stamps[off][0].astype("datetime64[s]"))
        said = f" in time zone {zone}" if zone else ""
        return days, [
            Finding(
                "error",
                "time-zone" if zone else "time-of-day",
                f"Column '{column}' holds times of day{said}, e.g. {example}, not dates"
                + (": the day depends on the zone." if zone else "."),
                "Convert to the stores' local zone and keep the date alone (YYYY-MM-DD)."
                if zone
                else "Add the rows of each day together, and keep the date alone.",
                column=column,
                date=example[:10],
                rows=int(off.sum()),
            )
        ]
    if zone:
        return days, [
            Finding(
                "notice",
                "time-zone-dropped",
                f"Dates in column '{column}' are midnights in time zone {zone}; "
                "the calendar date is kept, the zone is not.",
                column=column,
            )
        ]
    return days, []
