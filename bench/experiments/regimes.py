"""Both regimes on the same panels: graphs, effects on the target, price; and what ``auto`` sees.

    python -m bench.experiments.regimes --out bench/results
    python -m bench.experiments.regimes --quick        # one small panel, into runs/

Graphs are those of the stores that were fitted. Effects are long-run effects of a sender per step
while its edge is there, on all true edges into the target (and into all series: ``log_error_all``);
``log_error`` is the median size of their logarithm against the truth, ``cover`` how many 90 %
intervals hold it. The "regime" ``evidence`` is no fit: ``within`` is the evidence that effects
begin within the step, in nats (``causalmmm.model.alignment``).
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.experiments.effects import agreement, true_effects
from bench.experiments.structure_methods import edge_array
from bench.lib.metrics import edge_metrics, pair_calibration
from bench.lib.options import with_defaults
from bench.lib.record import Row, table
from bench.lib.result_log import ResultLog
from causalmmm import CausalMMM, Panel
from causalmmm.model.alignment import within_step
from causalmmm.model.level_jumps import panel_jumps
from causalmmm.model.regimes import chosen_regime
from causalmmm.simulation import PRESETS, SimulationConfig, Truth, simulate

Array = NDArray[np.float64]
_WEEKLY, _DAILY = PRESETS["weekly-mmm"], PRESETS["paper-small"]
LAWS: dict[str, SimulationConfig] = {
    "weekly": _WEEKLY,
    "weekly, a week later": _WEEKLY.changed(name="weekly-late", same_step=False),
    "daily": _DAILY,
    "daily, within the day": _DAILY.changed(name="daily-now", same_step=True),
    "daily, level shift": _DAILY.changed(name="daily-shift", level_shift=1.0, level_shift_at=0.6),
}
REGIMES = ("evidence", "regression", "amortised")
VALUES = [
    *("auroc", "auprc", "ece", "log_error", "median_ratio", "cover", "log_error_all"),
    *("cpu", "within", "jumps"),
]


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    options = _options(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    log = ResultLog(options.out, "regimes", vars(options))
    for name in options.law:
        for stores in options.stores:
            for seed in options.seeds:
                panel, truth = simulate(LAWS[name], seed=seed, stores=stores)
                for regime in options.regime:
                    key: Row = {"law": name, "stores": stores, "seed": seed, "regime": regime}
                    log.add(key, partial(measured, panel, truth, regime, seed, options.settings))
    print(table(log.rows, ["law", "stores", "regime"], VALUES))
    return log.rows


def measured(
    panel: Panel, truth: Truth, regime: str, seed: int, settings: dict[str, Any]
) -> list[Row]:
    """One row."""
    if regime == "evidence":
        auto, why = chosen_regime("auto", "auto", panel)
        jumps = int(panel_jumps(panel.data))
        return [{"within": within_step(panel), "jumps": jumps, "auto": auto, "because": why}]
    more = settings if regime == "amortised" else {}
    began = time.process_time()
    model = CausalMMM(regime=regime, seed=seed, **more).fit(panel, progress=False)
    frame = model.graphs(panel)
    cpu = time.process_time() - began
    pairs = ~np.eye(len(panel.nodes), dtype=bool)
    probability, *effects = (
        edge_array(frame, list(panel.stores), panel.nodes, value)
        for value in ("probability", "effect", "lower", "upper")
    )
    scores = edge_metrics(probability, truth.edges)
    calibration = pair_calibration(probability[:, pairs].ravel(), truth.edges[:, pairs].ravel())
    into = truth.edges & (np.arange(truth.edges.shape[-1]) == truth.edges.shape[-1] - 1)
    on_target, on_all = (
        agreement([part[which] for part in effects], true_effects(truth)[which])
        for which in (into, truth.edges)
    )
    return [
        {
            "auroc": scores["auroc"],
            "auprc": scores["auprc"],
            "ece": calibration["ece"],
            "log_error": on_target["log_error"],
            "median_ratio": on_target["median_ratio"],
            "cover": on_target["cover_90"],
            "log_error_all": on_all["log_error"],
            "cpu": cpu,
        }
    ]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--law", nargs="+", choices=list(LAWS), metavar="LAW")
    parser.add_argument("--stores", type=int, nargs="+", help="8 by default")
    parser.add_argument("--seeds", type=int, nargs="+", default=None, help="0 by default")
    parser.add_argument("--regime", nargs="+", default=list(REGIMES), choices=REGIMES)
    parser.add_argument("--quick", action="store_true", help="one small panel, into runs/")
    parser.add_argument("--again", action="store_true", help="measure what is there already too")
    parser.add_argument("--out", type=Path)
    usual = {"seeds": [0], "stores": [8], "law": list(LAWS)}
    quick = {"stores": [2], "law": ["weekly"]}
    options = with_defaults(parser.parse_args(arguments), usual, quick)
    options.settings = {"epochs": 2, "hidden": 8} if options.quick else {}
    return options


if __name__ == "__main__":
    main()
