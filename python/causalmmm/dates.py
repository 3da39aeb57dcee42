"""Dates: parsing a column of them, and their arithmetic on a daily, weekly or monthly grid.

Nothing else in the package adds to or counts dates (how the grid continues is defined once, in
``engine.spec.calendar``). Knows nothing of stores, values or files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from causalmmm.engine.spec.calendar import extend_grid
from causalmmm.findings import Finding, first_few

if TYPE_CHECKING:
    import pandas as pd

Days = NDArray[np.datetime64]

WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_WEEKDAY_NAMES = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

# Steps ahead where nothing else is said: four weeks of days, a quarter of weeks or months.
USUAL_HORIZON = {"D": 28, "W": 13, "M": 3}

# 1970-01-01 was a Thursday.
_EPOCH_WEEKDAY = 3


def weekday(days: Days) -> NDArray[np.int64]:
    """int64, 0 for Monday ... 6 for Sunday."""
    number = days.astype("datetime64[D]").astype(np.int64)
    day_of_week: NDArray[np.int64] = (number + _EPOCH_WEEKDAY) % 7
    return day_of_week


def steps_from(first: np.datetime64 | str, count: int, freq: str) -> Days:
    """datetime64[D] [count]: ``first`` and the following steps of the frequency."""
    return extend_grid(np.array([first], "datetime64[D]"), freq, count - 1)


def next_steps(days: Days, freq: str) -> Days:
    """For each day, which must be a step of the frequency, the step that follows it."""
    first = days.min()
    number = step_number(days, freq, first)
    return steps_from(first, int(number.max()) + 2, freq)[number + 1]


def step_number(days: Days, freq: str, first: np.datetime64) -> NDArray[np.int64]:
    """int64: number of steps from ``first`` to each day, rounded down between steps."""
    if freq == "MS":
        months = days.astype("datetime64[M]").astype(np.int64)
        return months - np.array([first], "datetime64[M]").astype(np.int64)
    elapsed: NDArray[np.int64] = (days - first).astype(np.int64)
    return elapsed if freq == "D" else elapsed // 7


def describe_step(freq: str) -> str:
    """``a Monday`` or ``the first day of a month``: what every date of the frequency is."""
    if freq == "D":
        return "a date"
    if freq == "MS":
        return "the first day of a month"
    return f"a {_WEEKDAY_NAMES[WEEKDAYS.index(freq[2:])]}"


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
    """A parsed column of dates.

    days      datetime64[D] [rows]; NaT where there is no readable date.
    bad       bool [rows]; there is a value, but it is not a date.
    findings  about the column as a whole.
    """

    days: Days
    bad: NDArray[np.bool_]
    findings: list[Finding]


def parse_dates(series: pd.Series[Any], column: str) -> ParsedDates:
    """Parse a column of dates, date-times, ISO or local text, or integers such as 20240131."""
    import pandas as pd

    missing = series.isna().to_numpy()
    if isinstance(series.dtype, pd.CategoricalDtype):
        days, findings = _parse_texts(series.cat.categories, series, column)
    elif isinstance(series.dtype, pd.DatetimeTZDtype):
        zone = str(series.dtype.tz)
        local = series.dt.tz_localize(None)
        days, findings = _whole_days(local.to_numpy(), column, zone)
    elif pd.api.types.is_datetime64_dtype(series.dtype):
        days, findings = _whole_days(series.to_numpy(), column, None)
    elif pd.api.types.is_numeric_dtype(series.dtype) and not pd.api.types.is_bool_dtype(series):
        days, findings = _parse_numbers(series.to_numpy(dtype=np.float64, na_value=np.nan)), []
    else:
        days, findings = np.full(len(series), np.datetime64("NaT", "D")), []
    return ParsedDates(days, np.isnat(days) & ~missing, findings)


# Day 1 is 1900-01-01, and Excel believes in a 29 February 1900.
_EXCEL_EPOCH = np.datetime64("1899-12-30", "D")
_EXCEL_TEXT = re.compile(r"\d{5}(\.0*)?")


def _are_excel_days(numbers: NDArray[np.int64]) -> bool:
    """Whether all lie in 1982 to 2064 as Excel counts days; no other format is that short."""
    return bool(((numbers >= 30_000) & (numbers <= 60_000)).all())


def _parse_numbers(numbers: NDArray[np.float64]) -> Days:
    """20240131 as a day, 202401 as a month; NaT for other numbers."""
    import pandas as pd

    plausible = (numbers > 0) & (numbers < 1e8)
    whole = np.where(plausible, numbers, 0).astype(np.int64)
    if plausible.any() and _are_excel_days(whole[plausible]):
        days: Days = _EXCEL_EPOCH + np.where(plausible, whole, 0)
        return np.where(plausible, days, np.datetime64("NaT", "D"))
    whole = np.where((whole >= 190001) & (whole <= 221112), whole * 100 + 1, whole)
    distinct, inverse = np.unique(whole, return_inverse=True)
    texts = pd.Series(distinct).astype(str).where((distinct > 1900_00_00) & (distinct < 2212_00_00))
    parsed = pd.to_datetime(texts, format="%Y%m%d", errors="coerce")
    return parsed.to_numpy().astype("datetime64[D]")[inverse]


# Date formats seen in files, in order of preference among those that parse the most texts.
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
    if texts and all(_EXCEL_TEXT.fullmatch(text) for text in texts):
        whole = np.array([int(text.split(".")[0]) for text in texts])
        if _are_excel_days(whole):
            codes = series.cat.codes.to_numpy()
            day = (_EXCEL_EPOCH + whole)[codes]
            told = f"Dates in column '{column}' are Excel's day numbers."
            found = Finding("notice", "excel-dates", told, column=column)
            return np.where(codes >= 0, day, np.datetime64("NaT", "D")), [found]
    matches = [_TIME.search(text) for text in texts]
    plain = pd.Series([t[: m.start()] if m else t for t, m in zip(texts, matches, strict=True)])
    candidates = _best_formats(plain.astype("str"))
    if not candidates:
        return np.full(len(series), np.datetime64("NaT", "D")), []
    date_format, parsed = min(candidates, key=lambda item: _irregularity(item[1]))
    findings = []
    if len({tuple(other.dropna()) for _, other in candidates}) > 1:
        findings.append(_ambiguous(column, date_format, candidates))
    codes = series.cat.codes.to_numpy()
    days = parsed.to_numpy().astype("datetime64[D]")
    zones = {"UTC" if m.group(2) == "Z" else m.group(2) for m in matches if m}
    if any(m is None for m in matches):
        zones.add(None)
    if len(zones) > 1 and any(zones):
        names = first_few(sorted(str(z or "none") for z in zones))
        findings.append(_mixed_zones(column, names))
    times: Any = pd.to_timedelta(pd.Series([_clock(m) for m in matches])).to_numpy()
    stamped = days.astype("datetime64[us]") + times
    whole, more = _whole_days(stamped, column, next(iter(zones)) if len(zones) == 1 else None)
    return np.where(codes >= 0, whole[codes], np.datetime64("NaT", "D")), [*findings, *more]


def _best_formats(texts: pd.Series[Any]) -> list[tuple[str, pd.Series[Any]]]:
    """(format, parsed dates) of every format that parses the most texts; empty if none does."""
    import pandas as pd

    tried: list[tuple[int, str, pd.Series[Any]]] = []
    for date_format in _FORMATS:
        parsed = pd.to_datetime(texts, format=date_format, errors="coerce")
        tried.append((int(parsed.notna().sum()), date_format, parsed))
        if date_format.startswith("%Y") and parsed.notna().all():
            break
    most = max((count for count, _, _ in tried), default=0)
    return [(name, parsed) for count, name, parsed in tried if count == most] if most else []


def _clock(match: re.Match[str] | None) -> str:
    if match is None:
        return "00:00:00"
    clock = match.group(1)
    return clock if clock.count(":") == 2 else f"{clock}:00"


def _irregularity(parsed: pd.Series[Any]) -> int:
    """Number of different gaps between the sorted dates; the right format has the fewest."""
    days = np.unique(parsed.dropna().to_numpy().astype("datetime64[D]"))
    months = days.astype("datetime64[M]")
    if (months.astype("datetime64[D]") == days).all():
        return len(np.unique(np.diff(months)))
    return len(np.unique(np.diff(days)))


def _ambiguous(column: str, date_format: str, candidates: list[tuple[str, Any]]) -> Finding:
    words = {"d": "day", "b": "month", "m": "month", "Y": "year", "y": "year", "B": "month"}
    order = "-".join(words[letter] for letter in re.findall(r"%(\w)", date_format))
    undecided = len({_irregularity(parsed) for _, parsed in candidates}) == 1
    return Finding(
        "error" if undecided else "notice",
        "ambiguous-date",
        f"Dates in column '{column}' can be read in two ways"
        + ("." if undecided else f"; they are read as {order}, which spaces them evenly."),
        "Write dates as YYYY-MM-DD." if undecided else "",
        column=column,
    )


def _mixed_zones(column: str, zones: str) -> Finding:
    return Finding(
        "error",
        "mixed-time-zone",
        f"Dates in column '{column}' have different time zones: {zones}.",
        "Write local calendar dates as YYYY-MM-DD, without time or time zone.",
        column=column,
    )


def _whole_days(
    stamps: NDArray[np.datetime64], column: str, zone: str | None
) -> tuple[Days, list[Finding]]:
    days: Days = stamps.astype("datetime64[D]")
    off = (days.astype(stamps.dtype) != stamps) & ~np.isnat(stamps)
    if off.any():
        example = str(stamps[off][0].astype("datetime64[s]"))
        in_zone = f" in time zone {zone}" if zone else ""
        return days, [
            Finding(
                "error",
                "time-zone" if zone else "time-of-day",
                f"Column '{column}' contains times of day{in_zone}, e.g. {example}, not dates"
                + (": the day depends on the time zone." if zone else "."),
                "Convert to the stores' local time and keep only the date (YYYY-MM-DD)."
                if zone
                else "Sum the rows of each day and keep only the date.",
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
                "the calendar date is kept, the time zone is dropped.",
                column=column,
            )
        ]
    return days, []
