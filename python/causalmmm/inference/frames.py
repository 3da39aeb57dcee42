"""Answers as tidy frames in the user's names and units, from plain arrays.

Shared by the torch model (``tables``) and by the exported one (``runtime``): no torch here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalmmm.data.panel import Panel
from causalmmm.data.plan import Plan
from causalmmm.findings import PanelError, counted, first_few, refusal
from causalmmm.inference.interrupt import current_check

if TYPE_CHECKING:
    import networkx as nx

Floats = NDArray[np.float32]
Stores = NDArray[np.int64]
EFFECT_COLUMNS = ("effect", "lower", "upper")
CURVE_COLUMNS = ("expected", "effect", "lower", "upper")
MAX_HORIZON = 2_000  # steps; beyond, a forecast says nothing and the calendar may end
BASELINE, OWN_PAST, REMAINDER = "baseline", "own past", "remainder"


def groups(panel: Panel, window: int, size: int) -> Iterator[Stores]:
    """Stores of equal window length, at most ``size`` at once.

    Padding would let a store's answer depend on its company, if only in its first rows.
    """
    used, check = np.minimum(panel.lengths, window), current_check()
    order = np.argsort(used, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(used[order])) + 1):
        for begin in range(0, len(members), size):
            check()
            yield members[begin : begin + size]


def joined(parts: Sequence[tuple[Stores, pd.DataFrame]]) -> pd.DataFrame:
    """Frames of groups of stores as one, stores in the panel's order.

    The index of every part holds the store's position. Raises ``PanelError`` naming stores and
    columns if a number is not finite: what is answered can be calculated with.
    """
    frame = pd.concat([part for _, part in parts]) if len(parts) > 1 else parts[0][1]
    if len(parts) > 1:
        frame = frame.iloc[np.argsort(frame.index.to_numpy(), kind="stable")]
    frame = frame.reset_index(drop=True)
    for column in frame.select_dtypes("float"):
        broken = ~np.isfinite(frame[column].to_numpy())
        if broken.any():
            names = frame["store"][broken].unique()
            raise refusal(
                "not-finite",
                f"The answer has no finite '{column}' for {counted(len(names), 'store')}: "
                f"{first_few(names)}.",
                "Look at the histories of these stores for extreme values (validate).",
                kind=PanelError,
                store=str(names[0]),
                rows=int(broken.sum()),
            )
    return frame


def graph_frame(
    panel: Panel, stores: Stores, values: Mapping[str, Floats], threshold: float
) -> pd.DataFrame:
    """store, source, target, probability, effect, lower, upper; from [B, N, N] each."""
    source, target = np.nonzero(~np.eye(len(panel.nodes), dtype=bool))
    names = np.array(panel.nodes, dtype=object)
    cells = {name: array[:, source, target] for name, array in values.items()}
    keep = cells["probability"] >= threshold
    counts = keep.sum(1)
    columns: dict[str, Any] = {
        "store": np.repeat(panel.stores[stores], counts),
        "source": np.broadcast_to(names[source], keep.shape)[keep],
        "target": np.broadcast_to(names[target], keep.shape)[keep],
        "probability": cells["probability"][keep],
    }
    columns |= {name: cells[name][keep] for name in EFFECT_COLUMNS}
    return pd.DataFrame(columns, index=np.repeat(stores, counts))


def store_graph(
    store: str, threshold: float, nodes: Sequence[str], roles: Sequence[str], edges: pd.DataFrame
) -> nx.DiGraph[str]:
    """One store's edges as a graph: nodes with role; edges with the numbers of their rows, such as
    probability, effect and bounds."""
    import networkx as nx

    graph: nx.DiGraph[str] = nx.DiGraph(store=str(store), threshold=threshold)
    for node, role in zip(nodes, roles, strict=True):
        graph.add_node(node, role=role)
    columns = [name for name in edges.columns if name not in ("store", "source", "target")]
    for row in edges.to_dict("records"):
        numbers = {name: float(row[name]) for name in columns}
        graph.add_edge(row["source"], row["target"], **numbers)
    return graph


def forecast_frame(
    panel: Panel, stores: Stores, ahead: NDArray[Any], values: Floats, levels: Sequence[float]
) -> pd.DataFrame:
    """store, date, series, mean, lower_80, upper_80, ...; from [B, N, H, 1 + 2 levels].

    ahead  datetime64 [B, H]: the dates forecast.
    """
    names = np.array(panel.nodes, dtype=object)
    steps = ahead.shape[1]
    dates = ahead.astype("datetime64[ns]")
    owner = np.repeat(stores, len(names) * steps)
    frame = pd.DataFrame(
        {
            "store": panel.stores[owner],
            "date": np.repeat(dates[:, None], len(names), axis=1).ravel(),
            "series": np.tile(np.repeat(names, steps), len(stores)),
        },
        index=owner,
    )
    bounds = [f"{side}_{level:g}" for level in levels for side in ("lower", "upper")]
    frame[["mean", *bounds]] = values.reshape(len(frame), -1)
    return frame


def contribution_frame(panel: Panel, stores: Stores, values: Floats) -> pd.DataFrame:
    """store, date, component, value; from [B, baseline and own past and senders, T - 1].

    A remainder is added, so that the components of a date sum to what was observed.
    """
    data = panel.data
    rows = values.shape[2]
    components = [BASELINE, OWN_PAST, *panel.nodes[:-1], REMAINDER]
    last = data.offsets[stores + 1]
    observed = data.values[last[:, None] - rows + np.arange(rows), -1]
    explained = values.sum(1, dtype=np.float64).astype(np.float32)
    whole = np.concatenate([values, (observed - explained)[:, None]], axis=1)
    ends = data.start[stores] + data.lengths[stores]
    dates = data.grid[ends[:, None] - rows + np.arange(rows)].astype("datetime64[ns]")
    owner = np.repeat(stores, rows * len(components))
    return pd.DataFrame(
        {
            "store": panel.stores[owner],
            "date": np.repeat(dates.ravel(), len(components)),
            "component": np.tile(np.array(components, dtype=object), rows * len(stores)),
            "value": whole.transpose(0, 2, 1).ravel(),
        },
        index=owner,
    )


def sum_frame(panel: Panel, stores: Stores, values: Mapping[str, Floats]) -> pd.DataFrame:
    """store, channel, direct and total contribution with bounds; from [B, N] each.

    Only series that may act are listed: channels, organic series and mediators.
    """
    names = np.array(panel.nodes[:-1], dtype=object)
    owner = np.repeat(stores, len(names))
    columns = {name: array[:, :-1].ravel() for name, array in values.items()}
    return pd.DataFrame(
        {"store": panel.stores[owner], "series": np.tile(names, len(stores)), **columns},
        index=owner,
    )


def curve_frame(
    panel: Panel,
    stores: Stores,
    channels: Sequence[int],
    amounts: Floats,
    values: Mapping[str, Floats],
) -> pd.DataFrame:
    """store, channel, amount, expected, effect, lower, upper; from [B, G, N] each."""
    points = amounts.shape[1]
    names = np.array(panel.nodes, dtype=object)[list(channels)]
    owner = np.repeat(stores, len(names) * points)

    def flat(array: Floats) -> Floats:
        return array[:, :, list(channels)].transpose(0, 2, 1).ravel()

    return pd.DataFrame(
        {
            "store": panel.stores[owner],
            "channel": np.tile(np.repeat(names, points), len(stores)),
            "amount": flat(amounts),
            **{name: flat(values[name]) for name in CURVE_COLUMNS},
        },
        index=owner,
    )


def curve_amounts(panel: Panel, stores: Stores, window: int, points: int) -> Floats:
    """float32 [B, G, N]: from zero to twice the largest amount of each series in its window."""
    if points < 2:
        raise ValueError(f"a curve needs at least 2 points, got {points}")
    data = panel.data
    ends, lengths = data.offsets[stores + 1], np.minimum(data.lengths[stores], window)
    most = np.stack(
        [data.values[end - n : end].max(0) for end, n in zip(ends, lengths, strict=True)]
    )
    share = np.linspace(0, 2, points, dtype=np.float32)
    amounts: Floats = share[:, None] * np.maximum(most, 0)[:, None]
    return amounts


def curve_channels(panel: Panel, channel: str | None) -> list[int]:
    """Positions of the channels asked for: paid and organic ones, or the one that is named."""
    roles = panel.data.roles
    known = [k for k, role in enumerate(roles) if role in ("channel", "organic")]
    if channel is None:
        return known
    names = [panel.nodes[k] for k in known]
    if channel not in names:
        raise KeyError(f"no channel {channel!r} in this model: {names}")
    return [known[names.index(channel)]]


def planned(panel: Panel, plan: Plan | None, stores: Stores, steps: int) -> tuple[Floats, Floats]:
    """Planned series [B, H, N] and controls [B, H, R] in user units, NaN where there is no plan."""
    shape = (len(stores), steps)
    series = np.full((*shape, len(panel.nodes)), np.nan, np.float32)
    controls = np.full((*shape, panel.data.controls.shape[1]), np.nan, np.float32)
    if plan is not None:
        for k, name in enumerate(plan.series):
            series[:, :, panel.nodes.index(name)] = plan.values[stores, :steps, k]
        controls[:] = plan.controls[stores, :steps]
    return series, controls


def levels_of(level: Sequence[float]) -> list[float]:
    """Levels in percent, checked."""
    levels = [float(v) for v in np.atleast_1d(level)]
    if any(not 0 < v < 100 for v in levels):
        raise ValueError(f"levels are percentages between 0 and 100, got {list(level)}")
    if any(v < 1 for v in levels):
        raise ValueError(f"levels are in percent: 80, not 0.8; got {list(level)}")
    return levels


def steps_of(horizon: int | None, plan: Plan | None, default: int) -> int:
    """Steps to forecast: those asked for, else those of the plan, else the default."""
    steps = horizon if horizon is not None else (plan.horizon if plan is not None else default)
    if not isinstance(steps, int | np.integer):
        raise ValueError(f"horizon must be a whole number of steps, got {steps!r}")
    if not 1 <= steps <= MAX_HORIZON:
        raise ValueError(f"horizon must be 1 to {MAX_HORIZON} steps, got {steps}")
    if plan is not None and plan.horizon < steps:
        raise ValueError(f"the plan covers {plan.horizon} steps, fewer than the horizon of {steps}")
    return int(steps)
