"""Which series drives which, and how much: graphs and typical effects by the roles of a pair.

Random graphs only; spend, controls and levels are drawn in ``draw``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from causalmmm.simulation.config import SimulationConfig
from causalmmm.simulation.process import Array


def typical_effect(config: SimulationConfig) -> Array:
    """[N, N], by kind of sender and receiver, before a pair's and a store's own deviation."""
    c, n = config.channels, config.n_nodes
    effect = np.zeros((n, n))
    effect[:c, :c] = config.effect_on_channel
    effect[:c, c : n - 1] = config.effect_on_mediator
    effect[:c, n - 1] = config.effect_on_target
    effect[c : n - 1, c:] = config.effect_of_mediator
    effect[n - 1, :c] = config.effect_of_target
    return effect


def archetypes(config: SimulationConfig, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Archetypes [A, N, N]. Within each three in a row, edges avoid one another as far as their
    probability allows (one uniform number per pair, shifted by thirds), so that how common an edge
    is says less about a store than independent draws would let it; threes are independent."""
    n = config.n_nodes
    graphs = np.zeros((config.archetypes, n, n), dtype=bool)
    for a in range(config.archetypes):
        if a % 3 == 0:
            uniform = rng.random((n, n))
        graphs[a] = graph_of(config, (uniform + a % 3 / 3.0) % 1.0, rng)
    return graphs


def graph_of(
    config: SimulationConfig, uniform: Array, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """One graph [N, N] from uniform numbers [N, N], with its cycle of channels if the law has one;
    its target has at least one parent."""
    graph = uniform < _edge_probability(config)
    if config.routes:
        _route(config, graph, rng)
    if config.cycle:
        around = rng.permutation(config.channels)[: config.cycle]
        graph[around, np.roll(around, -1)] = True
    if not graph[:, -1].any():
        graph[rng.integers(config.channels), -1] = True
    return graph


def _route(config: SimulationConfig, graph: NDArray[np.bool_], rng: np.random.Generator) -> None:
    """Channels act directly, through one mediator, or both, in the shares that the law names."""
    c = config.channels
    direct, mediated, both = np.round(np.cumsum(config.routes) * c).astype(int)
    place = rng.permutation(c)
    graph[:c, c:] = False
    graph[:c, -1] = (place < direct) | ((place >= mediated) & (place < both))
    if config.mediators:
        graph[c:-1, -1] = True
        through = np.flatnonzero((place >= direct) & (place < both))
        graph[through, rng.integers(c, c + config.mediators, len(through))] = True


def _edge_probability(config: SimulationConfig) -> Array:
    """[N, N], by kind of sender and receiver; pairs of kinds that are not named carry no edge."""
    c, n = config.channels, config.n_nodes
    probability = np.zeros((n, n))
    probability[:c, :c] = config.channel_to_channel
    probability[:c, c : n - 1] = config.channel_to_mediator
    probability[:c, n - 1] = config.channel_to_target
    probability[c : n - 1, c : n - 1] = config.mediator_to_mediator * config.in_order[c:-1, c:-1]
    probability[c : n - 1, n - 1] = config.mediator_to_target
    probability[n - 1, :c] = config.target_to_channel
    np.fill_diagonal(probability, 0.0)
    return probability
