"""Flows: systems of differential equations with noise, integrated finely and observed in steps.

Kin of the held-out oscillators and none of them: no Kuramoto phases, no masses on springs, no ring.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from causalmmm.simulation.laws.draw import Array, LawDraw, Mask, foreign_panel, random_graphs

_FINE = 6  # integration steps of an observed one
_WARM = 20  # observed steps before the first that counts
_BOUND = 12.0

Slope = Callable[[Array, Array], tuple[Array, Array]]


def flows(rng: np.random.Generator, stores: int) -> LawDraw:
    """Hopf oscillators, van der Pol and stiffening ones, populations, or triads of a turbulent
    kind."""
    nodes, steps = int(rng.integers(3, 11)), int(rng.integers(60, 280))
    kind = _KINDS[rng.integers(len(_KINDS))]
    edges, slope, step, noise = kind(rng, stores, nodes)
    place, speed = 0.5 * rng.standard_normal((2, stores, nodes))
    fine = step / _FINE
    out = np.empty((stores, steps + _WARM, nodes))
    for t in range(steps + _WARM):
        shocks = noise * np.sqrt(fine) * rng.standard_normal((_FINE, *place.shape))
        for k in range(_FINE):
            first = slope(place, speed)
            # Heun's method: the mean of the slopes at both ends
            second = slope(place + fine * first[0], speed + fine * first[1])
            place = place + 0.5 * fine * (first[0] + second[0]) + shocks[k]
            speed = speed + 0.5 * fine * (first[1] + second[1])
            place, speed = (np.clip(part, -_BOUND, _BOUND) for part in (place, speed))
        out[:, t] = place
    x = out[:, _WARM:] + rng.choice([0.0, 0.1]) * rng.standard_normal((stores, steps, nodes))
    return foreign_panel(rng, x, edges)


def _felt(edges: Mask, weight: Array, x: Array) -> Array:
    return np.asarray((x[:, None] @ (edges * weight))[:, 0])


def _hopf(rng: np.random.Generator, stores: int, nodes: int) -> tuple[Mask, Slope, float, float]:
    """Each turns at its own pace and is drawn to its parents; one of two coordinates is seen."""
    edges = random_graphs(rng, stores, nodes, rng.uniform(0.1, 0.4))
    pace = rng.uniform(0.4, 3.0, (stores, nodes))
    grows, pull = rng.uniform(-0.3, 1.5), rng.uniform(0.2, 1.5)
    weight = np.full((nodes, nodes), pull)
    parents = edges.sum(1)

    def slope(x: Array, y: Array) -> tuple[Array, Array]:
        inside = grows - (x**2 + y**2)
        towards = _felt(edges, weight, x) - pull * parents * x
        beside = _felt(edges, weight, y) - pull * parents * y
        return inside * x - pace * y + towards, inside * y + pace * x + beside

    return edges, slope, rng.uniform(0.2, 0.8), rng.uniform(0.1, 0.5)


def _stiffening(
    rng: np.random.Generator, stores: int, nodes: int
) -> tuple[Mask, Slope, float, float]:
    """Driven oscillators of second order: van der Pol's damping or a force that grows with the
    cube; parents push, whatever the place of what they push."""
    edges = random_graphs(rng, stores, nodes, rng.uniform(0.1, 0.35))
    weight = rng.uniform(0.2, 1.2, (nodes, nodes)) * rng.choice([-1.0, 1.0], (nodes, nodes))
    weight = np.abs(weight) if rng.random() < 0.5 else weight
    own = rng.uniform(0.3, 2.0, nodes)
    damping, cube = rng.uniform(0.1, 0.8), rng.uniform(0.0, 0.5)
    cycles = rng.random() < 0.5

    def slope(x: Array, v: Array) -> tuple[Array, Array]:
        loss = damping * (x**2 - 1.0) * v if cycles else damping * v
        return v, -own * x - cube * x**3 - loss + _felt(edges, weight, x)

    return edges, slope, rng.uniform(0.3, 0.9), rng.uniform(0.2, 0.8)


def _populations(
    rng: np.random.Generator, stores: int, nodes: int
) -> tuple[Mask, Slope, float, float]:
    """Logarithms of populations that feed on each other and crowd themselves out."""
    edges = random_graphs(rng, stores, nodes, rng.uniform(0.1, 0.35))
    weight = rng.uniform(0.2, 1.0, (nodes, nodes)) * rng.choice([-1.0, 1.0], (nodes, nodes))
    grows, crowd = rng.uniform(0.2, 1.0, nodes), rng.uniform(0.5, 1.5)

    def slope(x: Array, v: Array) -> tuple[Array, Array]:
        many = np.exp(np.clip(x, -3.0, 3.0))
        others = 2.0 * np.tanh(0.5 * _felt(edges, weight, many))
        return grows - crowd * many + others - 0.02 * x, 0.0 * v

    return edges, slope, rng.uniform(0.3, 1.2), rng.uniform(0.1, 0.5)


def _triads(rng: np.random.Generator, stores: int, nodes: int) -> tuple[Mask, Slope, float, float]:
    """Products of two series drive a third so that no triad makes energy; forcing and damping."""
    count = round(nodes * rng.uniform(0.4, 1.3)) + 1
    chosen = np.stack([rng.permutation(nodes)[:3] for _ in range(count)])
    share = rng.uniform(0.4, 1.2, (count, 3)) * rng.choice([-1.0, 1.0], (count, 3))
    share[:, 2] = 0.0
    rolled = rng.random(count) < 0.5  # two of three are moved, or all
    share[rolled, 2] = -share[rolled, 0] - share[rolled, 1]
    share[~rolled, 1] = -share[~rolled, 0]
    edges = np.zeros((nodes, nodes), bool)
    for (i, j, k), part in zip(chosen, share, strict=True):
        for to, one, other, size in ((i, j, k, part[0]), (j, i, k, part[1]), (k, i, j, part[2])):
            edges[[one, other], to] |= size != 0.0
    into = [np.eye(nodes)[chosen[:, k]] * share[:, k : k + 1] for k in range(3)]
    force, loss = rng.uniform(2.0, 8.0, nodes), rng.uniform(0.5, 1.5, nodes)

    def slope(x: Array, v: Array) -> tuple[Array, Array]:
        a, b, c = (x[:, chosen[:, k]] for k in range(3))
        return b * c @ into[0] + a * c @ into[1] + a * b @ into[2] - loss * x + force, 0.0 * v

    drawn = np.tile(edges, (stores, 1, 1))
    return drawn, slope, rng.uniform(0.05, 0.2), rng.uniform(0.2, 1.5)


_KINDS = (_hopf, _stiffening, _populations, _triads)
