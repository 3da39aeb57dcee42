"""What all stores of a panel come to together: sums of joint draws, store after store.

Bounds of a sum are quantiles of summed draws; the sum of the stores' bounds is wider, as not all
stores err alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Fleet:
    """Sums over stores of draws [D, ...] in the target's units, by name.

    Draw d of one store belongs to draw d of the others. The response regression fills it
    (``forecast`` [D, H] and ``curves`` [D, N, G]); the amortised model, which has no joint draws,
    leaves it empty.

    >>> fleet = Fleet()
    >>> for store in ([1.0, 3.0], [3.0, 1.0]):
    ...     fleet.add("forecast", np.array(store)[:, None])
    >>> [float(end) for end in fleet.quantiles("forecast", [0.05, 0.95])[:, 0]]
    [4.0, 4.0]
    """

    def __init__(self) -> None:
        self._sums: dict[str, Floats] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._sums

    def add(self, name: str, draws: Floats) -> None:
        self._sums[name] = self._sums[name] + draws if name in self._sums else draws

    def add_all(self, other: Fleet) -> None:
        """Everything that another one holds: of other stores of the panel."""
        for name, draws in other._sums.items():
            self.add(name, draws)

    def quantiles(self, name: str, shares: Sequence[float]) -> Floats:
        """[shares, ...] of the sums."""
        ends: Floats = np.quantile(self._sums[name], shares, 0)
        return ends
