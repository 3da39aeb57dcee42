"""Series that repeat one another: what they do cannot be told apart by any model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from causalmmm.data.columns import Column
from causalmmm.findings import Finding

_ROWS = 50_000
_SAME = 1e-6  # two series with a correlation nearer to one than this differ by rounding alone


class Overlap:
    """Looks at the same rows, at most 50,000, of every series it is shown."""

    def __init__(self, rows: int) -> None:
        self._at = np.unique(np.linspace(0, max(rows - 1, 0), _ROWS).astype(np.int64))
        self._series: list[tuple[str, str, bool, NDArray[np.float64]]] = []

    def note(self, values: Column, column: str, what: str, *, channel: bool) -> None:
        """``what`` names the series, as "Channel 'tv'"; those that never move are passed over."""
        if not len(values):
            return
        some = values[self._at].astype(np.float64)
        if np.isfinite(some).all() and np.ptp(some) > 0:
            self._series.append((column, what, channel, some))

    def findings(self) -> list[Finding]:
        """A warning for every series that moves as an earlier one, and for a channel that is the
        sum of all others."""
        if len(self._series) < 2:
            return []
        found, repeated = [], set()
        likeness = np.corrcoef([some for *_, some in self._series])
        for k, (column, what, _, _) in enumerate(self._series):
            same = np.flatnonzero(likeness[k, :k] > 1 - _SAME)
            if len(same):
                repeated.add(column)
                earlier = self._series[same[0]][1]
                found.append(
                    Finding(
                        "warning",
                        "twin-series",
                        f"{what} moves exactly as {earlier[0].lower()}{earlier[1:]} does: "
                        "their effects cannot be told apart.",
                        "Keep one of the two in the schema.",
                        column=column,
                    )
                )
        return found + self._total(repeated)

    def _total(self, repeated: set[str]) -> list[Finding]:
        channels = [s for s in self._series if s[2] and s[0] not in repeated]
        if len(channels) < 3:
            return []
        whole = np.sum([some for *_, some in channels], axis=0)
        for column, what, _, some in channels:
            others = whole - some
            if np.allclose(some, others, rtol=1e-4, atol=1e-4 * np.abs(some).mean()):
                return [
                    Finding(
                        "warning",
                        "total-channel",
                        f"{what} is the sum of all other channels: every unit would count twice.",
                        "Take the total out of the schema.",
                        column=column,
                    )
                ]
        return []
