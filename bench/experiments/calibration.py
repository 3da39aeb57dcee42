"""One experiment where spend reacts to demand: what it does to the ROI of its channel.

    python -m bench.experiments.calibration --seeds 0 1 2 3 4
    python -m bench.experiments.calibration --quick        # one draw, into runs/

Panels of the weekly law whose spend follows the demand of its own week, which no column shows. Each
of the three channels that bring most is tested by one experiment over eight weeks in all stores, in
each of four places of the history where it does not pause: the true lift with normal noise of a
tenth of it. error and cover are of the channel's ROI in all stores over the whole history, before
and after one of these experiments; others of the channels that were not tested.
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

TESTED, WINDOWS, WEEKS, TAIL = 3, 4, 8, 13
NOISE = 0.1
VALUES = [
    *("error_before", "error_after", "others_before", "others_after"),
    *("cover_before", "cover_after", "conflict"),
]


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    options = _options(arguments)
    torch.set_num_threads(1)
    log = ResultLog(options.out, "calibration", vars(options))
    for seed in options.seeds:
        log.add({"law": "weekly-mmm, reactive", "seed": seed}, partial(measured, seed))
    print(table(log.rows, ["law"], VALUES))
    return log.rows


def measured(seed: int) -> list[Row]:
    steps = 156
    panel, truth = simulate(
        "weekly-mmm",
        seed=seed,
        steps=steps + TAIL,
        demand_on_spend=0.5,
        demand_on_outcome=0.15,
    )
    train, _ = panel.split(TAIL)
    model = CausalMMM(seed=0).fit(train, progress=False)
    spend = panel.spend.reshape(panel.n_stores, steps + TAIL, -1).astype(float)
    base = _target(truth, train, spend)
    channels = spend.shape[2]

    def lost(c: int, begin: int, end: int) -> float:
        """What the channel's spend of these weeks brought, in all stores."""
        without = spend.copy()
        without[:, begin:end, c] = 0
        change = base - _target(truth, train, without)
        return float(change[:, begin : end + TAIL].sum())

    brought = np.array([lost(c, 0, steps) for c in range(channels)])
    true = brought / spend[:, :steps].sum((0, 1))
    before = model.roi(by="total")
    largest = np.argsort(brought)[::-1][:TESTED]
    days = train.dates(train.stores[0])
    rng = np.random.default_rng(seed)
    begins = [steps * (window + 1) // (WINDOWS + 1) for window in range(WINDOWS)]
    rows = []
    for c in largest.tolist():
        others = np.setdiff1d(np.flatnonzero(brought > 0.02 * brought.sum()), [c])
        for begin in begins:
            lift = lost(c, begin, begin + WEEKS)
            if lift < 0.2 * brought[c] * WEEKS / steps:
                continue  # it paused
            window = {"start": days[begin], "end": days[begin + WEEKS - 1]}
            found = lift * (1 + NOISE * rng.standard_normal())
            told = {"store": "ALL", "channel": f"x{c}", **window, "lift": found}
            told["lift_se"] = NOISE * lift
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                answer = model.calibrate(pd.DataFrame([told]))
            after = model.roi(by="total")
            row: Row = {"channel": f"x{c}", "begin": begin}
            row["conflict"] = abs(float(answer["conflict"][0]))
            for name, frame in (("before", before), ("after", after)):
                error = np.abs(frame["roi"].to_numpy(float)[:channels] / true - 1)
                lower, upper = (
                    frame[f"roi_{end}"].to_numpy(float)[c] for end in ("lower", "upper")
                )
                row[f"error_{name}"] = float(error[c])
                row[f"others_{name}"] = float(np.median(error[others]))
                row[f"cover_{name}"] = float(lower <= true[c] <= upper)
            rows.append(row)
    return rows


def _target(truth: Truth, train: Panel, spend: NDArray[np.float64]) -> NDArray[np.float64]:
    """[S, T]: the target under this spend [S, T, C], demand and noise as drawn."""
    return np.asarray(truth.history_under(spend, train.stores.tolist())[..., -1], float)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=None, help="0 to 4 by default")
    parser.add_argument("--quick", action="store_true", help="one draw, into runs/ unless --out")
    parser.add_argument("--again", action="store_true", help="measure what is there already too")
    parser.add_argument("--out", type=Path)
    return with_defaults(parser.parse_args(arguments), {"seeds": [0, 1, 2, 3, 4]}, {"seeds": [0]})


if __name__ == "__main__":
    main()
