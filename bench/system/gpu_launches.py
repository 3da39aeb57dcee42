"""How many kernels a training update launches on a GPU, counted where there is none.

    python -m bench.system.gpu_launches --out bench/results

An update on CPU tensors with Triton's kernels in place of the compiled operators: what they launch
is counted, not run. Counted with it are torch's operators that compute something, inside of the
operators of this project as well; views and fresh memory are free. The response operator, whose
CUDA kernel needs a build with it, counts once forward and once backward.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from triton.runtime import interpreter

from bench.lib.record import Row, record, table
from bench.system.training import OPTIONS, Launches, setting
from causalmmm.engine.spec.config import TrainConfig
from causalmmm.engine.training.cuda_graphs import Updates
from causalmmm.engine.training.schedule import parameter_groups
from causalmmm.kernels.registration import FUNCTIONS

_BY_EXTENSION = ("causalmmm::adstock_hill", "causalmmm::adstock_hill_backward")


class NestedLaunches(Launches):
    """Counts what the operators of this project call, in place of themselves."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        name = function._schema.name
        if name not in FUNCTIONS:
            return super().__torch_dispatch__(function, types, args, kwargs)
        if name in _BY_EXTENSION:
            self.counts[name] += 1
        with self:
            return FUNCTIONS[name](*args, **(kwargs or {}))


def launches(nodes: int, steps: int, hidden: int, mixed: bool) -> Counter[str]:
    """Kernels of an update by name; ``mixed``: the edge passes in bfloat16, as by default."""
    model, windows, stores = setting(nodes, steps, hidden)
    config = TrainConfig()
    batch = windows.cross(np.arange(stores), config.target_share, np.random.default_rng(0))
    update = Updates(
        model, parameter_groups(model, config), config, stores=stores, device=torch.device("cpu")
    )
    kernels: Counter[str] = Counter()

    def count(kernel: Any, *args: Any, **kwargs: Any) -> None:
        kernels[kernel.__name__] += 1

    with (  # read when Triton's kernels are defined, at their first call, and at every call
        mock.patch.dict(os.environ, {"TRITON_INTERPRET": "1"}),
        mock.patch.object(interpreter.InterpretedFunction, "run", count),
        model.mixed_precision(mixed),
    ):
        update(batch, **OPTIONS)  # the optimiser's state is there afterwards
        kernels.clear()
        with NestedLaunches() as counted:
            update(batch, **OPTIONS)
    return kernels + counted.counts


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shapes", nargs="+", default=["8x100x32", "16x128x64"])
    parser.add_argument("--each", action="store_true", help="a line for every kernel")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    rows: list[Row] = []
    for shape, mixed in product(options.shapes, (False, True)):
        counts = launches(*map(int, shape.split("x")), mixed)
        case: Row = {"shape": shape, "edge_passes": "bfloat16" if mixed else "float32"}
        if options.each:
            rows += [case | {"kernel": k, "launches": n} for k, n in counts.most_common()]
        rows.append(case | {"kernel": "all", "launches": counts.total()})
    print(table(rows, ["shape", "edge_passes", "kernel"], ["launches"]))
    if options.out:
        record(options.out, "gpu-launches", rows, vars(options))


if __name__ == "__main__":
    main()
