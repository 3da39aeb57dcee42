"""A plan of spend beside going on as last year: money by channel, and what the plan adds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from causalmmm.decisions.ahead import input_per_money
from causalmmm.decisions.budgets import doubtful_gain
from causalmmm.decisions.period import EVERYTHING, last_year_money
from causalmmm.findings import Finding

if TYPE_CHECKING:
    from causalmmm.data.panel import Panel
    from causalmmm.model.estimator import CausalMMM


def plan_beside_last_year(
    model: CausalMMM, panel: Panel, plan: pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, float], list[Finding]] | None:
    """channel, current, spend, change of a plan, where ``current`` is each store's mean of the last
    year; and what the plan adds to the outcome over that (mean, lower, upper, and ``better``, the
    probability that it adds anything), with a warning where that is doubtful.

    None where the plan has no money: a channel without a column of spend.
    """
    before = _last_year(panel, plan)
    if before is None:
        return None
    spend = {name: str(c.spend) for name, c in panel.schema.channels.items()}
    rows = [
        (name, float(before[column].sum()), float(plan[column].sum()))
        for name, column in spend.items()
    ]
    rows.append((EVERYTHING, sum(r[1] for r in rows), sum(r[2] for r in rows)))
    table = pd.DataFrame(rows, columns=["channel", "current", "spend"])
    with np.errstate(divide="ignore", invalid="ignore"):
        change = table["spend"] / table["current"].where(table["current"] > 0) - 1
    beside = model.compare({"last year": before, "plan": plan}, panel).iloc[1]
    gain = {"mean": "outcome_change", "lower": "lower", "upper": "upper", "better": "better"}
    told = {k: float(beside[name]) for k, name in gain.items()}
    cells = [frame[list(spend.values())].to_numpy(float) for frame in (before, plan)]
    return table.assign(change=change), told, doubtful_gain(cells[0], cells[1], told["better"])


def _last_year(panel: Panel, plan: pd.DataFrame) -> pd.DataFrame | None:
    """The plan's dates with every channel at its store's mean of the last year."""
    schema = panel.schema
    columns = [c.spend for c in schema.channels.values()]
    if any(column is None or column not in plan for column in columns):
        return None
    keys = [key for key in (schema.store, schema.date) if key is not None]
    means = pd.DataFrame(last_year_money(panel), index=panel.stores, columns=columns)
    before, store = plan[keys].copy(), _stores(panel, plan)
    for column in means:
        before[column] = store.map(means[column])
    return before


def planned_amounts(panel: Panel, plan: pd.DataFrame) -> dict[str, float]:
    """Amount per step of every channel that the plan has money for, while it runs, summed over
    stores: as ``usual_amounts``, of a plan."""
    spend = {n: str(c.spend) for n, c in panel.schema.channels.items() if c.spend in plan}
    money = plan[list(spend.values())]
    money = money.where(money != 0).groupby(_stores(panel, plan)).mean().fillna(0.0)
    rate = pd.DataFrame(input_per_money(panel), panel.stores, list(panel.schema.channels))
    return {name: float((money[column] * rate[name]).sum()) for name, column in spend.items()}


def _stores(panel: Panel, plan: pd.DataFrame) -> pd.Series:
    """Store of every row of a plan."""
    column = panel.schema.store
    if column is None:
        return pd.Series(panel.stores[0], index=plan.index)
    return plan[column].astype(str)
