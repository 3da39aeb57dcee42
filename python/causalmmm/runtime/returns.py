"""What spend brought, asked of an exported response regression: tables from its joint draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalmmm.decisions.period import By, groups_of
from causalmmm.decisions.tables import INTERVAL, GroupEffects, GroupSums
from causalmmm.inference import frames

if TYPE_CHECKING:
    from causalmmm.data.panel import Panel

# Outputs of the graph, as ``GroupEffects`` and the columns of ``contributions`` are named.
RETURNS = {
    "total": "outcome",
    "direct": "outcome_direct",
    "via": "outcome_via",
    "marginal": "outcome_marginal",
}
SUMS = {"direct": "direct_sum", "total": "total_sum"}
Answers = Sequence[tuple[NDArray[np.int64], dict[str, NDArray[Any]]]]


def effects_of(panel: Panel, answers: Answers, by: By) -> tuple[list[str], GroupEffects]:
    """Names of the groups, and the effects of their channels' spend."""
    names, group = groups_of(panel, by)
    sums = GroupSums(group, len(names))
    for stores, found in answers:
        sums.add(stores, {name: found[output] for name, output in RETURNS.items()})
    return names, sums.effects()


def contributions_table(panel: Panel, answers: Answers) -> pd.DataFrame:
    """See ``CausalMMM.contributions``."""
    parts = []
    for stores, found in answers:
        values: dict[str, NDArray[Any]] = {}
        for name, output in SUMS.items():
            lower, upper = np.quantile(found[output], INTERVAL, 0)
            values |= {name: found[output].mean(0), f"{name}_lower": lower, f"{name}_upper": upper}
        singles = {name: value.astype(np.float32) for name, value in values.items()}
        parts.append((stores, frames.sum_frame(panel, stores, singles)))
    return frames.joined(parts)
