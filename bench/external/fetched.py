"""Draws of laws that others wrote as software: CausalCompass and graphsimulacrum.

    build/external/bin/python -m bench.external.fetched OUT_FOLDER

Runs in build/external; ``bench.external.run`` starts it where draws are missing.
"""

from __future__ import annotations

import importlib
import sys
import types
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np

from bench.external.agents import WORLDS as AGENTS
from bench.external.agents import agents
from bench.external.world import World, foreign

STORES, NODES, STEPS = 4, 10, 500
# World: module and function of causalcompass.datasets; their defaults otherwise.
COMPASS = {
    "VAR": ("vanilla", "simulate_var"),
    "VAR, confounded": ("confounder", "simulate_var_with_confounders"),
    "VAR, measurement error": ("measurement_error", "simulate_var_with_measure_error"),
    "VAR, missing": ("missing", "generate_missing_var"),
    "VAR, changing noise": ("nonstationary", "simulate_nonstationary_var"),
    "VAR, trend and season": ("trendseason", "simulate_var_with_trend_season"),
    "Lorenz-96": ("vanilla", "simulate_lorenz_96"),
    "Lorenz-96, measurement error": ("measurement_error", "simulate_lorenz_with_measure_error"),
}
NAMES = [*COMPASS, *AGENTS]


def main() -> None:
    folder = Path(sys.argv[1])
    for name in NAMES:
        if not (folder / f"{name}.npz").exists():
            world = compass(name) if name in COMPASS else agents(name, STORES)
            world.save(folder)


def compass(name: str) -> World:
    """Stores of CausalCompass, one seed each."""
    module, function = COMPASS[name]
    draw = getattr(_datasets(module), function)
    series, edges = [], []
    for seed in range(STORES):
        parts: tuple[Any, ...] = draw(NODES, STEPS, seed=seed)
        series.append(np.asarray(parts[0], float).reshape(STEPS, NODES))
        graph = next(p for p in parts if np.shape(p) == (NODES, NODES) and np.isin(p, (0, 1)).all())
        edges.append(graph.T.astype(bool))  # theirs is receiver by sender
    return foreign(name, "CausalCompass", np.stack(series), np.stack(edges))


def _datasets(module: str) -> types.ModuleType:
    """A module of causalcompass.datasets, without the packages around it: importing those takes
    torch, JAX and eleven algorithms."""
    home = Path(str(distribution("causalcompass").locate_file("causalcompass")))
    for name, folder in (("causalcompass", home), ("causalcompass.datasets", home / "datasets")):
        if name not in sys.modules:
            package = types.ModuleType(name)
            package.__path__ = [str(folder)]
            sys.modules[name] = package
    return importlib.import_module(f"causalcompass.datasets.{module}")


if __name__ == "__main__":
    main()
