"""This package on the stores of one world, and what knows nothing of the store.

Scores [S, N, N]; those that are probabilities can be judged for calibration too.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from bench.experiments.baselines.trivial import receiver_variance
from bench.experiments.structure_methods import edge_array
from bench.external.dynotears import dynotears
from bench.external.world import Array, World
from causalmmm import CausalMMM, Panel
from causalmmm.data.schema import Schema
from causalmmm.engine.prior import shipped_prior
from causalmmm.model.pretrained import Reading, read_panel

EVIDENCE_PRIOR = 0.15  # share of edges, as in the other tables
STEPS = 300  # updates of the amortised model: a quarter of what it takes by default


@dataclass(frozen=True)
class Estimate:
    scores: Array
    seconds: float  # CPU, of one store
    probability: bool = True


def pretrained(world: World) -> Estimate:
    """The prior on each store alone, as ``causalmmm graph`` reads it."""
    began = time.process_time()
    parts = [_probability(_reading(world, slice(k, k + 1))) for k in range(len(world.series))]
    return Estimate(np.concatenate(parts), (time.process_time() - began) / len(parts))


def pretrained_panel(world: World) -> Estimate:
    """The prior on all stores as one panel."""
    began = time.process_time()
    reading = _reading(world, slice(None))
    return Estimate(_probability(reading), (time.process_time() - began) / len(world.series))


def evidence(world: World) -> Estimate:
    """The per-store evidence that the package falls back to, with the same prior for all pairs."""
    began = time.process_time()
    reading = _reading(world, slice(None))
    odds = float(np.log(EVIDENCE_PRIOR / (1 - EVIDENCE_PRIOR)))
    scores = torch.sigmoid(reading.evidence + odds).double().numpy()
    return Estimate(scores, (time.process_time() - began) / len(world.series))


def fitted(world: World) -> Estimate:
    """Daily panels: the amortised model, its graphs learned from these stores; weekly ones: the
    response regression, their default, with the prior in its edges."""
    panel, signed = _panel(world, slice(None))
    settings = {} if world.freq != "D" else {"structure": "learned", "steps": STEPS}
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = CausalMMM(signed=signed, **settings).fit(panel, progress=False)
        graphs = model.graphs(panel)
    seconds = (time.process_time() - began) / len(world.series)
    return Estimate(edge_array(graphs, list(panel.stores), panel.nodes), seconds)


def usual(world: World) -> Estimate:
    """How often such pairs have an edge in the laws of the prior, whatever the data."""
    share = _reading(world, slice(0, 1)).graphs.base.sigmoid().double().numpy()
    return Estimate(np.repeat(share[None], len(world.series), axis=0), 0.0)


def variance(world: World) -> Estimate:
    return Estimate(receiver_variance(world.series), 0.0, probability=False)


def acyclic(world: World) -> Estimate:
    began = time.process_time()
    scores = np.stack([dynotears(store) for store in world.series])
    return Estimate(scores, (time.process_time() - began) / len(scores), probability=False)


METHODS: dict[str, Callable[[World], Estimate]] = {
    "pretrained": pretrained,
    "pretrained, panel": pretrained_panel,
    "fitted": fitted,
    "evidence": evidence,
    "DYNOTEARS": acyclic,
    "usual frequency": usual,
    "receiver variance": variance,
}


def _reading(world: World, stores: slice) -> Reading:
    panel, signed = _panel(world, stores)
    return read_panel(panel, shipped_prior(), signed)


def _probability(reading: Reading) -> Array:
    return torch.sigmoid(reading.log_bf + reading.graphs.base).double().numpy()


def _panel(world: World, stores: slice) -> tuple[Panel, list[tuple[str, str]]]:
    """The panel, and pairs whose effect may be negative: all, where a law knows no marketing."""
    names = [f"x{k}" for k in range(len(world.roles))]
    of = {
        role: [n for n, r in zip(names, world.roles, strict=True) if r == role]
        for role in set(world.roles)
    }
    schema = Schema.model_validate(
        {
            "store": "store",
            "date": "date",
            "target": names[-1],
            "channels": of["channel"],
            "mediators": of.get("mediator", []),
            "freq": world.freq,
        }
    )
    panel = Panel.from_arrays(
        world.series[stores].astype(np.float32),
        schema=schema,
        first_date="2022-01-03",
        freq=world.freq,
    )
    marketing = world.freq != "D"
    signed = [] if marketing else [(name, names[-1]) for name in of["channel"]]
    return panel, signed
