"""Tables of what spend brought, from joint draws by group of stores. Without torch: the runtime of
exported files makes the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from causalmmm.data.panel import Panel
from causalmmm.decisions.period import EVERYTHING, Floats, Period, Stores, groups_of

INTERVAL = (0.05, 0.95)
INTERACTION = "interaction"
STEP = 0.01  # of spend, by which a marginal return is measured


@dataclass(frozen=True)
class GroupEffects:
    """Draws [D, G, C + 1] by group of stores, the last column for all channels together.

    total, direct;  via [D, G, C + 1, M];  marginal, gain of one per cent more spend.
    """

    total: Floats
    direct: Floats
    via: Floats
    marginal: Floats | None

    def summed(self) -> GroupEffects:
        """All groups as one."""
        total, direct, via = (v.sum(1, keepdims=True) for v in (self.total, self.direct, self.via))
        marginal = None if self.marginal is None else self.marginal.sum(1, keepdims=True)
        return GroupEffects(total, direct, via, marginal)


class GroupSums:
    """Sums over the stores of each of ``groups`` groups of draws by store, added as they come."""

    def __init__(self, group: Stores, groups: int) -> None:
        self.group, self.groups = group, groups
        self.sums: dict[str, Floats] = {}

    def add(self, stores: Stores, draws: Mapping[str, Floats]) -> None:
        """draws  [D, B, ...] by name."""
        for name, value in draws.items():
            shape = (value.shape[0], self.groups, *value.shape[2:])
            total = self.sums.setdefault(name, np.zeros(shape))
            for b, place in enumerate(self.group[stores].tolist()):
                if place >= 0:
                    total[:, place] += value[:, b]

    def effects(self) -> GroupEffects:
        """Of sums that are named as effects are."""
        sums = self.sums
        return GroupEffects(sums["total"], sums["direct"], sums["via"], sums.get("marginal"))


def paths_table(names: list[str], found: GroupEffects, panel: Panel) -> pd.DataFrame:
    """store, channel, path, mean, lower, upper; see ``CausalMMM.paths``."""
    nodes, roles = panel.nodes, panel.data.roles
    senders = [n for n, role in zip(nodes, roles, strict=True) if role in ("channel", "organic")]
    mediators = [n for n, role in zip(nodes, roles, strict=True) if role == "mediator"]
    rows = [
        (channel, path, draws)
        for c, channel in enumerate([*senders, EVERYTHING])
        for path, draws in _named_paths(found, c, channel, mediators, nodes[-1])
    ]
    joint = found.total[..., -1] - found.total[..., :-1].sum(-1)
    rows.insert(-(2 + len(mediators) + (len(mediators) > 1)), (INTERACTION, "total", joint))
    channels, paths, draws = zip(*rows, strict=True)
    values = summary(np.stack(draws, -1))  # [G, rows] each
    return pd.DataFrame(
        {
            "store": np.repeat(np.array(names, object), len(rows)),
            "channel": np.tile(np.array(channels, object), len(names)),
            "path": np.tile(np.array(paths, object), len(names)),
            **{name: value.ravel() for name, value in values.items()},
        }
    )


def _named_paths(
    found: GroupEffects, c: int, channel: str, mediators: list[str], target: str
) -> Iterator[tuple[str, Floats]]:
    """Paths of a column and their draws [D, G]; all but ``total`` sum to it."""
    direct, total = found.direct[..., c], found.total[..., c]
    yield f"{channel} -> {target}", direct
    for m, mediator in enumerate(mediators):
        yield f"{channel} -> {mediator} -> {target}", found.via[..., c, m]
    if len(mediators) > 1:
        yield "several mediators", total - direct - found.via[..., c, :].sum(-1)
    yield "total", total


@dataclass(frozen=True)
class Returns:
    """ROI of every store, and ROI and paths of all together, from one pass over the draws;
    ``effects`` are the draws of all together."""

    stores: pd.DataFrame
    total: pd.DataFrame
    paths: pd.DataFrame
    effects: GroupEffects


def joined_returns(blocks: Sequence[Returns], panel: Panel, period: Period) -> Returns:
    """Returns of a panel from those of the blocks of stores that make it up."""
    stores = pd.concat([block.stores for block in blocks], ignore_index=True)
    effects = [vars(block.effects) for block in blocks]
    summed = {name: sum(effect[name] for effect in effects) for name in effects[0]}
    return together(stores, GroupEffects(**summed), panel, period)


def together(stores: pd.DataFrame, effects: GroupEffects, panel: Panel, period: Period) -> Returns:
    """Returns from the table of every store, and draws of all stores together."""
    whole, group = groups_of(panel, "total")
    spend, exposure = spent(panel, period, group, 1)
    return Returns(
        stores=stores,
        total=roi_table(whole, effects, panel, spend, exposure),
        paths=paths_table(whole, effects, panel),
        effects=effects,
    )


def roi_table(
    names: list[str], found: GroupEffects, panel: Panel, spend: Floats, exposure: Floats
) -> pd.DataFrame:
    """See ``CausalMMM.roi``; spend and exposure [G, C]."""
    paid = spend.shape[1]
    total, gain = (_paid(draws, paid) for draws in (found.total, _need(found.marginal)))
    spend = np.concatenate([spend, spend.sum(1, keepdims=True)], 1)
    exposure = np.concatenate([exposure, np.full((len(names), 1), np.nan)], 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        bought = np.where(spend > 0, spend, np.nan)
        outcome = summary(total, "outcome")
        sure = np.quantile(total[..., -1:], INTERVAL[0], 0) > 0  # [G, 1]
        share = np.where(sure, outcome["outcome"] / total[..., -1:].mean(0), np.nan)
        cpik = np.median(np.where(total > 0, bought / total, np.inf), 0)
        values = {
            "spend": spend,
            "spend_share": spend / spend[:, -1:],
            **outcome,
            "outcome_share": share,
            **summary(total / bought, "roi"),
            **summary(gain / (STEP * bought), "mroi"),
            "cpik": np.where(np.isfinite(cpik), cpik, np.nan),
            "effectiveness": outcome["outcome"] / np.where(exposure > 0, exposure, np.nan),
        }
    labels = [*panel.nodes[:paid], EVERYTHING]
    return pd.DataFrame(
        {
            "store": np.repeat(np.array(names, object), len(labels)),
            "channel": np.tile(np.array(labels, object), len(names)),
            **{name: value.ravel() for name, value in values.items()},
        }
    )


def _paid(draws: Floats, paid: int) -> Floats:
    """[D, G, paid + 1]: the paid channels and all of them together; with organic channels beside
    them, which nobody bought, the sum of the single ones."""
    if draws.shape[-1] == paid + 1:
        return draws
    single = draws[..., :paid]
    return np.concatenate([single, single.sum(-1, keepdims=True)], -1)


def spent(panel: Panel, period: Period, group: Stores, groups: int) -> tuple[Floats, Floats]:
    """[G, C] each: money of the paid channels in the period, NaN where it is not known, and their
    exposure, NaN where the model's input is money."""
    data, paid = panel.data, panel.spend.shape[1]
    step = np.arange(len(data.values)) + np.repeat(data.start - data.offsets[:-1], panel.lengths)
    place = np.repeat(group, panel.lengths)
    rows = period.holds(data.grid[step]) & (place >= 0)
    money, exposure = np.zeros((groups, paid)), np.zeros((groups, paid))
    np.add.at(money, place[rows], panel.spend[rows].astype(np.float64))
    np.add.at(exposure, place[rows], data.values[rows, :paid].astype(np.float64))
    known = [channel.exposure is not None for channel in panel.schema.channels.values()]
    exposure[:, ~np.array(known, bool)] = np.nan
    return money, exposure


def summary(draws: Floats, name: str = "mean") -> dict[str, Floats]:
    """Mean and ends of the central 90 % interval over draws [D, ...]."""
    lower, upper = np.quantile(draws, INTERVAL, 0)
    prefix = "" if name == "mean" else f"{name}_"
    return {name: draws.mean(0), f"{prefix}lower": lower, f"{prefix}upper": upper}


def _need(value: Floats | None) -> Floats:
    assert value is not None
    return value
