"""Experiments beside the model's own answer for the same stores, channel and dates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from causalmmm.findings import closest, refusal

if TYPE_CHECKING:
    from causalmmm.data.panel import Panel
    from causalmmm.model.estimator import CausalMMM

COLUMNS = ("store", "channel", "start", "end", "lift", "lift_se")
_NINETY = 1.645  # standard errors of a central 90 % interval


def compared_with_experiments(
    model: CausalMMM, panel: Panel, experiments: pd.DataFrame
) -> pd.DataFrame:
    """What each experiment measured, and what the model says the spend of its window brought.

    Adds measured_lower, measured_upper (90 %), model, model_lower, model_upper and agrees (the two
    intervals overlap). ``RefusedInput`` where columns are missing or names are unknown.
    """
    missing = [name for name in COLUMNS if name not in experiments]
    if missing:
        raise refusal(
            "experiment-columns",
            f"The table of experiments has no column {missing[0]!r}.",
            f"Its columns are {', '.join(COLUMNS)}.",
            column=missing[0],
        )
    rows = [_compared(model, panel, row) for row in experiments.to_dict("records")]
    return pd.DataFrame(rows)


def _compared(model: CausalMMM, panel: Panel, row: dict[Any, Any]) -> dict[str, Any]:
    channel = str(row["channel"])
    if channel not in panel.schema.channels:
        hint = closest(channel, panel.schema.channels)
        text = f"An experiment names channel '{channel}', which the panel does not have."
        raise refusal("unknown-channel", text, hint or "Correct its name.", column=channel)
    asked = panel if str(row["store"]) == "ALL" else panel.select([str(row["store"])])
    start, end = (str(pd.Timestamp(row[name]).date()) for name in ("start", "end"))
    paths = model.paths(asked, start=start, end=end, by="total")
    answer = paths[(paths["channel"] == channel) & (paths["path"] == "total")].iloc[0]
    lift, width = float(row["lift"]), _NINETY * float(row["lift_se"])
    measured = (lift - width, lift + width)
    return {
        **{name: row[name] for name in COLUMNS},
        "measured_lower": measured[0],
        "measured_upper": measured[1],
        "model": float(answer["mean"]),
        "model_lower": float(answer["lower"]),
        "model_upper": float(answer["upper"]),
        "agrees": bool(answer["lower"] <= measured[1] and measured[0] <= answer["upper"]),
    }
