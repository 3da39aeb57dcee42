"""Simulated panels with known truth: independent stores, reproducible from a seed.

Draws and their truth only; nothing here knows the model, and the model knows nothing of this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from causalmmm.engine.spec.series import SeriesData
from causalmmm.simulation.config import SimulationConfig
from causalmmm.simulation.draw import CHUNK, draw_chunk, draw_shared
from causalmmm.simulation.presets import PRESETS, resolve
from causalmmm.simulation.process import run
from causalmmm.simulation.truth import Truth, store_name

if TYPE_CHECKING:
    from causalmmm.data.panel import Panel

__all__ = ["PRESETS", "SimulationConfig", "Truth", "simulate", "simulate_series"]


def simulate(
    preset: str | SimulationConfig = "paper-small",
    *,
    seed: int = 0,
    stores: int | None = None,
    steps: int | None = None,
    **changes: Any,
) -> tuple[Panel, Truth]:
    """Draw a panel and its truth.

    ``preset`` is a name out of ``PRESETS`` or a ``SimulationConfig``; ``stores``, ``steps`` and any
    other field of the configuration replace the preset's. The same seed and law give the same
    archetypes and global parameters however many stores are asked for, and store k is the same
    store in a small and in a large draw of equal length. ValueError for a preset or field that does
    not exist.

    >>> panel, truth = simulate("weekly-mmm", seed=0, stores=2, steps=80)
    >>> panel.n_stores, truth.edges.shape[0]
    (2, 2)
    """
    # The loader brings pandas and pydantic; drawing arrays needs neither.
    from causalmmm.data.panel import Panel
    from causalmmm.data.schema import Schema

    data, truth = simulate_series(preset, seed=seed, stores=stores, steps=steps, **changes)
    config = truth.config
    schema = Schema.model_validate(
        {
            "store": "shop_id",
            "date": "ds",
            "target": truth.nodes[-1],
            "channels": truth.channels,
            "mediators": truth.nodes[config.channels : -1],
            "controls": [{"name": name, "future_known": True} for name in config.control_names],
            "context": [f"context{k}" for k in range(config.context)],
            "freq": config.freq,
        }
    )
    panel = Panel.from_arrays(
        data.values.reshape(config.stores, config.steps, config.n_nodes),
        schema=schema,
        first_date=config.start,
        freq=config.freq,
        stores=truth.stores,
        controls=data.controls if config.control_names else None,
        context=data.context,
    )
    return panel, truth


def simulate_series(
    preset: str | SimulationConfig = "paper-small",
    *,
    seed: int = 0,
    stores: int | None = None,
    steps: int | None = None,
    **changes: Any,
) -> tuple[SeriesData, Truth]:
    """As ``simulate``, as the engine's plain container instead of a Panel.

    >>> data, truth = simulate_series("paper-small", seed=0, stores=2, steps=60)
    >>> data.n_stores
    2
    """
    config = resolve(preset, stores=stores, steps=steps, **changes)
    shared = draw_shared(config, seed)
    s, t, n = config.stores, config.steps, config.n_nodes
    values = np.empty((s, t, n), dtype=np.float32)
    effects = np.empty((s, n, n), dtype=np.float32)
    archetype = np.empty(s, dtype=np.int64)
    slope, half_saturation, levels = (np.empty((s, n), dtype=np.float32) for _ in range(3))
    context = np.empty((s, config.context), dtype=np.float32)
    controls = np.empty((s, t, len(config.control_names)), dtype=np.float32)
    for chunk, first in enumerate(range(0, s, CHUNK)):
        rows = slice(first, min(first + CHUNK, s))
        drawn = draw_chunk(config, shared, seed, chunk, rows.stop - first)
        values[rows] = (run(drawn, noise=True) * drawn.levels).swapaxes(0, 1)
        effects[rows], archetype[rows] = drawn.effects, drawn.archetype
        slope[rows], half_saturation[rows] = drawn.slope, drawn.half_saturation
        levels[rows], context[rows] = drawn.levels, drawn.context
        controls[rows] = drawn.controls.swapaxes(0, 1)
    data = SeriesData(
        values=values.reshape(s * t, n),
        offsets=np.arange(s + 1, dtype=np.int64) * t,
        start=np.zeros(s, dtype=np.int64),
        grid=config.dates,
        freq=config.freq,
        roles=config.roles,
        controls=controls.reshape(s * t, -1),
        context=context,
    )
    truth = Truth(
        config=config,
        seed=seed,
        stores=np.array([store_name(k) for k in range(s)]),
        edges=effects > 0.0,
        effects=effects,
        archetype=archetype,
        decay=shared.decay.astype(np.float32),
        slope=slope,
        half_saturation=half_saturation,
        own_memory=shared.own_memory.astype(np.float32),
        levels=levels,
        context=context,
    )
    return data, truth
