"""From a model's answers to frames, a few stores at a time, so that memory stays bounded.

What the frames look like is decided in ``frames``; which model answers, in ``answers``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from causalmmm.data.panel import Panel
from causalmmm.data.plan import Plan
from causalmmm.engine.batches.windows import Windows
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.predict.carryover import carryover as amortised_carryover
from causalmmm.engine.regression import Regression
from causalmmm.engine.regression import carryover as regression_carryover
from causalmmm.inference import frames
from causalmmm.model.answers import RegressionAnswers, StoreAnswers

_VALUES_AT_ONCE = 20_000_000


def graph_table(
    answers: StoreAnswers, windows: Windows, panel: Panel, threshold: float
) -> pd.DataFrame:
    """store, source, target, probability, effect, lower, upper; see ``CausalMMM.graphs``."""
    parts = []
    for stores in _groups(panel, windows, answers.copies):
        values = answers.graphs(stores)
        unit = windows.scale[stores][:, None]
        values |= {name: values[name] * unit for name in frames.EFFECT_COLUMNS}
        parts.append((stores, frames.graph_frame(panel, stores, values, threshold)))
    return frames.joined(parts)


def forecast_table(
    answers: StoreAnswers,
    windows: Windows,
    panel: Panel,
    plan: Plan | None,
    *,
    steps: int,
    levels: Sequence[float],
    copies: int,
) -> pd.DataFrame:
    """store, date, series, mean, lower_80, upper_80, ...; see ``CausalMMM.predict``.

    The calendar of ``windows`` must reach ``steps`` beyond the panel. ``copies`` of a window are
    held for a store at a time.
    """
    data, grid = panel.data, windows.calendar.grid
    parts = []
    copies = copies * (1 + len(levels) * steps // 60)
    for stores in _groups(panel, windows, copies):
        values = answers.forecast(stores, plan, steps, levels)
        values = values * windows.scale[stores][:, :, None, None]
        first = data.start[stores] + data.lengths[stores]
        ahead = grid[first[:, None] + np.arange(steps)]
        parts.append((stores, frames.forecast_frame(panel, stores, ahead, values, levels)))
    return frames.joined(parts)


def contribution_table(answers: StoreAnswers, windows: Windows, panel: Panel) -> pd.DataFrame:
    """store, date, component, value; see ``CausalMMM.decompose``."""
    parts = []
    for stores in _groups(panel, windows, answers.copies):
        values = answers.contributions(stores) * windows.scale[stores][:, -1:, None]
        parts.append((stores, frames.contribution_frame(panel, stores, values)))
    return frames.joined(parts)


def sum_table(answers: RegressionAnswers, windows: Windows, panel: Panel) -> pd.DataFrame:
    """store, channel, direct, total and their bounds; see ``CausalMMM.contributions``."""
    parts = []
    for stores in _groups(panel, windows, answers.copies):
        unit = windows.scale[stores][:, -1:]
        values = {name: array * unit for name, array in answers.sums(stores).items()}
        parts.append((stores, frames.sum_frame(panel, stores, values)))
    return frames.joined(parts)


def curve_table(
    answers: StoreAnswers, windows: Windows, panel: Panel, channel: str | None, points: int
) -> pd.DataFrame:
    """store, channel, amount, expected, effect, lower, upper; see ``CausalMMM.response_curves``."""
    channels = frames.curve_channels(panel, channel)
    parts = []
    for stores in _groups(panel, windows, answers.copies):
        amounts = frames.curve_amounts(panel, stores, windows.window, points)
        scaled = torch.from_numpy(amounts / windows.scale[stores][:, None]).mT
        unit = windows.scale[stores][:, -1, None, None]
        curves = answers.curves(stores, scaled)
        values = {name: array.swapaxes(1, 2) * unit for name, array in curves.items()}
        parts.append((stores, frames.curve_frame(panel, stores, channels, amounts, values)))
    return frames.joined(parts)


def adstock_table(
    model: CausalModel | Regression, nodes: Sequence[str], roles: Sequence[str], lags: int
) -> pd.DataFrame:
    """channel, lag, share, lower, upper; see ``CausalMMM.adstock``."""
    if isinstance(model, Regression):
        senders, drawn = regression_carryover(model, lags)
        share = drawn.mean(0)
        lower, upper = drawn.quantile(torch.tensor([0.05, 0.95], dtype=drawn.dtype), 0)
    else:
        senders, share = tuple(range(len(nodes))), amortised_carryover(model, lags).cpu()
        lower = upper = torch.full_like(share, torch.nan)
    kept = [k for k, j in enumerate(senders) if roles[j] in ("channel", "organic")]
    names = np.array([nodes[senders[k]] for k in kept], dtype=object)
    columns = {"share": share, "lower": lower, "upper": upper}
    return pd.DataFrame(
        {
            "channel": np.repeat(names, lags + 1),
            "lag": np.tile(np.arange(lags + 1), len(names)),
            **{name: values[kept].numpy().ravel() for name, values in columns.items()},
        }
    )


def _groups(panel: Panel, windows: Windows, copies: int) -> Iterator[NDArray[np.int64]]:
    """Groups of stores such that ``copies`` of their windows and edges stay within bounds."""
    nodes = len(panel.nodes)
    steps = min(int(panel.lengths.max()), windows.window)
    size = int(np.clip(_VALUES_AT_ONCE // (copies * nodes * (steps + 32 * nodes)), 1, 1024))
    return frames.groups(panel, windows.window, size)
