"""The response regression on many stores: CPU seconds, memory, and whether contributions are right.

    python -m bench.system.many_stores --out bench/results     # 1,000 stores of weekly-mmm

What stores share is fitted on a sample of them; everything else is asked of all stores.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from bench.lib.record import Row, record, table
from causalmmm import CausalMMM
from causalmmm.simulation import simulate

HIDDEN = 13
VALUES = ["cpu_fit", "cpu_contributions", "cpu_predict", "peak_mb"]
ERRORS = ["error_pooled", "error_apart", "cover_total"]


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    parser = argparse.ArgumentParser(description="The response regression on many stores.")
    parser.add_argument("--stores", type=int, nargs="+", default=[1000])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = [measured(stores, options.seed) for stores in options.stores]
    print(table(rows, ["stores"], VALUES + ERRORS))
    record(options.out, "many-stores", rows, vars(options))
    return rows


def measured(stores: int, seed: int) -> Row:
    """One row: fit on all weeks but the last 13, then every store's contributions and forecast."""
    panel, truth = simulate("weekly-mmm", seed=seed, stores=stores)
    train, _ = panel.split(HIDDEN)
    began = time.process_time()
    model = CausalMMM(regime="regression", seed=seed).fit(train, progress=False)
    fitted = time.process_time()
    sums = model.contributions().set_index(["store", "series"])
    parted = time.process_time()
    model.predict(train, HIDDEN)
    done = time.process_time()
    true = truth.contributions()[:, : len(train.data.grid)].sum(1)  # [S, C]
    cells = pd.MultiIndex.from_product([train.stores.tolist(), truth.channels])
    found, lower, upper = (
        sums.loc[cells, name].to_numpy(float).reshape(true.shape)
        for name in ("total", "total_lower", "total_upper")
    )
    return {
        "stores": stores,
        "weeks": len(train.data.grid),
        "seed": seed,
        "cpu_fit": fitted - began,
        "cpu_contributions": parted - fitted,
        "cpu_predict": done - parted,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "error_pooled": np.abs((found - true).sum(0)).sum() / true.sum(),
        "error_apart": np.median(np.abs(found / true - 1)),
        "cover_total": np.mean((lower <= true) & (true <= upper)),
    }


if __name__ == "__main__":
    main()
