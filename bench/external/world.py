"""``World``: stores of one law with their graphs, as an array file; numpy only.

Read in the environment of the peers too, so nothing here may import causalmmm.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class World:
    """S stores, each with a graph of its own or all with one.

    name    of the law;  source  who wrote it down
    series  [S, T, N];  edges  bool [S, N, N], sender by receiver, the diagonal False
    roles   of the series, the target last;  freq  "D" or "W-MON"
    """

    name: str
    source: str
    series: Array
    edges: Mask
    roles: tuple[str, ...]
    freq: str

    def save(self, folder: Path) -> Path:
        path = folder / f"{self.name}.npz"
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(path, **{**vars(self), "roles": np.array(self.roles)})
        return path


def foreign(name: str, source: str, series: Array, edges: Mask) -> World:
    """A law without marketing in it: all series but the last are called channels."""
    nodes = series.shape[-1]
    off = edges & ~np.eye(nodes, dtype=bool)
    return World(name, source, series, off, (*("channel",) * (nodes - 1), "target"), "D")


def read_world(path: Path) -> World:
    with np.load(path) as file:
        return World(
            str(file["name"]),
            str(file["source"]),
            file["series"],
            file["edges"],
            tuple(file["roles"].tolist()),
            str(file["freq"]),
        )
