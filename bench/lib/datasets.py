"""Panels with known truth by name, from the simulator's presets and from the scenarios."""

from __future__ import annotations

from typing import Any

from causalmmm.data.panel import Panel
from causalmmm.simulation import PRESETS, Truth, simulate


def draw_dataset(
    name: str, seed: int, stores: int | None = None, steps: int | None = None
) -> tuple[Panel, Truth | None, dict[str, Any]]:
    """Panel, truth (None where the law is not the simulator's) and what a user would declare."""
    if name in PRESETS:
        panel, truth = simulate(name, seed=seed, stores=stores, steps=steps)
        return panel, truth, {}
    from bench.lib.scenarios import draw

    dataset = draw(name, seed, stores, steps)
    return dataset.panel, dataset.truth, dataset.declared
