"""The panel as the engine receives it: arrays and roles, without names or data frames.

Names, files and validation live in ``causalmmm.data``; nothing here reads or repairs user data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROLES = ("channel", "organic", "mediator", "target")


@dataclass(frozen=True)
class SeriesData:
    """Series of S stores over N nodes, stored store-major so that histories may differ in length.

    values    float32 [rows, N], the rows of all stores, each store's in time order, without gaps.
    offsets   int64 [S + 1]; store ``s`` owns rows ``offsets[s]:offsets[s + 1]``.
    start     int64 [S]; position of the store's first row on ``grid``.
    grid      datetime64[D] [G]; one date per period, from the earliest to the latest.
    freq      pandas alias of the period: "D", "W-MON" ... "W-SUN" or "MS".
    roles     N entries of ``ROLES``, in the order of ``ROLES``; the target is last.
    controls  float32 [rows, R]; R may be 0.
    context   float32 [S, C] if constant per store, [rows, C] if it varies in time; C may be 0.
    """

    values: NDArray[np.float32]
    offsets: NDArray[np.int64]
    start: NDArray[np.int64]
    grid: NDArray[np.datetime64]
    freq: str
    roles: tuple[str, ...]
    controls: NDArray[np.float32]
    context: NDArray[np.float32]

    @property
    def n_stores(self) -> int:
        return len(self.offsets) - 1

    @property
    def n_nodes(self) -> int:
        return len(self.roles)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """int64 [S]: number of steps of each store."""
        return np.diff(self.offsets)

    @property
    def context_moves(self) -> bool:
        """True if ``context`` has one row per store and step rather than one per store."""
        return len(self.context) == len(self.values) != self.n_stores
