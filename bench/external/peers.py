"""PCMCI+ and VARLiNGAM on the stores of one world, each alone.

    build/external/bin/python -m bench.external.peers WORLD.npz METHOD OUT.npz

Runs in build/external. Scores [S, N, N], higher where an edge is more likely, and CPU seconds.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.external.world import Array, read_world

LAGS = 3  # of the worlds' autoregressions: more than a user would know


def pcmci_plus(store: Array) -> Array:
    """One less the smallest p-value of sender to receiver, at lags 1 to 3, or within the step where
    the edge is not turned against it (partial correlation; level 0.05, as its authors' default is
    0.01)."""
    from tigramite.data_processing import DataFrame
    from tigramite.independence_tests.parcorr import ParCorr
    from tigramite.pcmci import PCMCI

    run = PCMCI(dataframe=DataFrame(store), cond_ind_test=ParCorr(), verbosity=0)
    found = run.run_pcmciplus(tau_min=0, tau_max=LAGS, pc_alpha=0.05)
    p_value, graph = found["p_matrix"].copy(), found["graph"]
    turned = np.isin(graph[..., 0], ["<--", ""])
    p_value[..., 0] = np.where(turned, 1.0, p_value[..., 0])
    return np.asarray(1.0 - p_value.min(-1))


def var_lingam(store: Array) -> Array:
    """Largest absolute coefficient over lags 0 to 3, of series in standard deviations."""
    import lingam

    model = lingam.VARLiNGAM(lags=LAGS, criterion=None, prune=True)
    model.fit((store - store.mean(0)) / np.maximum(store.std(0), 1e-9))
    return np.asarray(np.abs(np.stack(model.adjacency_matrices_)).max(0).T)


METHODS: dict[str, Callable[[Array], Array]] = {"PCMCI+": pcmci_plus, "VARLiNGAM": var_lingam}


def main() -> None:
    warnings.simplefilter("ignore")
    world, method, out = read_world(Path(sys.argv[1])), METHODS[sys.argv[2]], sys.argv[3]
    method(world.series[0, :40, :3])  # imports and compilation are not counted
    began = time.process_time()
    scores = [method(store) for store in world.series]
    seconds = (time.process_time() - began) / len(scores)
    np.savez(out, scores=np.stack(scores), seconds=seconds)


if __name__ == "__main__":
    main()
