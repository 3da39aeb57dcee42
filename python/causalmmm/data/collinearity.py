"""Collinear series: copies of one another, or a channel that is the sum of the others.

No model can tell the effects of such series apart; nothing else about the values is checked here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from causalmmm.data.columns import Column
from causalmmm.findings import Finding

_SAMPLED_ROWS = 50_000
_ROUNDING = 1e-6  # series whose correlation is closer to 1 than this differ by rounding only


class Collinearity:
    """Compares series on a common sample of at most 50,000 rows."""

    def __init__(self, rows: int) -> None:
        self._sampled = np.unique(np.linspace(0, max(rows - 1, 0), _SAMPLED_ROWS).astype(np.int64))
        self._series: list[tuple[str, str, bool, NDArray[np.float64]]] = []

    def add(self, values: Column, column: str, what: str, *, channel: bool) -> None:
        """``what`` names the series, e.g. "Channel 'tv'"; constant series are skipped."""
        if not len(values):
            return
        sample = values[self._sampled].astype(np.float64)
        if np.isfinite(sample).all() and np.ptp(sample) > 0:
            self._series.append((column, what, channel, sample))

    def findings(self) -> list[Finding]:
        """A warning for each series that is a copy of an earlier one (up to scale), and for a
        channel that is the sum of all others."""
        if len(self._series) < 2:
            return []
        findings, copies = [], set()
        correlation = np.corrcoef([sample for *_, sample in self._series])
        for k, (column, what, _, _) in enumerate(self._series):
            same = np.flatnonzero(correlation[k, :k] > 1 - _ROUNDING)
            if len(same):
                copies.add(column)
                earlier = self._series[same[0]][1]
                findings.append(
                    Finding(
                        "warning",
                        "twin-series",
                        f"{what} moves exactly like {earlier[0].lower()}{earlier[1:]}: "
                        "their effects cannot be told apart.",
                        "Keep only one of the two in the schema.",
                        column=column,
                    )
                )
        return findings + self._total(copies)

    def _total(self, copies: set[str]) -> list[Finding]:
        channels = [s for s in self._series if s[2] and s[0] not in copies]
        if len(channels) < 3:
            return []
        total = np.sum([sample for *_, sample in channels], axis=0)
        for column, what, _, sample in channels:
            others = total - sample
            if np.allclose(sample, others, rtol=1e-4, atol=1e-4 * np.abs(sample).mean()):
                return [
                    Finding(
                        "warning",
                        "total-channel",
                        f"{what} is the sum of all other channels: each unit would count twice.",
                        "Remove the total from the schema.",
                        column=column,
                    )
                ]
        return []
