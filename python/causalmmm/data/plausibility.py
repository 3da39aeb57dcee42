"""Values that are legal and hardly meant: a slip of the unit, a national figure in every store,
spends that always move together.

Each is a warning; copies and sums of series are in ``collinearity``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from causalmmm.data.columns import Column, ColumnCheck
from causalmmm.data.layout import Layout
from causalmmm.findings import Finding, counted, first_few

_ROWS = 50_000  # of whole stores, on which channels are compared
_TOGETHER = 0.95  # correlation of two channels around their store's mean
_TWINS = 1 - 1e-6  # differ by rounding only: a finding of ``collinearity``
_FAR = 30.0  # times a store's usual value
_WIDE = 7.0  # standard deviations of its logarithm
_ABOVE_MEAN = 5.0
_LEAST_VALUES = 12  # above zero, before a usual value is spoken of


class Plausibility:
    """Looks at one series after the other; what concerns several channels is told at the end."""

    def __init__(self, check: ColumnCheck) -> None:
        self._check = check
        self._repeated: list[str] = []
        self._channels: list[tuple[str, NDArray[np.float64]]] = []

    def add(self, values: Column, column: str, what: str, *, channel: bool) -> None:
        """``what`` names the series, e.g. "Channel 'tv'"."""
        layout = self._check.layout
        if layout is None or not len(values) or not np.isfinite(values).all():
            return
        self._check.add(
            far_outside(values, layout),
            "warning",
            "far-outside",
            column,
            f"{what} is more than {_FAR:g} times its usual value in {{n}} of {{where}}, first "
            "{date}.",
            "Check the unit: cents for euros, or thousands for units?",
        )
        if channel:
            if repeated_in_all_stores(values, layout):
                self._repeated.append(column)
            self._channels.append((column, _around_store_means(values, layout)))

    def findings(self) -> list[Finding]:
        """Warnings about channels as a whole, one of a kind."""
        found = []
        if self._repeated:
            many = len(self._repeated) > 1
            found.append(
                Finding(
                    "warning",
                    "repeated-spend",
                    f"{first_few(self._repeated)} {'have' if many else 'has'} the same value in "
                    "all stores of a date: a national figure, which counts once per store.",
                    "Divide it among the stores, for example by population, or fit the sum of all "
                    "stores.",
                    column=self._repeated[0],
                    rows=len(self._repeated),
                )
            )
        return found + self._together()

    def _together(self) -> list[Finding]:
        series = [(name, part) for name, part in self._channels if part.any()]
        if len(series) < 2:
            return []
        correlation = np.corrcoef([part for _, part in series])
        pairs = [
            (series[i][0], series[j][0])
            for i in range(len(series))
            for j in range(i + 1, len(series))
            if _TOGETHER < correlation[i, j] < _TWINS
        ]
        if not pairs:
            return []
        text = first_few(f"{one} and {other}" for one, other in pairs)
        return [
            Finding(
                "warning",
                "collinear-spend",
                f"{counted(len(pairs), 'pair')} of channels nearly always move together: {text}. "
                "Their effects can hardly be told apart.",
                "Merge them, or expect wide intervals of each and a sound one of their sum.",
                column=pairs[0][0],
                rows=len(pairs),
            )
        ]


def far_outside(values: Column, layout: Layout) -> NDArray[np.int64]:
    """Rows whose value is far above what is usual in their store, on a logarithmic scale too."""
    starts, ends = layout.offsets[:-1], layout.offsets[1:]
    above = np.maximum(values, np.float32(0))
    count = np.add.reduceat(above > 0, starts, dtype=np.int64)
    most = np.maximum.reduceat(above, starts)
    total = np.add.reduceat(above, starts, dtype=np.float64)
    # a cheap look first: unless a slip is frequent, it is far above the mean that it is part of
    suspicious = (count >= _LEAST_VALUES) & (most * count > _ABOVE_MEAN * total)
    rows = []
    for store in np.flatnonzero(suspicious):
        own = above[starts[store] : ends[store]].astype(np.float64)
        logs = np.log(own[own > 0])
        usual = np.median(logs)
        width = 1.4826 * np.median(np.abs(logs - usual))
        limit = np.exp(usual + max(np.log(_FAR), _WIDE * width))
        rows.append(starts[store] + np.flatnonzero(own > limit))
    return np.concatenate(rows) if rows else np.zeros(0, np.int64)


def repeated_in_all_stores(values: Column, layout: Layout) -> bool:
    """Whether all stores of a date have the same value, on most dates with several stores."""
    if len(layout.stores) < 2 or _differs_early(values, layout) or np.ptp(values) == 0:
        return False
    dates, place = np.unique(layout.days, return_inverse=True)
    least, most = np.full(len(dates), np.inf), np.full(len(dates), -np.inf)
    np.minimum.at(least, place, values)
    np.maximum.at(most, place, values)
    shared = np.bincount(place) > 1
    return bool(shared.sum() >= _LEAST_VALUES) and bool((least == most)[shared].all())


def _differs_early(values: Column, layout: Layout) -> bool:
    """Whether the first two stores differ on a date that both have, as nearly all columns do."""
    first, second, end = layout.offsets[:3]
    _, here, there = np.intersect1d(
        layout.days[first:second], layout.days[second:end], return_indices=True
    )
    return bool((values[first + here] != values[second + there]).any())


def _around_store_means(values: Column, layout: Layout) -> NDArray[np.float64]:
    """The first stores' values, less each store's mean."""
    stores = max(1, int(np.searchsorted(layout.offsets, _ROWS, side="right")) - 1)
    offsets = layout.offsets[: stores + 1]
    part = values[: offsets[-1]].astype(np.float64)
    lengths = np.diff(offsets)
    means = np.add.reduceat(part, offsets[:-1]) / lengths
    around: NDArray[np.float64] = part - np.repeat(means, lengths)
    return around
