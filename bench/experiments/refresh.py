"""How far four more weeks of data move a model's effects: gone on from the earlier fit, or anew.

    python -m bench.experiments.refresh --out bench/results

Expected effects (probability of an edge times its long-run effect) of every store and pair; the
change is the sum of |new - old| over the sum of |old|, of each store, and its mean over stores.
``bits`` says whether a second run with the same seed gave the same weights.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from bench.lib.record import Row, record, table
from causalmmm import CausalMMM, Panel, simulate

WEEKS = 28  # days


def effects(model: CausalMMM, panel: Panel) -> np.ndarray:
    """Expected effects [S, E] of all pairs of series."""
    found = model.graphs(panel, threshold=0.0)
    expected = found["probability"] * found["effect"]
    return expected.to_numpy().reshape(panel.n_stores, -1)


def change(new: np.ndarray, old: np.ndarray) -> float:
    return float((np.abs(new - old).sum(1) / np.abs(old).sum(1)).mean())


def measure(stores: int, steps: int, seed: int) -> list[Row]:
    panel, _ = simulate("paper-small", stores=stores, steps=steps, seed=seed)
    before, _ = panel.split(WEEKS)
    earlier = CausalMMM(seed=seed, structure="learned").fit(before, progress=False)
    old = effects(earlier, before)
    rows: list[Row] = []
    for name, start in (("no training", None), ("from the earlier fit", earlier), ("anew", None)):
        began, model = time.process_time(), earlier
        if name != "no training":
            model = CausalMMM(seed=seed, structure="learned")
            model.fit(panel, progress=False, init_model=start)
        row: Row = {"stores": stores, "steps": steps, "seed": seed, "fit": name}
        row["change"] = change(effects(model, panel), old)
        row["cpu_seconds"] = time.process_time() - began
        if start is not None:
            again = CausalMMM(seed=seed, structure="learned")
            again.fit(panel, progress=False, init_model=start)
            weights = zip(
                model.model_.state_dict().values(), again.model_.state_dict().values(), strict=True
            )
            row["bits"] = all(torch.equal(mine, other) for mine, other in weights)
        rows.append(row)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--stores", type=int, default=60)
    parser.add_argument("--steps", type=int, default=392)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = [row for seed in options.seeds for row in measure(options.stores, options.steps, seed)]
    print(table(rows, ["stores", "steps", "seed", "fit"], ["change", "cpu_seconds"]))
    if options.out:
        record(options.out, "refresh", rows, vars(options))


if __name__ == "__main__":
    main()
