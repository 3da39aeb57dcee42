"""A plan of spend beside going on as usual: money by channel, and what the plan adds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from causalmmm.decisions.period import EVERYTHING, usual_money

if TYPE_CHECKING:
    from causalmmm.data.panel import Panel
    from causalmmm.model.estimator import CausalMMM


def plan_beside_usual(
    model: CausalMMM, panel: Panel, plan: pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, float]] | None:
    """channel, current, spend, change of a plan, where ``current`` is each store's mean of the last
    year; and what the plan adds to the outcome over that (mean, lower, upper).

    None where the plan has no money: a channel without a column of spend.
    """
    usual = _usual_plan(panel, plan)
    if usual is None:
        return None
    spend = {name: str(c.spend) for name, c in panel.schema.channels.items()}
    rows = [
        (name, float(usual[column].sum()), float(plan[column].sum()))
        for name, column in spend.items()
    ]
    rows.append((EVERYTHING, sum(r[1] for r in rows), sum(r[2] for r in rows)))
    table = pd.DataFrame(rows, columns=["channel", "current", "spend"])
    with np.errstate(divide="ignore", invalid="ignore"):
        change = table["spend"] / table["current"].where(table["current"] > 0) - 1
    beside = model.compare({"as usual": usual, "plan": plan}, panel).iloc[1]
    gain = {"mean": "outcome_change", "lower": "lower", "upper": "upper"}
    return table.assign(change=change), {k: float(beside[name]) for k, name in gain.items()}


def _usual_plan(panel: Panel, plan: pd.DataFrame) -> pd.DataFrame | None:
    """The plan's dates with every channel at its store's mean of the last year."""
    schema = panel.schema
    columns = [c.spend for c in schema.channels.values()]
    if any(column is None or column not in plan for column in columns):
        return None
    keys = [key for key in (schema.store, schema.date) if key is not None]
    means = pd.DataFrame(usual_money(panel), index=panel.stores, columns=columns)
    usual = plan[keys].copy()
    store = (
        pd.Series(panel.stores[0], index=usual.index)
        if schema.store is None
        else usual[schema.store].astype(str)
    )
    for column in means:
        usual[column] = store.map(means[column])
    return usual
