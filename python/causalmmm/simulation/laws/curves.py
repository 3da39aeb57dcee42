"""Effects of any shape: every pair has a function of its own, and some act as products.

Cousins of the held-out sums of bumps, and none of them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from causalmmm.simulation.laws.draw import (
    Array,
    LawDraw,
    foreign_panel,
    random_graphs,
    random_steps,
)

_BURN = 50
_BOUND = 8.0
_LAGS = 3
# each of values and two parameters in (-1.5, 1.5), centred roughly on zero
_SHAPES: tuple[Callable[[Array, Array, Array], Array], ...] = (
    lambda x, a, b: np.sin((1.5 + a) * x + 2.0 * b),
    lambda x, a, b: np.tanh((2.0 + a) * (x - b)),
    lambda x, a, b: np.maximum(x - 0.5 * b, 0.0) - 0.4,
    lambda x, a, b: np.clip((x - 0.3 * a) ** 2, 0.0, 4.0) - 1.0,
    lambda x, a, b: np.abs(x - 0.5 * a) - 0.8,
    lambda x, a, b: 2.0 * (x - 0.5 * b) / (1.0 + (x - 0.5 * b) ** 2),
    lambda x, a, b: np.where(x > b, 0.7, -0.7),
    lambda x, a, b: x,
)


def curved(rng: np.random.Generator, stores: int) -> LawDraw:
    """An additive law in which every pair has a shape and a lag; in some, pairs of parents act as
    products and noise grows with the series before."""
    nodes, steps = int(rng.integers(3, 11)), random_steps(rng)
    edges = random_graphs(rng, stores, nodes, rng.uniform(0.08, 0.35))
    sender, receiver = np.nonzero(edges.any(0))
    kinds = rng.permutation(len(_SHAPES))[: int(rng.integers(1, len(_SHAPES) + 1))]
    kind = kinds[rng.integers(0, len(kinds), len(sender))]
    lag = rng.integers(1, _LAGS + 1, len(sender))
    a, b = rng.uniform(-1.5, 1.5, (2, len(sender)))
    weight = rng.uniform(0.2, 1.0, len(sender)) * rng.choice([-1.0, 1.0], len(sender))
    weight = weight * edges[:, sender, receiver]  # [S, pairs]
    into = np.eye(nodes)[receiver]
    # the factor of a product is another parent of the same receiver, in every store that has both
    partner = np.full(len(sender), -1)
    if rng.random() < 0.35:
        for k in range(len(sender)):
            others = np.flatnonzero((receiver == receiver[k]) & (sender != sender[k]))
            if len(others) and rng.random() < 0.6:
                partner[k] = rng.choice(others)
    joined = partner >= 0
    joint = joined & (weight != 0.0)[:, partner]  # [S, pairs]
    memory = rng.uniform(0.0, 0.6, nodes) * (rng.random() < 0.7)
    uneven = 0.5 * (rng.random() < 0.2)
    noise = rng.uniform(0.15, 1.0) * rng.standard_normal((stores, steps + _BURN, nodes))
    spans = [(s, np.flatnonzero(kind == s)) for s in np.unique(kind)]
    x = noise.copy()
    for t in range(_LAGS, steps + _BURN):
        sent = x[:, t - lag, sender]  # [S, pairs]
        values = np.empty_like(sent)
        for s, at in spans:
            values[:, at] = _SHAPES[s](sent[:, at], a[at], b[at])
        if joined.any():
            values = np.where(joint, values * np.tanh(sent[:, partner]), values)
        scale = 1.0 + uneven * np.abs(x[:, t - 1])
        now = memory * x[:, t - 1] + (weight * values) @ into + noise[:, t] * scale
        x[:, t] = np.clip(now, -_BOUND, _BOUND)
    return foreign_panel(rng, x[:, _BURN:], edges)
