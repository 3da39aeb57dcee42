"""One experiment where spend reacts to demand: what it does to the ROI of its channel.

    python -m bench.experiments.calibration --seeds 0 1 2 3 4
    python -m bench.experiments.calibration --quick        # one draw, into runs/

Panels of the weekly law whose spend follows the demand of its own week, which no column shows. Each
of the three channels that bring most is tested by one experiment over eight weeks in all stores, in
each of four places of the history where it does not pause: the true lift with normal noise of a
tenth of it. error and cover are of the channel's ROI in all stores over the whole history, before
and after one of these experiments; others of the channels that were not tested.

    python -m bench.experiments.calibration --drift --seeds 10 11 12 13 14

asks instead how far the factor between truth and model differs between five windows of eight weeks
and the whole history, channels with 2 % of the effects or more: drift is the root mean square of
its logarithm's difference, factor that of the logarithm itself.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from bench.lib.options import with_defaults
from bench.lib.record import Row, table
from bench.lib.result_log import ResultLog
from causalmmm import CausalMMM, Panel
from causalmmm.simulation import Truth, simulate

STEPS, TAIL = 156, 13
TESTED, WINDOWS, WEEKS = 3, 4, 8
NOISE = 0.1
VALUES = [
    *("error_before", "error_after", "others_before", "others_after"),
    *("cover_before", "cover_after", "conflict"),
]


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    options = _options(arguments)
    torch.set_num_threads(1)
    name = "calibration-drift" if options.drift else "calibration"
    log = ResultLog(options.out, name, vars(options))
    for seed in options.seeds:
        measure = partial(drifted if options.drift else measured, seed)
        log.add({"law": "weekly-mmm, reactive", "seed": seed}, measure)
    print(table(log.rows, ["law"], ["windows", "drift", "factor"] if options.drift else VALUES))
    return log.rows


def measured(seed: int) -> list[Row]:
    """Rows of one experiment each."""
    panel = Reactive(seed)
    before = panel.model.roi(by="total")
    rng = np.random.default_rng(seed)
    begins = [STEPS * (window + 1) // (WINDOWS + 1) for window in range(WINDOWS)]
    rows = []
    for c in np.argsort(panel.brought)[::-1][:TESTED].tolist():
        for begin in begins:
            lift = panel.lost(c, begin, begin + WEEKS)
            if lift < 0.2 * panel.brought[c] * WEEKS / STEPS:
                continue  # it paused
            found = lift * (1 + NOISE * rng.standard_normal())
            told = {"store": "ALL", "channel": f"x{c}", **panel.window(begin), "lift": found}
            told["lift_se"] = NOISE * lift
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                answer = panel.model.calibrate(pd.DataFrame([told]))
            row: Row = {"channel": f"x{c}", "begin": begin}
            row["conflict"] = abs(float(answer["conflict"][0]))
            for name, frame in (("before", before), ("after", panel.model.roi(by="total"))):
                row |= {f"{key}_{name}": value for key, value in panel.judged(c, frame).items()}
            rows.append(row)
    return rows


def drifted(seed: int) -> list[Row]:
    """How far windows' factors are from the history's."""
    panel = Reactive(seed)
    whole = panel.model.roi(by="total")["outcome"].to_numpy(float)
    drift, factor = [], []
    for begin in (20, 50, 78, 110, 140):
        found = panel.model.roi(by="total", **panel.window(begin))["outcome"].to_numpy(float)
        for c in panel.heavy:
            lift = panel.lost(c, begin, begin + WEEKS)
            if lift > 0:
                factor.append(np.log(lift / found[c]))
                drift.append(np.log(panel.brought[c] / whole[c]) - factor[-1])
    rms = {
        k: float(np.sqrt(np.mean(np.square(v)))) for k, v in (("drift", drift), ("factor", factor))
    }
    return [{"windows": len(drift), **rms}]


class Reactive:
    """A fitted panel whose spend follows demand, and what its spend really brought."""

    def __init__(self, seed: int) -> None:
        changes = {"demand_on_spend": 0.5, "demand_on_outcome": 0.15}
        panel, self.truth = simulate("weekly-mmm", seed=seed, steps=STEPS + TAIL, **changes)
        self.train, _ = panel.split(TAIL)
        self.model = CausalMMM(seed=0).fit(self.train, progress=False)
        self.spend = panel.spend.reshape(panel.n_stores, STEPS + TAIL, -1).astype(float)
        self.base = _target(self.truth, self.train, self.spend)
        self.channels = self.spend.shape[2]
        self.brought = np.array([self.lost(c, 0, STEPS) for c in range(self.channels)])
        self.roi = self.brought / self.spend[:, :STEPS].sum((0, 1))
        self.heavy = np.flatnonzero(self.brought > 0.02 * self.brought.sum()).tolist()

    def lost(self, c: int, begin: int, end: int) -> float:
        """What the channel's spend of these weeks brought, in all stores."""
        without = self.spend.copy()
        without[:, begin:end, c] = 0
        change = self.base - _target(self.truth, self.train, without)
        return float(change[:, begin : end + TAIL].sum())

    def window(self, begin: int) -> dict[str, str]:
        """First and last day of the weeks from this step on."""
        days = self.train.dates(self.train.stores[0])
        return {"start": str(days[begin]), "end": str(days[begin + WEEKS - 1])}

    def judged(self, c: int, frame: pd.DataFrame) -> Row:
        """ROI of the tested channel and of the others against the truth."""
        others = [other for other in self.heavy if other != c]
        error = np.abs(frame["roi"].to_numpy(float)[: self.channels] / self.roi - 1)
        lower, upper = (frame[f"roi_{end}"].to_numpy(float)[c] for end in ("lower", "upper"))
        inside = float(lower <= self.roi[c] <= upper)
        return {
            "error": float(error[c]),
            "others": float(np.median(error[others])),
            "cover": inside,
        }


def _target(truth: Truth, train: Panel, spend: NDArray[np.float64]) -> NDArray[np.float64]:
    """[S, T]: the target under this spend [S, T, C], demand and noise as drawn."""
    return np.asarray(truth.history_under(spend, train.stores.tolist())[..., -1], float)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=None, help="0 to 4 by default")
    parser.add_argument("--drift", action="store_true", help="of windows against the history")
    parser.add_argument("--quick", action="store_true", help="one draw, into runs/ unless --out")
    parser.add_argument("--again", action="store_true", help="measure what is there already too")
    parser.add_argument("--out", type=Path)
    return with_defaults(parser.parse_args(arguments), {"seeds": [0, 1, 2, 3, 4]}, {"seeds": [0]})


if __name__ == "__main__":
    main()
