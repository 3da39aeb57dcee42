"""Epochs of the whole model on a CPU: with the edge operators, and with plain PyTorch instead.

    python -m bench.kernels.edge_epoch --out bench/results

The simulation's marketplace preset (16 series), the batches that training chooses. Formulations
take turns; of each round the fastest epoch counts, and the table shows the median of the rounds.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

import causalmmm.engine.nn.encoder as encoder
from bench.lib.record import Row, record, table
from causalmmm import CausalMMM, simulate
from causalmmm.kernels import EdgeMean, EdgeSample, edge_mean, edge_sample
from causalmmm.kernels.edge import reference
from causalmmm.kernels.edge.records import Draw, FirstPass, SecondPass


def plain_mean(
    *tensors: Tensor, features: Tensor | None, wf: Tensor | None, keep_states: bool
) -> EdgeMean:
    states = reference.edge_states(FirstPass(*tensors, features, wf))
    return EdgeMean(reference.mean_of_others(states), states if keep_states else None)


def plain_sample(*tensors: Tensor, **options: Any) -> EdgeSample:
    *rest, log_prior = tensors
    first, second = FirstPass(*rest[:4], options["features"], options["wf"]), SecondPass(*rest[4:])
    tau = torch.as_tensor(options["temperature"], dtype=torch.float32)
    seed, store = options["seed"], options["store"]
    seed = None if seed is None else torch.as_tensor(seed)
    store = torch.arange(len(first.sender1)) if store is None else store
    draw = Draw(log_prior, tau, seed, store, hard=False)
    return EdgeSample(*reference.edge_sample(first, second, draw, options["states"]))


FORMULATIONS = {
    "operators": (edge_mean, edge_sample),
    "factorised, LayerNorm": (plain_mean, plain_sample),
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stores", type=int, default=300)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    panel, _ = simulate("marketplace", stores=options.stores, steps=options.steps, seed=0)
    rates: dict[str, list[float]] = {name: [] for name in FORMULATIONS}
    for _ in range(options.rounds):
        for name, operators in FORMULATIONS.items():
            encoder.edge_mean, encoder.edge_sample = operators
            model = CausalMMM(hidden=options.width, epochs=3, patience=4, seed=0, device="cpu").fit(
                panel, progress=False
            )
            rates[name].append(float(model.history_["stores_per_second"].iloc[1:].max()))
    ours = median(rates["operators"])
    rows: list[Row] = [
        {
            "formulation": name,
            "stores": options.stores,
            "nodes": len(panel.nodes),
            "width": options.width,
            "stores_per_second": median(values),
            "times_as_long": ours / median(values),
        }
        for name, values in rates.items()
    ]
    print(table(rows, ["formulation"], ["stores_per_second", "times_as_long"]))
    if options.out:
        record(options.out, "edge_epoch", rows, vars(options))


if __name__ == "__main__":
    main()
