"""Whether a fit on many stores gains by starting from the pretrained prior: scores by updates.

    python -m bench.experiments.warm_start --stores 600 --epochs 12 24 48 --out bench/results

Prototype graphs of the amortised model start from a mixture fitted to what the prior reads in up to
300 of the stores, instead of the same prior for all; all else is alike. Graphs of stores that no
fit saw. ``updates`` are those of both fits; seconds are of one thread, those of reading included.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from bench.experiments.structure_methods import edge_array
from bench.lib.metrics import calibration, edge_metrics
from bench.lib.options import with_defaults
from bench.lib.record import Row, table
from bench.lib.result_log import ResultLog
from causalmmm import CausalMMM, Panel, simulate
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.prior import shipped_prior
from causalmmm.engine.training.loop import train
from causalmmm.engine.training.prototypes import fit_mixture
from causalmmm.model import fitting
from causalmmm.model.pretrained import read_panel

HELD_OUT = 100  # stores
READ = 300  # stores that the prior reads
BATCH = 125  # stores of an update on 8 series of 100 steps
QUICK = {"stores": 60, "epochs": [4], "seeds": [0]}


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--preset", default="paper-small")
    parser.add_argument("--stores", type=int, help="fitted on (600)")
    parser.add_argument("--epochs", type=int, nargs="+", help="of the fits (12 24 48)")
    parser.add_argument("--seeds", type=int, nargs="+", help="(0 1)")
    parser.add_argument("--again", action="store_true", help="measure rows again that are there")
    parser.add_argument("--quick", action="store_true", help="small, into runs/ unless --out")
    parser.add_argument("--out", type=Path)
    usual = {"stores": 600, "epochs": [12, 24, 48], "seeds": [0, 1]}
    options = with_defaults(parser.parse_args(arguments), usual, QUICK)
    torch.set_num_threads(1)
    log = ResultLog(options.out, "warm-start", vars(options))
    for seed in options.seeds:
        for epochs in options.epochs:
            key = {"preset": options.preset, "stores": options.stores, "seed": seed}
            key["updates"] = epochs * math.ceil(options.stores / BATCH)
            measure = partial(measured, options.preset, options.stores, seed, epochs)
            log.add(key, measure)
    print(table(log.rows, ["updates", "start"], ["auroc", "auprc", "ece", "cpu_seconds"]))
    return log.rows


def measured(preset: str, stores: int, seed: int, epochs: int) -> list[Row]:
    panel, truth = simulate(preset, stores=stores + HELD_OUT, seed=seed)
    names = [str(store) for store in panel.stores]
    fitted_on, held_out = panel.select(names[:stores]), panel.select(names[stores:])
    rows: list[Row] = []
    for start in ("usual", "prior"):
        began = time.process_time()
        read = what_the_prior_reads(fitted_on) if start == "prior" else None
        with (
            warnings.catch_warnings(),
            patch.object(fitting, "train", partial(train_from, read)),
        ):
            warnings.simplefilter("ignore")
            model = CausalMMM(seed=seed, structure="learned", epochs=epochs)
            model.fit(fitted_on, progress=False)
        seconds = time.process_time() - began
        found = edge_array(model.graphs(held_out), list(held_out.stores), held_out.nodes)
        metrics = {**edge_metrics(found, truth.edges[stores:])}
        metrics |= calibration(found, truth.edges[stores:])
        del metrics["stores"]  # those scored; the key has those fitted on
        rows.append({"start": start, **metrics, "cpu_seconds": seconds})
    return rows


def what_the_prior_reads(panel: Panel) -> Tensor:
    """Log Bayes factors [S, N, N] of up to ``READ`` stores."""
    every = math.ceil(panel.n_stores / READ)
    some = panel.select([str(store) for store in panel.stores[::every]])
    return read_panel(some, shipped_prior()).log_bf


@torch.no_grad()
def _begin(model: CausalModel, read: Tensor, seed: int) -> None:
    encoder = model.encoder
    prior = encoder.log_prior[..., 1].exp()
    mixture = fit_mixture(read, prior, len(encoder.prototypes), seed=seed)
    if mixture is not None:
        encoder.prototypes.copy_(mixture.rate.logit(1e-2))
        encoder.mixture.copy_(mixture.log_weight)


def train_from(read: Tensor | None, model: CausalModel, *args: Any, **kwargs: Any) -> Any:
    if read is not None:
        _begin(model, read, kwargs["seed"])
    return train(model, *args, **kwargs)


if __name__ == "__main__":
    main()
