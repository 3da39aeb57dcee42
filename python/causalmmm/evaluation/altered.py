"""Panels made from a panel to try a model: noisy spend, channels that are fake, simulated sales.

Arrays only; what a model should make of them is decided in ``trials``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from causalmmm.data.panel import Panel
from causalmmm.data.schema import Schema

if TYPE_CHECKING:
    import pandas as pd

Rows = NDArray[np.int64]


def noisy_spend(panel: Panel, size: float, seed: int) -> Panel:
    """The panel with every amount of every channel times one plus normal noise of this ``size``.

    Exposure and money of a row move together, so that prices stay.
    """
    data, schema = panel.data, panel.schema
    senders, paid = len(schema.channels) + len(schema.organic), len(schema.channels)
    noise = np.random.default_rng(seed).normal(1.0, size, (len(data.values), senders))
    factor = np.maximum(noise, 0.0).astype(np.float32)
    values = data.values.copy()
    values[:, :senders] *= factor
    return replace(panel, data=replace(data, values=values), spend=panel.spend * factor[:, :paid])


def shuffled_rows(panel: Panel, seed: int) -> Rows:
    """[rows]: for every row another of the same store, in an order drawn at random."""
    rng = np.random.default_rng(seed)
    return np.concatenate(
        [rng.permutation(np.arange(begin, end)) for begin, end in pairwise(panel.data.offsets)]
    )


def later_rows(panel: Panel, steps: int) -> Rows:
    """[rows]: for every row that of its store ``steps`` later; its last one near the end."""
    ends = np.repeat(panel.data.offsets[1:], panel.lengths)
    later: Rows = np.minimum(np.arange(len(ends)) + steps, ends - 1)
    return later


def with_copies(panel: Panel, channels: Sequence[str], label: str, rows: Rows) -> Panel:
    """The panel with a copy of each of these paid channels, whose amounts are of other ``rows``.

    A copy of tv is named "tv (label)" and follows the paid channels.
    """
    data, schema, paid = panel.data, panel.schema, len(panel.schema.channels)
    at = [panel.nodes.index(name) for name in channels]
    described = schema.model_dump()
    for name in channels:
        columns = described["channels"][name]
        described["channels"][copy_of(name, label)] = {
            kind: None if column is None else copy_of(column, label)
            for kind, column in columns.items()
        }
    grown = Schema.model_validate(described)
    copies = data.values[rows][:, at]
    values = np.concatenate([data.values[:, :paid], copies, data.values[:, paid:]], 1)
    return replace(
        panel,
        schema=grown,
        data=replace(data, values=values, roles=grown.roles),
        spend=np.concatenate([panel.spend, panel.spend[rows][:, at]], 1),
    )


def copy_of(name: str, label: str) -> str:
    """The name of a channel's copy."""
    return f"{name} ({label})"


def simulated_target(panel: Panel, parts: pd.DataFrame, seed: int) -> Panel:
    """The panel with sales as a model explains them, and its residuals at other times.

    ``parts`` is the model's decomposition of the panel. What no series explains (own past and
    remainder) is moved round in time within each store, by a quarter to three quarters of its
    history: it keeps its own pattern, and has nothing to do with spend any more. Rows that the
    decomposition does not cover stay as they were.
    """
    rng, data = np.random.default_rng(seed), panel.data
    unexplained = parts["component"].isin(["own past", "remainder"])
    keys = ["store", "date"]
    explained = parts[~unexplained].groupby(keys, sort=False)["value"].sum()
    residual = parts[unexplained].groupby(keys, sort=False)["value"].sum()
    values = data.values.copy()
    for s, store in enumerate(panel.stores.tolist()):
        rest = residual[store].to_numpy(np.float64)
        steps = len(rest)
        moved = np.roll(rest, int(rng.integers(steps // 4, 3 * steps // 4 + 1)))
        end = data.offsets[s + 1]
        sales = explained[store].to_numpy(np.float64) + moved
        floor = 0.0 if data.values[data.offsets[s] : end, -1].min() >= 0 else -np.inf
        values[end - steps : end, -1] = np.maximum(sales, floor)
    return replace(panel, data=replace(data, values=values), spend=panel.spend.copy())
