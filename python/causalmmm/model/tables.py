"""From a model's answers to frames, a few stores at a time, so that memory stays bounded.

What the frames look like is decided in ``frames``; which model answers, in ``answers``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch

from causalmmm.data.panel import Panel
from causalmmm.data.plan import Plan
from causalmmm.decisions.in_order import MOST_THREADS, in_order
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

    def ask(stores: frames.Stores) -> pd.DataFrame:
        values = answers.graphs(stores)
        unit = windows.scale[stores][:, None]
        values |= {name: values[name] * unit for name in frames.EFFECT_COLUMNS}
        return frames.graph_frame(panel, stores, values, threshold)

    return _joined(ask, answers, windows, panel, answers.copies)


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

    def ask(stores: frames.Stores) -> pd.DataFrame:
        values = answers.forecast(stores, plan, steps, levels)
        values = values * windows.scale[stores][:, :, None, None]
        first = data.start[stores] + data.lengths[stores]
        ahead = grid[first[:, None] + np.arange(steps)]
        return frames.forecast_frame(panel, stores, ahead, values, levels)

    return _joined(ask, answers, windows, panel, copies * (1 + len(levels) * steps // 60))


def contribution_table(answers: StoreAnswers, windows: Windows, panel: Panel) -> pd.DataFrame:
    """store, date, component, value; see ``CausalMMM.decompose``."""

    def ask(stores: frames.Stores) -> pd.DataFrame:
        values = answers.contributions(stores) * windows.scale[stores][:, -1:, None]
        return frames.contribution_frame(panel, stores, values)

    return _joined(ask, answers, windows, panel, answers.copies)


def sum_table(answers: RegressionAnswers, windows: Windows, panel: Panel) -> pd.DataFrame:
    """store, channel, direct, total and their bounds; see ``CausalMMM.contributions``."""

    def ask(stores: frames.Stores) -> pd.DataFrame:
        unit = windows.scale[stores][:, -1:]
        values = {name: array * unit for name, array in answers.sums(stores).items()}
        return frames.sum_frame(panel, stores, values)

    return _joined(ask, answers, windows, panel, answers.copies)


def curve_table(
    answers: StoreAnswers, windows: Windows, panel: Panel, channel: str | None, points: int
) -> pd.DataFrame:
    """store, channel, amount, expected, effect, lower, upper; see ``CausalMMM.response_curves``."""
    channels = frames.curve_channels(panel, channel)

    def ask(stores: frames.Stores) -> pd.DataFrame:
        amounts = frames.curve_amounts(panel, stores, windows.window, points)
        scaled = torch.from_numpy(amounts / windows.scale[stores][:, None]).mT
        unit = windows.scale[stores][:, -1, None, None]
        curves = answers.curves(stores, scaled)
        values = {name: array.swapaxes(1, 2) * unit for name, array in curves.items()}
        return frames.curve_frame(panel, stores, channels, amounts, values)

    return _joined(ask, answers, windows, panel, answers.copies)


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


def _joined(
    ask: Callable[[frames.Stores], pd.DataFrame],
    answers: StoreAnswers,
    windows: Windows,
    panel: Panel,
    copies: int,
) -> pd.DataFrame:
    """The frame of all stores, asked for in groups such that ``copies`` of their windows and edges
    stay within bounds.

    Groups of the regression have a thread each: its operations are too small for threads to share
    one. Where torch was imported first, so that waiting threads spin, two took six times as long
    beside another process.
    """
    alone = not isinstance(answers, RegressionAnswers)
    threads = 1 if alone else min(MOST_THREADS, torch.get_num_threads())
    values = copies * len(panel.nodes) * _rows_and_edges(panel, windows)
    most = min(1024, -(-panel.n_stores // threads))
    size = int(np.clip(_VALUES_AT_ONCE // (threads * values), 1, most))
    groups = list(frames.groups(panel, windows.window, size))
    return frames.joined(list(zip(groups, in_order(ask, groups, threads), strict=True)))


def _rows_and_edges(panel: Panel, windows: Windows) -> int:
    """What is held of a series in numbers: its rows, and what there is of its pairs."""
    return min(int(panel.lengths.max()), windows.window) + 32 * len(panel.nodes)
