"""``paths`` and ``roi``: what the spend of a period brought, with intervals of joint draws."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from causalmmm.data.panel import Panel
from causalmmm.decisions.in_order import MOST_THREADS, in_order
from causalmmm.decisions.period import (
    By,
    Floats,
    Period,
    Stores,
    Systems,
    days_of,
    groups_of,
    recent_input,
    tail_of,
    worth,
)
from causalmmm.decisions.tables import (
    STEP,
    GroupEffects,
    GroupSums,
    Returns,
    paths_table,
    roi_table,
    spent,
    together,
)
from causalmmm.engine.decisions import path_effects
from causalmmm.inference.interrupt import current_check


def period_effects(
    systems: Systems, panel: Panel, period: Period, by: By, *, marginal: bool
) -> tuple[list[str], GroupEffects]:
    """Names of the groups, and the effects of their channels' spend in the period.

    What lies after the history goes on with the mean of the last steps; the change there counts.
    """
    tail = tail_of(panel)
    names, group = groups_of(panel, by)
    senders = [j for j, role in enumerate(panel.data.roles) if role in ("channel", "organic")]

    def ask(stores: Stores) -> dict[str, Floats]:
        current_check()()
        system = systems.system(stores, recent_input(panel, stores, tail, 4 * tail))
        inside, counted = map(torch.from_numpy, period.counted(days_of(panel, stores), tail))
        money = systems.scale(stores)[:, -1:] * worth(panel, stores, tail)
        weight = counted * torch.from_numpy(money)
        factors = (0.0, 1 + STEP) if marginal else (0.0,)
        found, *more = path_effects(system.to(torch.float32), senders, factors, inside, weight)
        values = {name: part.numpy() for name, part in vars(found).items()}
        if more:
            values["marginal"] = -more[0].total.numpy()
        return values

    sums, blocks = GroupSums(group, len(names)), systems.groups(tail)
    for stores, values in zip(blocks, in_order(ask, blocks, MOST_THREADS), strict=True):
        sums.add(stores, values)
    return names, sums.effects()


def paths_frame(systems: Systems, panel: Panel, period: Period, by: By) -> pd.DataFrame:
    """store, channel, path, mean, lower, upper; see ``CausalMMM.paths``."""
    names, found = period_effects(systems, panel, period, by, marginal=False)
    return paths_table(names, found, panel)


def roi_frame(systems: Systems, panel: Panel, period: Period, by: By) -> pd.DataFrame:
    """ROI and its relatives; see ``CausalMMM.roi``."""
    names, found = period_effects(systems, panel, period, by, marginal=True)
    _, group = groups_of(panel, by)
    return roi_table(names, found, panel, *spent(panel, period, group, len(names)))


def returns(systems: Systems, panel: Panel, period: Period) -> Returns:
    """See ``CausalMMM.returns``."""
    names, found = period_effects(systems, panel, period, "store", marginal=True)
    spend, exposure = spent(panel, period, np.arange(len(names)), len(names))
    return together(roi_table(names, found, panel, spend, exposure), found.summed(), panel, period)
