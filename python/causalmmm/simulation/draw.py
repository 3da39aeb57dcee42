"""Random draws: what all stores share (from the seed alone) and what each store has of its own.

Stores are drawn in chunks of fixed size, each from its own generator, so store k is the same store
however many are asked for. The dynamics that turn draws into histories live in ``process``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causalmmm.simulation.config import SimulationConfig
from causalmmm.simulation.process import FLOOR, Array, Stores

CHUNK = 512
# Streams of random numbers. What only some laws have is drawn from a stream of its own, so that
# stores stay the same whether or not it is there.
_SHARED, _CHUNK, _LAG, _BREAK, _DEMAND = range(5)


@dataclass(frozen=True)
class Shared:
    """What all stores of a simulation have in common; N nodes, C context features, A archetypes.

    graphs        bool [A, N, N]; A is 0 when every store has its own graph
    pair_effects  [N, N] and lag int64 [N, N], for every ordered pair, with or without an edge
    half_saturation_context, slope_context  [N, C], change of the logarithm per unit of context
    weekly        [7, N] and yearly [2, N] (cosine, sine): amplitudes of the seasonal factors
    others        [N]
    """

    graphs: NDArray[np.bool_]
    pair_effects: Array
    lag: NDArray[np.int64]
    decay: Array
    slope: Array
    half_saturation: Array
    half_saturation_context: Array
    slope_context: Array
    spend_memory: Array
    spend_noise: Array
    own_memory: Array
    sparse: NDArray[np.bool_]
    campaign_share: Array
    campaign_steps: Array
    weekly: Array
    yearly: Array
    level: Array
    demand_loading: Array


def draw_shared(config: SimulationConfig, seed: int) -> Shared:
    """Archetypes and global parameters, from the seed alone (not from stores or steps)."""
    rng = np.random.default_rng([seed, _SHARED])
    n, channels = config.n_nodes, config.channels
    is_channel = np.arange(n) < channels
    graphs = _archetypes(config, rng)
    sparse = np.zeros(n, dtype=bool)
    sparse[rng.permutation(channels)[: round(config.sparse * channels)]] = True
    level = np.where(is_channel, np.exp(rng.normal(0.0, 0.5, n)) / channels, 5.0)
    weekly = rng.normal(0.0, 1.0, (7, n)) + rng.normal(0.0, 1.0, (7, 1))
    weekly = config.weekly * (weekly - weekly.mean(0)) / weekly.std(0)
    angle = rng.normal(0.0, 0.6, n) + rng.uniform(0.0, 2.0 * np.pi)
    return Shared(
        graphs=graphs,
        pair_effects=_typical_effect(config)
        * np.exp(rng.normal(0.0, config.effect_spread, (n, n))),
        lag=np.random.default_rng([seed, _LAG]).integers(*config.lag, (n, n), endpoint=True),
        decay=rng.uniform(*config.decay, n),
        slope=np.where(
            is_channel, rng.uniform(*config.slope, n), rng.uniform(*config.outcome_slope, n)
        ),
        half_saturation=rng.uniform(*config.half_saturation, n),
        half_saturation_context=_context_weights(config, config.context_strength, rng),
        slope_context=_context_weights(config, config.context_strength / 2.0, rng),
        spend_memory=rng.uniform(*config.spend_memory, n),
        spend_noise=rng.uniform(*config.spend_noise, n),
        own_memory=np.where(is_channel, 0.0, rng.uniform(*config.own_memory, n)),
        sparse=sparse,
        campaign_share=rng.uniform(*config.campaign_share, n),
        campaign_steps=rng.uniform(*config.campaign_steps, n),
        weekly=weekly,
        yearly=config.yearly * np.stack([np.cos(angle), np.sin(angle)]),
        level=level,
        demand_loading=np.random.default_rng([seed, _DEMAND]).uniform(0.5, 1.5, n),
    )


def draw_chunk(
    config: SimulationConfig, shared: Shared, seed: int, chunk: int, size: int
) -> Stores:
    """The first ``size`` stores of a chunk; random numbers are always drawn for all ``CHUNK``."""
    rng = np.random.default_rng([seed, _CHUNK, chunk])
    n, t = config.n_nodes, config.steps
    is_channel = np.arange(n) < config.channels

    archetype = rng.integers(max(config.archetypes, 1), size=CHUNK)
    if config.archetypes:
        edges = shared.graphs[archetype[:size]]
    else:
        edges = np.stack([_graph(config, rng.random((n, n)), rng) for _ in range(CHUNK)])[:size]
        archetype = chunk * CHUNK + np.arange(CHUNK)
    earlier_edges = edges
    if config.break_at:
        earlier_edges = _earlier_graphs(config, shared, archetype, seed, chunk)[:size]
    context = rng.standard_normal((CHUNK, config.context))[:size]
    scale = 1000.0 * np.exp(rng.normal(0.0, config.store_scale, (CHUNK, 1)))
    levels = (scale * shared.level * np.exp(rng.normal(0.0, 0.3, (CHUNK, n))))[:size]
    deviation = np.exp(rng.normal(0.0, config.store_spread, (CHUNK, n, n)))[:size]
    growth = rng.normal(0.05, config.trend, (CHUNK, 1))[:size]
    own_season = np.exp(rng.normal(0.0, 0.3, (CHUNK, n)))[:size]

    years = (config.dates - config.dates[0]).astype(float) / 365.25
    calendar = _calendar(config, shared)[:, None, :] * own_season
    season = 1.0 + np.where(is_channel, 0.0, years[:, None, None] * growth) + calendar
    spend = _spend(config, shared, rng, size)
    if config.demand_on_spend or config.demand_on_outcome:
        demand = _demand(config, seed, chunk)[:, :size, None]
        gain = config.demand_on_outcome * shared.demand_loading[~is_channel]
        season[..., ~is_channel] += gain * demand[1:]
        elasticity = config.demand_on_spend * shared.demand_loading[is_channel]
        spend *= np.exp(elasticity * demand[:-1] - elasticity**2 / 2.0)
    noise = np.zeros((t, size, n))
    noise[..., ~is_channel] = rng.standard_normal((t, CHUNK, config.mediators + 1))[:, :size]
    noise *= np.where(np.arange(n) == n - 1, config.target_noise, config.mediator_noise)
    turn = round(config.break_at * t)
    effects, earlier_effects = (
        np.where(graph, shared.pair_effects * deviation, 0.0) for graph in (edges, earlier_edges)
    )
    # What a series gets from half-saturated senders is part of its typical level.
    whole, earlier_whole = (
        1.0 + 0.5 * gain.sum(1) / (1.0 - shared.own_memory) for gain in (effects, earlier_effects)
    )
    exogenous = np.maximum(season, 0.05)
    exogenous[..., is_channel] *= spend
    exogenous[:turn] /= earlier_whole
    exogenous[turn:] /= whole
    return Stores(
        exogenous=exogenous,
        running=exogenous > 0.0,
        noise=noise,
        effects=effects / whole[:, None, :],
        earlier_effects=earlier_effects / earlier_whole[:, None, :],
        turn=turn,
        lag=shared.lag,
        decay=shared.decay,
        own_memory=shared.own_memory,
        slope=shared.slope * np.exp(context @ shared.slope_context.T),
        half_saturation=shared.half_saturation * np.exp(context @ shared.half_saturation_context.T),
        levels=levels,
        floor=np.where(is_channel, 0.0, FLOOR),
        archetype=archetype[:size],
        context=context,
    )


def _spend(config: SimulationConfig, shared: Shared, rng: np.random.Generator, size: int) -> Array:
    """Spend before seasonality, [T, size, channels], mean about 1: log AR(1) times campaigns."""
    t, c = config.steps, config.channels
    memory, noise = shared.spend_memory[:c], shared.spend_noise[:c]
    stationary = noise / np.sqrt(1.0 - memory**2)
    share = shared.campaign_share[:c]
    end = 1.0 / shared.campaign_steps[:c]
    begin = end * share / (1.0 - share)
    # Sparse channels are silent between campaigns, the others run on; both have mean 1.
    always = 1.0 / (1.0 + share * config.campaign_lift)
    quiet = np.where(shared.sparse[:c], 0.0, always)
    busy = np.where(shared.sparse[:c], 1.0 / share, always * (1.0 + config.campaign_lift))

    running = (rng.random((CHUNK, c)) < share)[:size]
    campaign = np.empty((t, size, c), dtype=bool)
    for step in range(t):
        campaign[step] = running
        turn = rng.random((CHUNK, c))[:size] < np.where(running, end, begin)
        running = running ^ turn
    # A channel that by chance hardly runs would leave nothing to learn from: one more campaign.
    first = (rng.random((CHUNK, c))[:size] * t).astype(int)
    since = (np.arange(t)[:, None, None] - first) % t
    length = shared.campaign_steps[:c]
    campaign |= (campaign.sum(0) < length) & (since < length)

    log_spend = stationary * rng.standard_normal((CHUNK, c))[:size]
    spend = np.where(campaign, busy, quiet)
    for step in range(t):
        spend[step] *= np.exp(log_spend - stationary**2 / 2.0)
        log_spend = memory * log_spend + noise * rng.standard_normal((CHUNK, c))[:size]
    return spend


def _demand(config: SimulationConfig, seed: int, chunk: int) -> Array:
    """Latent demand [T + 1, CHUNK] from the step before the first on: AR(1) of unit variance."""
    rng = np.random.default_rng([seed, _DEMAND, chunk])
    memory = config.demand_memory
    demand = rng.standard_normal((config.steps + 1, CHUNK))
    demand[1:] *= np.sqrt(1.0 - memory**2)
    for step in range(config.steps):
        demand[step + 1] += memory * demand[step]
    return demand


def _earlier_graphs(
    config: SimulationConfig, shared: Shared, archetype: NDArray[np.int64], seed: int, chunk: int
) -> NDArray[np.bool_]:
    """Graphs [CHUNK, N, N] before the break: another archetype, or another graph of one's own."""
    rng = np.random.default_rng([seed, _BREAK, chunk])
    n, others = config.n_nodes, config.archetypes
    if others:
        return shared.graphs[(archetype + rng.integers(1, others, CHUNK)) % others]
    return np.stack([_graph(config, rng.random((n, n)), rng) for _ in range(CHUNK)])


def _calendar(config: SimulationConfig, shared: Shared) -> Array:
    """Seasonal part [T, N] around zero: day of the week (daily data only) and time of the year."""
    days = config.dates.astype("datetime64[D]").astype(int)
    angle = 2.0 * np.pi * days / 365.25
    season = np.stack([np.cos(angle), np.sin(angle)], axis=1) @ shared.yearly
    if config.freq == "D":
        season = season + shared.weekly[days % 7]
    return np.asarray(season)


def _context_weights(config: SimulationConfig, strength: float, rng: np.random.Generator) -> Array:
    """Directions [N, C] such that standard normal context moves a logarithm by ``strength``."""
    direction = rng.standard_normal((config.n_nodes, config.context))
    norm = np.linalg.norm(direction, axis=1, keepdims=True)
    return np.asarray(strength * direction / np.maximum(norm, 1e-12))


def _typical_effect(config: SimulationConfig) -> Array:
    """[N, N], by kind of sender and receiver, before a pair's and a store's own deviation."""
    c, n = config.channels, config.n_nodes
    effect = np.zeros((n, n))
    effect[:c, :c] = config.effect_on_channel
    effect[:c, c : n - 1] = config.effect_on_mediator
    effect[:c, n - 1] = config.effect_on_target
    effect[c : n - 1, n - 1] = config.effect_of_mediator
    effect[n - 1, :c] = config.effect_of_target
    return effect


def _edge_probability(config: SimulationConfig) -> Array:
    """[N, N], by kind of sender and receiver; pairs of kinds that are not named carry no edge."""
    c, n = config.channels, config.n_nodes
    probability = np.zeros((n, n))
    probability[:c, :c] = config.channel_to_channel
    probability[:c, c : n - 1] = config.channel_to_mediator
    probability[:c, n - 1] = config.channel_to_target
    probability[c : n - 1, n - 1] = config.mediator_to_target
    probability[n - 1, :c] = config.target_to_channel
    np.fill_diagonal(probability, 0.0)
    return probability


def _graph(config: SimulationConfig, uniform: Array, rng: np.random.Generator) -> NDArray[np.bool_]:
    """One graph [N, N] from uniform numbers [N, N], with its cycle of channels if the law has one;
    its target has at least one parent."""
    graph = uniform < _edge_probability(config)
    if config.cycle:
        around = rng.permutation(config.channels)[: config.cycle]
        graph[around, np.roll(around, -1)] = True
    if not graph[:, -1].any():
        graph[rng.integers(config.channels), -1] = True
    return graph


def _archetypes(config: SimulationConfig, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Archetypes [A, N, N]. Within each three in a row, edges avoid one another as far as their
    probability allows (one uniform number per pair, shifted by thirds), so that how common an edge
    is says less about a store than independent draws would let it; threes are independent."""
    n = config.n_nodes
    graphs = np.zeros((config.archetypes, n, n), dtype=bool)
    for a in range(config.archetypes):
        if a % 3 == 0:
            uniform = rng.random((n, n))
        graphs[a] = _graph(config, (uniform + a % 3 / 3.0) % 1.0, rng)
    return graphs
