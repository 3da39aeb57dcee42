"""This package on one task, through its public interface and with its defaults.

Weekly panels of few stores get the response regression. Contributions are totals: a channel is set
to zero and the mediators are predicted anew.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from bench.peers.task import LEVEL, Answer, Task, main
from causalmmm import CausalMMM, Panel

_PERCENT = round(100 * LEVEL)


def fit(task: Task) -> Answer:
    warnings.simplefilter("ignore")
    frame = task.frame
    hidden = np.tile(np.arange(task.weeks) >= task.train, len(task.stores))
    schema = {
        "store": task.store,
        "date": task.date,
        "target": task.target,
        "channels": task.channels,
        "mediators": task.mediators,
        "controls": [{"name": name, "future_known": True} for name in task.controls],
        "freq": "W-MON",
    }
    panel = Panel.from_frame(frame[~hidden].reset_index(drop=True), schema=schema)
    plan = frame.loc[hidden, [task.store, task.date, *task.channels, *task.controls]]
    model = CausalMMM(seed=task.seed).fit(panel, progress=False)
    future = model.predict(panel, horizon=task.holdout, plan=plan, level=(_PERCENT,))
    future = future[future["series"] == task.target].set_index(["store", task_date(future)])
    columns = ["mean", f"lower_{_PERCENT}", f"upper_{_PERCENT}"]
    values = future.sort_index()[columns].to_numpy(float)
    mean, lower, upper = np.moveaxis(values.reshape(len(task.stores), task.holdout, 3), 2, 0)
    sums = model.contributions(panel).set_index(["store", "series"])
    names = pd.MultiIndex.from_product([task.stores, task.channels])
    totals = sums.loc[names, ["total", "total_lower", "total_upper"]].to_numpy(float)
    totals = totals.reshape(len(task.stores), len(task.channels), 3)
    return Answer(mean, lower, upper, *np.moveaxis(totals, 2, 0))


def task_date(frame: pd.DataFrame) -> str:
    """Name of the column of dates in a table of answers."""
    return next(name for name in frame.columns if pd.api.types.is_datetime64_any_dtype(frame[name]))


if __name__ == "__main__":
    main(fit, ("causalmmm",))
