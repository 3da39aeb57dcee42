"""What the page's store picker shows of one store, as short JSON lines in a compressed file."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalmmm.inference.frames import REMAINDER

if TYPE_CHECKING:
    from causalmmm.data.panel import Panel

_MOST_POINTS = 160
_WEEK = 7
_DIGITS = 4
RETURNS = ("spend", "outcome", "outcome_lower", "outcome_upper", "roi", "roi_lower", "roi_upper",
           "mroi", "cpik")  # fmt: skip
_FORECAST = ("mean", "lower_80", "upper_80", "lower_95", "upper_95")


class Timeline:
    """The dates of a panel in at most 160 equal spans; days in whole weeks. The last span is full,
    steps before the first full one are left out."""

    def __init__(self, grid: NDArray[Any], freq: str) -> None:
        unit = _WEEK if freq.startswith("D") and len(grid) > _MOST_POINTS else 1
        self.span = unit * -(-len(grid) // (unit * _MOST_POINTS))
        self.count = len(grid) // self.span
        self.skipped = len(grid) - self.count * self.span
        self.dates = grid[self.skipped :: self.span].astype("datetime64[D]").astype(str).tolist()

    def sums(self, values: NDArray[Any], begin: int) -> tuple[int, NDArray[Any]]:
        """First full span, and sums over spans, of rows [T, K] that begin at a step of the grid."""
        at = begin - self.skipped
        first = max(0, -(-at // self.span))
        cut = values[first * self.span - at :]
        whole = len(cut) // self.span
        return first, cut[: whole * self.span].reshape(whole, self.span, -1).sum(1)


class Records:
    """Writes a line per store, then one for all stores, then a line of returns per store."""

    def __init__(self, path: Path, timeline: Timeline, panel: Panel) -> None:
        self.timeline, self.panel = timeline, panel
        packed = gzip.GzipFile(path, "wb", compresslevel=6, mtime=0)
        self.file = io.TextIOWrapper(packed, encoding="utf-8")
        self.node = {name: j for j, name in enumerate(panel.nodes)}

    def add(
        self,
        block: Panel,
        parts: pd.DataFrame,
        edges: pd.DataFrame,
        curves: pd.DataFrame,
        forecast: pd.DataFrame,
        least: float,
    ) -> None:
        """Records of the block's stores, from frames that hold them in its order; edges from a
        probability of ``least`` on."""
        components = len(block.nodes) + 2
        values = parts["value"].to_numpy(float).reshape(-1, components)
        rows = parts.groupby("store", sort=False).size().to_numpy() // components
        offset = int(np.searchsorted(self.panel.data.grid, block.data.grid[0]))
        ends = block.data.start + block.data.lengths + offset
        likely = edges[edges["probability"] >= least]
        by_store = {str(store): table for store, table in likely.groupby("store", sort=False)}
        drawn = _cubes(curves, block.n_stores, ("amount", "expected", "lower", "upper"))
        ahead = _cubes(forecast, block.n_stores, _FORECAST)
        first = np.concatenate([[0], np.cumsum(rows)])
        for s, name in enumerate(block.stores.tolist()):
            begin, own = int(ends[s] - rows[s]), values[first[s] : first[s + 1]]
            line = {"n": name, **self._series(own, begin), "f": _short(ahead[s].T)}
            line["e"] = self._edges(by_store.get(name))
            line["c"] = self._curves(drawn[s])
            self._write(line)

    def _series(self, values: NDArray[Any], begin: int) -> dict[str, Any]:
        start, sums = self.timeline.sums(values, begin)
        return {"s": start, "y": _short(sums.sum(1)), "p": _short(sums[:, :-1].T)}

    def _edges(self, table: pd.DataFrame | None) -> list[Any]:
        if table is None:
            return []
        ends = [table[name].map(self.node) for name in ("source", "target")]
        numbers = (table["probability"].round(2), table["effect"].map(_rounded))
        return [list(row) for row in zip(*ends, *numbers, strict=True)]

    def _curves(self, drawn: NDArray[Any]) -> list[Any]:
        """By channel: largest amount, then expected, lower and upper along the curve."""
        points = drawn.reshape(len(self._channels), -1, drawn.shape[-1])
        return [[_rounded(c[-1, 0]), *_short(c[:, 1:].T)] for c in points]

    @property
    def _channels(self) -> list[str]:
        roles = zip(self.panel.nodes, self.panel.data.roles, strict=True)
        return [name for name, role in roles if role in ("channel", "organic")]

    def close(
        self,
        fleet: dict[str, pd.DataFrame | None],
        returns: pd.DataFrame | None,
        stores: NDArray[Any],
        group: NDArray[Any],
    ) -> None:
        """The line of all stores, and the returns of each."""
        parts, ahead, curves = fleet["parts"], fleet["forecast"], fleet["curves"]
        assert parts is not None
        assert ahead is not None
        assert curves is not None
        wide = parts.pivot_table(index="date", columns="component", values="value", sort=False)
        wide = wide.sort_index()
        begin = int(np.searchsorted(self.panel.data.grid, wide.index.to_numpy()[0].astype(
            self.panel.data.grid.dtype)))  # fmt: skip
        assert wide.columns[-1] == REMAINDER
        line = {"n": "", **self._series(wide.to_numpy(float), begin), "e": []}
        line["f"] = _short(ahead[list(_FORECAST)].to_numpy(float).T)
        columns = ["amount", "expected", "lower", "upper"]
        line["c"] = self._curves(curves[columns].to_numpy(float))
        if fleet["roi"] is not None:
            line["r"] = _short(fleet["roi"][list(RETURNS)].to_numpy(float))
        self._write(line)
        each = None
        if returns is not None:
            each = returns[list(RETURNS)].to_numpy(float).reshape(len(stores), -1, len(RETURNS))
        for s in range(len(stores)):
            line = {"r": [] if each is None else _short(each[s])}
            self._write({**line, "g": int(group[s]) + 1 if group.any() else 0})
        self.file.close()

    def _write(self, line: dict[str, Any]) -> None:
        self.file.write(json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n")


def _cubes(frame: pd.DataFrame, stores: int, columns: tuple[str, ...]) -> NDArray[Any]:
    values: NDArray[Any] = frame[list(columns)].to_numpy(float)
    return values.reshape(stores, -1, len(columns))


def _rounded(value: float) -> float | int | None:
    """Four significant digits; whole numbers without a point; nothing for what is not a number."""
    if not np.isfinite(value):
        return None
    short = float(f"{value:.{_DIGITS}g}")
    return int(short) if short.is_integer() else short


def _short(values: NDArray[Any]) -> list[Any]:
    if values.ndim > 1:
        return [_short(row) for row in values]
    return [_rounded(value) for value in values.tolist()]
