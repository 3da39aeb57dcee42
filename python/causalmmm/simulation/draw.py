"""Random draws: what all stores share (from the seed alone) and what each store has of its own.

Stores are drawn in chunks of fixed size, each from its own generator, so store k is the same store
however many are asked for. The dynamics that turn draws into histories live in ``process``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causalmmm.simulation.config import SimulationConfig
from causalmmm.simulation.graphs import archetypes, graph_of, typical_effect
from causalmmm.simulation.process import FLOOR, Array, Stores

CHUNK = 512
_PROMOTION = 0.84  # a promotion runs where a standard normal exceeds this: one step in five
# Streams of random numbers. What only some laws have is drawn from a stream of its own, so that
# stores stay the same whether or not it is there.
_SHARED, _CHUNK, _LAG, _BREAK, _DEMAND, _CONTROL, _CAMPAIGN, _CARRY = range(8)


@dataclass(frozen=True)
class Shared:
    """What all stores of a simulation have in common; N nodes, C context features, A archetypes.

    graphs        bool [A, N, N]; A is 0 when every store has its own graph
    pair_effects  [N, N] and lag int64 [N, N], for every ordered pair, with or without an edge
    half_saturation_context, slope_context  [N, C], change of the logarithm per unit of context
    kernel        [L, N] or None; see ``Stores``
    controls      [R], what a unit of each control adds to the target
    weekly        [7, N] and yearly [2, N] (cosine, sine): amplitudes of the seasonal factors
    others        [N]
    """

    graphs: NDArray[np.bool_]
    pair_effects: Array
    lag: NDArray[np.int64]
    decay: Array
    kernel: Array | None
    controls: Array
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
    graphs = archetypes(config, rng)
    sparse = np.zeros(n, dtype=bool)
    sparse[rng.permutation(channels)[: round(config.sparse * channels)]] = True
    level = np.where(is_channel, np.exp(rng.normal(0.0, 0.5, n)) / channels, 5.0)
    weekly = rng.normal(0.0, 1.0, (7, n)) + rng.normal(0.0, 1.0, (7, 1))
    weekly = config.weekly * (weekly - weekly.mean(0)) / weekly.std(0)
    angle = rng.normal(0.0, 0.6, n) + rng.uniform(0.0, 2.0 * np.pi)
    lag = np.random.default_rng([seed, _LAG]).integers(*config.lag, (n, n), endpoint=True)
    of_control = np.random.default_rng([seed, _CONTROL]).normal(0.0, 0.3, config.controls)
    return Shared(
        graphs=graphs,
        pair_effects=typical_effect(config) * np.exp(rng.normal(0.0, config.effect_spread, (n, n))),
        lag=np.where(config.in_order, 0, lag) if config.same_step else lag,
        decay=(decay := rng.uniform(*config.decay, n)),
        kernel=_kernel(config, decay, seed) if config.carryover == "weibull" else None,
        controls=config.control_effect * np.exp(of_control),
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
        edges = np.stack([graph_of(config, rng.random((n, n)), rng) for _ in range(CHUNK)])[:size]
        archetype = chunk * CHUNK + np.arange(CHUNK)
    earlier_edges = edges
    if config.break_at:
        earlier_edges = _earlier_graphs(config, shared, archetype, seed, chunk)[:size]
    context = rng.standard_normal((CHUNK, config.context))[:size]
    scale = 1000.0 * np.exp(rng.normal(0.0, config.store_scale, (CHUNK, 1)))
    around = np.exp(rng.normal(0.0, config.level_spread, (CHUNK, n)))
    levels = (scale * shared.level * around)[:size]
    deviation = np.exp(rng.normal(0.0, config.store_spread, (CHUNK, n, n)))[:size]
    growth = rng.normal(0.05, config.trend, (CHUNK, 1))[:size]
    own_season = np.exp(rng.normal(0.0, 0.3, (CHUNK, n)))[:size]

    years = (config.dates - config.dates[0]).astype(float) / 365.25
    calendar = _calendar(config, shared)[:, None, :] * own_season
    season = 1.0 + np.where(is_channel, 0.0, years[:, None, None] * growth) + calendar
    spend = _spend(config, shared, rng, seed, size)
    if config.demand_on_spend or config.demand_on_outcome:
        demand = _demand(config, seed, chunk)[:, :size, None]
        gain = config.demand_on_outcome * shared.demand_loading[~is_channel]
        season[..., ~is_channel] += gain * demand[1:]
        elasticity = config.demand_on_spend * shared.demand_loading[is_channel]
        noticed = demand[1:] if config.same_step else demand[:-1]
        spend *= np.exp(elasticity * noticed - elasticity**2 / 2.0)
    controls, control_effects = _controls(config, shared, seed, chunk, size)
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
    active = exogenous > 0.0
    if config.multiplicative:
        active = np.where(is_channel, active, exogenous)
    raised = (controls * control_effects).sum(-1)
    if not config.level_shift_flag:
        raised += config.level_shift * _shifted(config, chunk, size)
    target = exogenous[..., -1]
    target += raised * (target if config.multiplicative else 1.0)
    np.maximum(target, 0.05, out=target)
    exogenous[:turn] /= earlier_whole
    exogenous[turn:] /= whole
    return Stores(
        exogenous=exogenous,
        active=active,
        noise=noise,
        effects=effects / whole[:, None, :],
        earlier_effects=earlier_effects / earlier_whole[:, None, :],
        turn=turn,
        lag=shared.lag,
        decay=shared.decay,
        own_memory=shared.own_memory,
        kernel=shared.kernel,
        carry_in=np.where(is_channel, config.carry_in, 1.0),
        slope=shared.slope * np.exp(context @ shared.slope_context.T),
        half_saturation=shared.half_saturation * np.exp(context @ shared.half_saturation_context.T),
        saturation=config.saturation,
        levels=levels,
        floor=np.where(is_channel, 0.0, FLOOR),
        archetype=archetype[:size],
        context=context,
        controls=controls,
        control_effects=control_effects / whole[:, -1:],
        channels=config.channels,
    )


def _spend(
    config: SimulationConfig, shared: Shared, rng: np.random.Generator, seed: int, size: int
) -> Array:
    """Spend before seasonality, [T, size, channels], mean about 1: log AR(1) times campaigns."""
    c = config.channels
    memory, noise = shared.spend_memory[:c], shared.spend_noise[:c]
    stationary = noise / np.sqrt(1.0 - memory**2)
    share = shared.campaign_share[:c]
    # Sparse channels are silent between campaigns, the others run on; both have mean 1.
    always = 1.0 / (1.0 + share * config.campaign_lift)
    quiet = np.where(shared.sparse[:c], 0.0, always)
    busy = np.where(shared.sparse[:c], 1.0 / share, always * (1.0 + config.campaign_lift))
    if config.shared_campaigns:
        campaign = _campaigns(config, shared, np.random.default_rng([seed, _CAMPAIGN]), 1)
    else:
        campaign = _campaigns(config, shared, rng, size)

    log_spend = stationary * rng.standard_normal((CHUNK, c))[:size]
    spend = np.where(campaign, busy, quiet) * np.ones((size, 1))
    for step in range(config.steps):
        spend[step] *= np.exp(log_spend - stationary**2 / 2.0)
        log_spend = memory * log_spend + noise * rng.standard_normal((CHUNK, c))[:size]
    return spend


def _campaigns(
    config: SimulationConfig, shared: Shared, rng: np.random.Generator, size: int
) -> NDArray[np.bool_]:
    """[T, size, channels]: a campaign is on, in spells of random length."""
    t, c = config.steps, config.channels
    share, length = shared.campaign_share[:c], shared.campaign_steps[:c]
    end = 1.0 / length
    begin = end * share / (1.0 - share)
    on = (rng.random((CHUNK, c)) < share)[:size]
    campaign = np.empty((t, size, c), dtype=bool)
    for step in range(t):
        campaign[step] = on
        turn = rng.random((CHUNK, c))[:size] < np.where(on, end, begin)
        on = on ^ turn
    # A channel that by chance hardly runs would leave nothing to learn from: one more campaign.
    first = (rng.random((CHUNK, c))[:size] * t).astype(int)
    since = (np.arange(t)[:, None, None] - first) % t
    return np.asarray(campaign | ((campaign.sum(0) < length) & (since < length)))


def _kernel(config: SimulationConfig, decay: Array, seed: int) -> Array:
    """Carry-over weights [L, N] of Weibull densities with the mean delay of geometric decays."""
    shape = np.random.default_rng([seed, _CARRY]).uniform(*config.weibull_shape, len(decay))
    scale = (decay / (1.0 - decay) + 0.5) / np.array([math.gamma(1.0 + 1.0 / k) for k in shape])
    edges = np.arange(config.weibull_steps + 1)[:, None]
    weights = np.diff(-np.exp(-((edges / scale) ** shape)), axis=0)
    return np.asarray(weights / weights.sum(0))


def _controls(
    config: SimulationConfig, shared: Shared, seed: int, chunk: int, size: int
) -> tuple[Array, Array]:
    """Controls [T, size, R], the flag of a level shift last, and what a unit of each adds to the
    target [size, R]."""
    rng = np.random.default_rng([seed, _CONTROL, chunk])
    spread = np.exp(rng.normal(0.0, config.store_spread, (CHUNK, config.controls)))
    memory = config.control_memory
    columns = rng.standard_normal((config.steps, CHUNK, config.controls))
    columns[1:] *= np.sqrt(1.0 - memory**2)
    for step in range(1, config.steps):
        columns[step] += memory * columns[step - 1]
    columns[..., 1::2] = columns[..., 1::2] > _PROMOTION
    columns, effects = columns[:, :size], shared.controls * spread[:size]
    if config.level_shift_flag:
        flag = _shifted(config, chunk, size).astype(float)
        columns = np.concatenate([columns, flag[..., None]], axis=-1)
        effects = np.concatenate([effects, np.full((size, 1), config.level_shift)], axis=1)
    return columns, effects


def _shifted(config: SimulationConfig, chunk: int, size: int) -> NDArray[np.bool_]:
    """[T, size]: the level shift has happened in this store."""
    since = np.arange(config.steps) >= round(config.level_shift_at * config.steps)
    number = chunk * CHUNK + np.arange(size)
    return since[:, None] & (number < (config.level_shift_stores or number + 1))


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
    return np.stack([graph_of(config, rng.random((n, n)), rng) for _ in range(CHUNK)])


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
