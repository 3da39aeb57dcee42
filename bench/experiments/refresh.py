"""How far four more weeks of data move a model's effects, and what of that is not the weeks.

    python -m bench.experiments.refresh --seeds 0 1 2 --out bench/results

Expected effects (probability of an edge times its long-run effect) of every store and pair; the
change is the sum of |new - old| over the sum of |old|, of each store, and its mean over stores.
Fits on the earlier panel, gone on or anew under another seed, say how far training moves effects
without any new week. ``unseen_loss`` is the loss per store, in nats, of stores that no fit saw,
minus that of the earlier weights, and ``unseen_se`` its standard error: whether a move is noise.
``bits`` says whether a second run with the same seed gave the same weights.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from bench.lib.record import Row, table
from bench.lib.result_log import ResultLog
from causalmmm import CausalMMM, Panel, simulate
from causalmmm.engine.nn.posterior import effect_noise

WEEKS = 28  # days
UNSEEN = 100  # stores
DRAWS = 4  # windows of each unseen store, and graphs
OTHER_SEED = 100  # added to a seed


def effects(model: CausalMMM, panel: Panel) -> np.ndarray:
    """Expected effects [S, E] of all pairs of series."""
    found = model.graphs(panel, threshold=0.0)
    expected = found["probability"] * found["effect"]
    return expected.to_numpy().reshape(panel.n_stores, -1)


def change(new: np.ndarray, old: np.ndarray) -> float:
    return float((np.abs(new - old).sum(1) / np.abs(old).sum(1)).mean())


@torch.no_grad()
def losses(model: CausalMMM, panel: Panel) -> np.ndarray:
    """Negative ELBO [S] of every store, in nats, at the same windows and draws for every model."""
    network, config = model.model_.eval(), model.train_config()
    windows, rng = model._windows(panel.data), np.random.default_rng(0)
    drawn = []
    for seed in range(DRAWS):
        batch = windows.cross(np.arange(panel.n_stores), config.target_share, rng)
        noise, last = effect_noise(batch, seed), config.temperature[1]
        drawn.append(network(batch, temperature=last, seed=seed, noise=noise).per_store)
    return torch.stack(drawn).mean(0).numpy()


def same_bits(one: CausalMMM, other: CausalMMM) -> bool:
    pairs = zip(one.model_.state_dict().values(), other.model_.state_dict().values(), strict=True)
    return all(torch.equal(mine, theirs) for mine, theirs in pairs)


def measure(stores: int, steps: int, seed: int) -> list[Row]:
    drawn, _ = simulate("paper-small", stores=stores + UNSEEN, steps=steps, seed=seed)
    names = [str(store) for store in drawn.stores]
    panel, unseen = drawn.select(names[:stores]), drawn.select(names[stores:])
    before, _ = panel.split(WEEKS)

    def fit(data: Panel, start: CausalMMM | None, seed: int = seed) -> CausalMMM:
        model = CausalMMM(seed=seed, structure="learned")
        return model.fit(data, progress=False, init_model=start)

    earlier = fit(before, None)
    old, old_losses = effects(earlier, before), losses(earlier, unseen)
    other = seed + OTHER_SEED
    runs = {
        "no training": (lambda: earlier, panel),
        "from the earlier fit": (lambda: fit(panel, earlier), panel),
        "from the earlier fit, no new weeks": (lambda: fit(before, earlier), before),
        "from the earlier fit, other seed, no new weeks": (
            lambda: fit(before, earlier, other),
            before,
        ),
        "anew": (lambda: fit(panel, None), panel),
        "anew, other seed, no new weeks": (lambda: fit(before, None, other), before),
    }
    rows: list[Row] = []
    for name, (run, data) in runs.items():
        began = time.process_time()
        model = run()
        row: Row = {"fit": name}
        row["change"] = change(effects(model, data), old)
        row["cpu_seconds"] = time.process_time() - began
        gain = losses(model, unseen) - old_losses
        row["unseen_loss"] = float(gain.mean())
        row["unseen_se"] = float(gain.std(ddof=1) / len(gain) ** 0.5)
        if name == "from the earlier fit":
            row["bits"] = same_bits(model, fit(panel, earlier))
        rows.append(row)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--stores", type=int, default=60)
    parser.add_argument("--steps", type=int, default=392)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--again", action="store_true", help="measure rows again that are there")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    log = ResultLog(options.out, "refresh", vars(options))
    for seed in options.seeds:
        key: Row = {"stores": options.stores, "steps": options.steps, "seed": seed}
        log.add(key, partial(measure, **key))
    print(table(log.rows, ["fit"], ["change", "unseen_loss", "unseen_se", "cpu_seconds"]))


if __name__ == "__main__":
    main()
