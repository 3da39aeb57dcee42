"""The inputs of the exported graph for some stores of a panel, in user units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from causalmmm.data.panel import Panel
from causalmmm.data.plan import Plan
from causalmmm.decisions.period import Period, recent_input, worth_of
from causalmmm.engine.spec.calendar import extend_grid
from causalmmm.inference import frames


def feeds(
    panel: Panel,
    stores: NDArray[np.int64],
    *,
    window: int,
    plan: Plan | None = None,
    steps: int = 0,
    levels: Sequence[float] = (),
    points: int = 0,
    graphs: bool = False,
    contributions: bool = False,
    sums: bool = False,
    period: Period | None = None,
) -> dict[str, NDArray[Any]]:
    """All inputs, of which a file names those that it takes; what is not asked for (steps, levels,
    points) has length 0.

    With a ``period`` returns on its spend are asked for, and ``steps`` are those after the history
    whose change counts: spend goes on there with the mean of the last steps.

    Histories end together. Where they begin at different rows, the rows before are NaN.
    """
    data = panel.data
    ends = data.offsets[stores + 1]
    longest = int(data.lengths[stores].max())
    position = np.arange(longest) - longest
    rows = ends[:, None] + position
    absent = rows < data.offsets[stores][:, None]
    rows = np.maximum(rows, data.offsets[stores][:, None])
    history = data.values[rows]
    if absent.any():
        history[absent] = np.nan
    on_grid = (data.start[stores] + data.lengths[stores])[:, None] + position
    series, controls = frames.planned(panel, plan, stores, steps)
    inside, worth = np.zeros(absent.shape, np.float32), np.ones(absent.shape, np.float32)
    after = np.ones((len(stores), steps), np.float32)
    if period is not None:
        spend = recent_input(panel, stores, steps, min(4 * steps, window))
        series[:, :, : spend.shape[2]] = spend
        held, counted = period.counted(data.grid[np.maximum(on_grid, 0)], steps)
        inside = (held[:, :longest] & ~absent).astype(np.float32)
        rate = counted * worth_of(panel, rows, steps)
        worth, after = np.split(rate.astype(np.float32), [longest], 1)
    amounts = np.zeros((len(stores), points, len(panel.nodes)), np.float32)
    if points:
        amounts = frames.curve_amounts(panel, stores, window, points)
    return {
        "history": history,
        "date": _days(data.grid[np.maximum(on_grid, 0)]),
        "controls": data.controls[rows],
        "context": data.context[rows if data.context_moves else stores[:, None] + 0 * rows],
        "future_date": _days(dates_ahead(panel, stores, steps)),
        "future_controls": controls,
        "plan": series,
        "level": np.array(levels, dtype=np.float32) / 100,
        "amounts": amounts,
        "with_graphs": np.array(graphs),
        "with_contributions": np.array(contributions),
        "with_sums": np.array(sums),
        "with_returns": np.array(period is not None),
        "period": inside,
        "worth": worth,
        "future_worth": after,
        "store": np.array([crc32(name.encode()) for name in panel.stores[stores].tolist()]),
    }


def dates_ahead(panel: Panel, stores: NDArray[np.int64], steps: int) -> NDArray[np.datetime64]:
    """The dates [B, steps] that follow each store's history."""
    data = panel.data
    grid = extend_grid(data.grid, data.freq, steps)
    first = data.start[stores] + data.lengths[stores]
    ahead: NDArray[np.datetime64] = grid[first[:, None] + np.arange(steps)]
    return ahead


def _days(dates: NDArray[np.datetime64]) -> NDArray[np.int64]:
    return dates.astype("datetime64[D]").astype(np.int64)
