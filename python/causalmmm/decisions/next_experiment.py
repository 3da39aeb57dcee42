"""``next_experiment``: which test would tell most about what a budget brings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from causalmmm.data.bounds import Bound
from causalmmm.data.panel import Panel
from causalmmm.data.records import ALL
from causalmmm.decisions.ahead import Ahead
from causalmmm.decisions.budgets import best_plan
from causalmmm.decisions.period import Systems
from causalmmm.engine.decisions import removed_variance

COLUMNS = ["store", "channel", "start", "end", "spend", "lift", "lift_sd", "lift_se", "gain_sd",
           "gain_sd_after", "removed"]  # fmt: skip
STEPS = {"D": 28, "W": 8, "M": 3}  # of a test


@torch.no_grad()
def ranked_tests(
    systems: Systems,
    panel: Panel,
    ahead: Ahead,
    *,
    budget: float | None,
    bounds: Sequence[Bound],
    steps: int,
    error: float | None,
) -> pd.DataFrame:
    """See ``CausalMMM.next_experiment``."""
    with torch.enable_grad():
        best = best_plan(systems, panel, ahead, budget, bounds)
    model = best.model
    current = torch.from_numpy(ahead.money).transpose(1, 2)  # [S, C, W]
    gain = model.drawn(best.found.money)
    spread = float(gain.std())
    noise = model.noise() * np.sqrt(2 * steps)  # of a difference of two periods
    names = [ALL, *panel.stores.tolist()] if panel.n_stores > 1 else panel.stores.tolist()
    frames = []
    for c, channel in enumerate(panel.schema.channels):
        for begin in range(0, current.shape[-1] - steps + 1, steps):
            window = slice(begin, begin + steps)
            lifts, money = model.lifts(current, c, window), current[:, c, window].sum(-1)
            errors = noise
            if panel.n_stores > 1:
                lifts = torch.cat([lifts.sum(1, keepdim=True), lifts], 1)
                money = torch.cat([money.sum().view(1), money])
                errors = torch.cat([noise.square().sum().sqrt().view(1), noise])
            mean = lifts.mean(0)
            if error is not None:
                errors = error * mean.abs()
            removed = removed_variance(gain, lifts, errors).clamp_max(spread**2)
            days = ahead.dates[:, [begin, begin + steps - 1]].astype("datetime64[ns]")
            if panel.n_stores > 1:  # as far as all stores are there
                days = np.concatenate([[[days[:, 0].max(), days[:, 1].min()]], days])
            frame = pd.DataFrame(
                {
                    "store": np.array(names, object),
                    "channel": channel,
                    "start": days[:, 0],
                    "end": days[:, 1],
                    "spend": money.numpy(),
                    "lift": mean.numpy(),
                    "lift_sd": lifts.std(0).numpy(),
                    "lift_se": errors.numpy(),
                    "gain_sd": spread,
                    "gain_sd_after": (spread**2 - removed).clamp_min(0).sqrt().numpy(),
                    "removed": (removed / spread**2).numpy() if spread > 0 else 0.0,
                }
            )
            frames.append(frame[money.numpy() > 0])
    table = pd.concat(frames, ignore_index=True)
    return table.sort_values("removed", ascending=False, kind="stable", ignore_index=True)
