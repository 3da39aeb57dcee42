"""Tests of trust on simulated panels: what a sound panel and a sound model score on each.

    python -m bench.experiments.trust --law weekly-mmm reactive --seeds 0 1 2 3 4
    python -m bench.experiments.trust --law weekly-mmm reactive --seeds 10 11 --tests future-spend
    python -m bench.experiments.trust --quick              # one small draw, into runs/

One row per measure of ``CausalMMM.trust``, with its threshold; the model is fitted on the whole
panel with its defaults. ``reactive`` is weekly-mmm with spend that follows the demand of its own
week, which no column shows: returns are then wrong by their own size (``calibration``), and a test
should say so. ``passed`` is the share of draws that keep the threshold; ``cpu`` the CPU
seconds of all tests together, fits included, without the first fit.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from bench.lib.options import with_defaults
from bench.lib.record import Row, table
from bench.lib.result_log import ResultLog
from causalmmm import CausalMMM
from causalmmm.simulation import simulate

LAWS: dict[str, dict[str, Any]] = {
    "weekly-mmm": {},
    "weekly-national": {},
    "weekly-foreign": {},
    "reactive": {"preset": "weekly-mmm", "demand_on_spend": 0.5, "demand_on_outcome": 0.15},
}
VALUES = ["value", "passed", "cpu"]


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    options = _options(arguments)
    torch.set_num_threads(1)
    name = "-".join(["trust", *(options.tests or ())])
    log = ResultLog(options.out, name, vars(options))
    for law in options.law:
        for seed in options.seeds:
            log.add({"law": law, "seed": seed}, partial(measured, law, seed, options))
    print(table(log.rows, ["law", "test", "measure"], VALUES))
    return log.rows


def measured(law: str, seed: int, options: argparse.Namespace) -> list[Row]:
    """Every measure of one draw."""
    size = {"stores": 2, "steps": 80, "channels": 2} if options.quick else {}
    panel, _ = simulate(**{"preset": law, "seed": seed, **LAWS[law], **size})
    model = CausalMMM(seed=0).fit(panel, progress=False)
    began = time.process_time()
    verdicts = model.trust(panel, options.tests, progress=False)
    cpu = time.process_time() - began
    rows: list[Row] = []
    for verdict in verdicts.drop(columns="meaning").to_dict("records"):
        known = {str(name): value for name, value in verdict.items() if not pd.isna(value)}
        if "passed" in known:
            known["passed"] = int(known["passed"])
        rows.append({**known, "cpu": cpu})
    return rows


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--law", nargs="+", default=["weekly-mmm"], choices=LAWS)
    parser.add_argument("--seeds", type=int, nargs="+", default=None, help="0 to 4 by default")
    parser.add_argument("--tests", nargs="+", help="only these tests; into a file of their own")
    parser.add_argument("--quick", action="store_true", help="small, into runs/ unless --out")
    parser.add_argument("--again", action="store_true", help="measure what is there already too")
    parser.add_argument("--out", type=Path)
    return with_defaults(parser.parse_args(arguments), {"seeds": [0, 1, 2, 3, 4]}, {"seeds": [0]})


if __name__ == "__main__":
    main()
