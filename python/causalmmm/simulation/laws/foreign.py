"""Dynamics that know nothing of marketing: autoregressions, chaos, walks, common causes.

Series come out as [S, T, N]; ``draw.foreign_panel`` gives them roles, level and calendar.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from causalmmm.simulation.laws.draw import (
    Array,
    LawDraw,
    foreign_panel,
    random_graphs,
    random_roles,
    random_steps,
    rank_of,
)

_BURN = 50
_BOUND = 20.0  # of series of unit noise: a setting that explodes stays finite
_SHAPES: tuple[Callable[[Array], Array], ...] = (
    lambda a: a,
    np.tanh,
    np.sin,
    lambda a: np.maximum(a, 0.0),
    lambda a: a / (1.0 + np.abs(a)),
    lambda a: np.tanh(a) ** 2 - 0.4,
)


def autoregression(rng: np.random.Generator, stores: int) -> LawDraw:
    """A signed vector autoregression, linear or not, with any kernel over lags; some act within
    the step where roles order the pair."""
    nodes = int(rng.integers(3, 13))
    roles, steps, longest = random_roles(rng, nodes), random_steps(rng), int(rng.integers(1, 8))
    density = rng.uniform(0.08, 0.4)
    edges = random_graphs(rng, stores, nodes, density)
    weight = rng.uniform(0.2, 1.2, (nodes, nodes)) * rng.choice([-1.0, 1.0], (nodes, nodes))
    own = 0.3 * (rng.random() < 0.5)  # of a store around its pair
    weight = weight * np.exp(own * rng.standard_normal(edges.shape))
    scale = rng.uniform(0.3, 1.0) / max(1.0, density * nodes * 0.7)
    kernel = np.zeros((longest + 1, nodes, nodes))
    if rng.random() < 0.3:
        kernel[1:] = rng.uniform(-1.0, 1.0, (longest, nodes, nodes))
    else:
        at = rng.integers(1, longest + 1, (nodes, nodes))
        kernel = (np.arange(longest + 1)[:, None, None] == at) * 1.0
    rank = rank_of(roles)
    if rng.random() < 0.4:
        instant = (rank[:, None] < rank) & (rng.random((nodes, nodes)) < rng.uniform(0.3, 1.0))
        kernel[0] = np.where(instant, kernel[1:].sum(0), 0.0)
        kernel[1:] *= ~instant
    weights = scale * (edges * weight)[:, None] * kernel  # [S, lags + 1, N, N]
    shape = [_SHAPES[k] for k in rng.integers(0, len(_SHAPES), nodes)]
    if rng.random() < 0.35:
        shape = [_SHAPES[0]] * nodes
    memory = rng.uniform(0.0, 0.8, nodes) * (rng.random() < 0.7)
    noise = np.exp(rng.uniform(np.log(0.05), 0.0)) * _shocks(rng, (stores, steps + _BURN, nodes))
    return foreign_panel(rng, _run(weights, shape, memory, noise, rank), edges, roles)


def coupled_maps(rng: np.random.Generator, stores: int) -> LawDraw:
    """Chaotic logistic maps, each drawn towards those of its parents."""
    nodes, steps = int(rng.integers(3, 10)), random_steps(rng)
    edges = random_graphs(rng, stores, nodes, rng.uniform(0.08, 0.35))
    growth, pull = rng.uniform(3.6, 4.0, nodes), rng.uniform(0.1, 0.5)
    share = edges / np.maximum(edges.sum(1, keepdims=True), 1)
    has_parents = edges.any(1)
    x = rng.uniform(0.1, 0.9, (stores, nodes))
    noise = rng.uniform(0.0, 0.1) * rng.standard_normal((stores, steps + _BURN, nodes))
    out = np.empty((stores, steps + _BURN, nodes))
    for t in range(steps + _BURN):
        mapped = growth * x * (1.0 - x)
        drawn = np.einsum("si,sij->sj", mapped, share)
        x = np.where(has_parents, (1.0 - pull) * mapped + pull * drawn, mapped)
        x = np.clip(x + noise[:, t], 0.001, 0.999)
        out[:, t] = x
    return foreign_panel(rng, out[:, _BURN:], edges)


def common_causes(rng: np.random.Generator, stores: int) -> LawDraw:
    """Hidden series drive several others after different delays; few of these drive each other."""
    nodes, steps, hidden = int(rng.integers(4, 11)), random_steps(rng), int(rng.integers(1, 3))
    edges = random_graphs(rng, stores, nodes, rng.choice([0.0, 0.1]))
    total = nodes + hidden
    weights = np.zeros((stores, 8, total, total))
    strength = rng.uniform(0.3, 0.9, (nodes, nodes)) * rng.choice([-1.0, 1.0], (nodes, nodes))
    weights[:, 1, :nodes, :nodes] = edges * strength
    for k in range(nodes, total):
        driven = rng.random(nodes) < 0.6
        weights[:, rng.integers(1, 8, nodes), k, np.arange(nodes)] = driven * rng.uniform(
            0.4, 1.2, nodes
        )
    memory = rng.uniform(0.0, 0.9, total)
    noise = rng.standard_normal((stores, steps + _BURN, total))
    x = _run(weights, [_SHAPES[0]] * total, memory, noise, np.zeros(total, np.int64))
    return foreign_panel(rng, x[..., :nodes], edges)


def random_walks(rng: np.random.Generator, stores: int) -> LawDraw:
    """Random walks, most of them independent; in some draws increments follow other increments."""
    nodes, steps = int(rng.integers(3, 11)), random_steps(rng)
    edges = random_graphs(rng, stores, nodes, rng.choice([0.0, 0.0, 0.15]))
    x = _shocks(rng, (stores, steps, nodes))
    for t in range(1, steps):
        x[:, t] += 0.6 * np.einsum("si,sij->sj", x[:, t - 1], edges)
        x[:, t] = np.clip(x[:, t], -_BOUND, _BOUND)
    walk = x.cumsum(1) * (0.99 ** np.arange(steps)[::-1])[None, :, None]
    return foreign_panel(rng, walk, edges)


def independent(rng: np.random.Generator, stores: int) -> LawDraw:
    """Series that have nothing to do with each other: memory, cycles, heavy tails, jumps."""
    nodes, steps = int(rng.integers(3, 13)), random_steps(rng)
    x = _shocks(rng, (stores, steps, nodes))
    memory = rng.uniform(0.0, 0.97, nodes)
    for t in range(1, steps):
        x[:, t] += memory * x[:, t - 1]
    angle = 2.0 * np.pi * np.arange(steps)[:, None] / rng.uniform(5.0, 120.0, nodes)
    x += rng.uniform(0.0, 2.0, nodes) * np.sin(angle + rng.uniform(0.0, 6.28, (stores, 1, nodes)))
    jumps = rng.random((stores, 1, nodes)) < 0.2
    at = rng.integers(0, steps, (stores, 1, nodes))
    x += jumps * rng.uniform(1.0, 5.0) * (np.arange(steps)[None, :, None] >= at)
    return foreign_panel(rng, x, np.zeros((stores, nodes, nodes), bool))


def nonlinear_additive(rng: np.random.Generator, stores: int) -> LawDraw:
    """Each pair has a smooth function of its own, a sum of bumps, at one lag; noise is added."""
    nodes, steps = int(rng.integers(4, 10)), random_steps(rng)
    edges = random_graphs(rng, stores, nodes, rng.uniform(0.1, 0.35))
    place = rng.uniform(-2.0, 2.0, (4, nodes, nodes))
    height = rng.uniform(-1.0, 1.0, (4, nodes, nodes))
    lag = rng.integers(1, 4, (nodes, nodes))
    noise = rng.uniform(0.2, 0.5) * rng.standard_normal((stores, steps + _BURN, nodes))
    x = noise.copy()
    for t in range(4, steps + _BURN):
        for back in range(1, 4):
            sent = x[:, t - back, :, None]  # [S, N, 1]
            bumps = (height * np.exp(-((sent[:, None] - place) ** 2))).sum(1)  # [S, N, N]
            x[:, t] += (bumps * (edges & (lag == back))).sum(1)
        x[:, t] += 0.2 * x[:, t - 1]
    return foreign_panel(rng, x[:, _BURN:], edges)


def published(rng: np.random.Generator, stores: int) -> LawDraw:
    """tanh responses with free weights on lags 1 to 7: the law of the paper's published sample,
    with a graph for every store."""
    nodes, steps = 8, 100
    edges = np.triu(rng.random((stores, nodes, nodes)) < 0.7, 1)
    edges[:, :, :5] = False
    weights = np.zeros((stores, 8, nodes, nodes))
    weights[:, 1:] = edges[:, None] * rng.uniform(-1.0, 1.0, (stores, 7, nodes, nodes))
    noise = 0.1 * rng.standard_normal((stores, steps + _BURN, nodes))
    roles = ("channel",) * 7 + ("target",)
    x = _run(weights, [np.tanh] * nodes, np.zeros(nodes), noise, np.zeros(nodes, np.int64))
    return foreign_panel(rng, x, edges, roles)


def _shocks(rng: np.random.Generator, size: tuple[int, ...]) -> Array:
    """Noise of unit scale: normal, or with heavy tails."""
    if rng.random() < 0.75:
        return rng.standard_normal(size)
    return np.asarray(np.clip(rng.standard_t(3, size), -8.0, 8.0) / np.sqrt(3.0))


def _run(
    weights: Array,
    shape: list[Callable[[Array], Array]],
    memory: Array,
    noise: Array,
    rank: NDArray[np.int64],
) -> Array:
    """Series [S, T, N] after a burn-in: x_j(t) = memory_j x_j(t-1) + noise_j(t) + sum over lags and
    senders of weights[lag, i, j] shape_i(x_i(t - lag)); lag 0 in the order of ``rank`` [N].

    weights [S, L, N, N], lag 0 first; noise [S, T + burn-in, N].
    """
    stores, lags, nodes, _ = weights.shape
    flat = weights[:, 1:].reshape(stores, (lags - 1) * nodes, nodes)
    x, felt = np.zeros_like(noise), np.zeros((stores, lags - 1, nodes))
    at_once = weights[:, 0]
    stages = [np.flatnonzero(rank == r) for r in np.unique(rank)] if at_once.any() else []
    kinds = [(kind, [i for i in range(nodes) if shape[i] is kind]) for kind in dict.fromkeys(shape)]
    for t in range(noise.shape[1]):
        now = noise[:, t] + (felt.reshape(stores, 1, -1) @ flat)[:, 0]
        if t:
            now += memory * x[:, t - 1]
        for stage in stages[1:]:
            before = np.flatnonzero(rank < rank[stage[0]])
            sent = np.stack([shape[i](now[:, i]) for i in before], axis=1)
            now[:, stage] += np.einsum("si,sij->sj", sent, at_once[:, before][:, :, stage])
        now = np.clip(now, -_BOUND, _BOUND)
        x[:, t] = now
        felt[:, 1:] = felt[:, :-1]
        for kind, which in kinds:
            felt[:, 0, which] = kind(now[:, which])
    return x[:, _BURN:]
