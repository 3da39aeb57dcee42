"""Continuous dynamics, integrated finely and observed in steps: one family to train on, three held
out."""

from __future__ import annotations

import numpy as np

from causalmmm.simulation.laws.draw import Array, LawDraw, foreign_panel, random_graphs

_FINE = 10  # integration steps of an observed one


def relaxation(rng: np.random.Generator, stores: int) -> LawDraw:
    """FitzHugh-Nagumo cells, driven by noise and by the cells that are their parents."""
    nodes, steps = int(rng.integers(3, 9)), int(rng.integers(60, 250))
    edges = random_graphs(rng, stores, nodes, rng.uniform(0.1, 0.35))
    pull, noise = rng.uniform(0.1, 0.6), rng.uniform(0.05, 0.4)
    slowness, drive = rng.uniform(0.05, 0.2, nodes), rng.uniform(0.0, 0.6, nodes)
    step = rng.uniform(0.5, 1.5) / _FINE
    v, w = rng.standard_normal((2, stores, nodes))
    out = np.empty((stores, steps + 20, nodes))
    for t in range(steps + 20):
        for _ in range(_FINE):
            felt = pull * (np.einsum("si,sij->sj", v, edges) - edges.sum(1) * v)
            shock = noise * np.sqrt(step) * rng.standard_normal(v.shape)
            v, w = (
                np.clip(v + step * (v - v**3 / 3.0 - w + drive + felt) + shock, -4.0, 4.0),
                w + step * slowness * (v + 0.7 - 0.8 * w),
            )
        out[:, t] = v
    return foreign_panel(rng, out[:, 20:], edges)


def lorenz(rng: np.random.Generator, stores: int) -> LawDraw:
    """Lorenz-96: dx_j/dt = (x_(j+1) - x_(j-2)) x_(j-1) - x_j + F, observed every 0.1."""
    nodes, steps, force = int(rng.integers(5, 11)), int(rng.integers(100, 300)), rng.uniform(8, 12)
    edges = np.zeros((nodes, nodes), dtype=bool)
    for j in range(nodes):
        edges[[(j + 1) % nodes, (j - 2) % nodes, (j - 1) % nodes], j] = True
    x = force + rng.standard_normal((stores, nodes))
    out = np.empty((stores, steps + 50, nodes))
    for t in range(steps + 50):
        for _ in range(_FINE):
            x = _rk4(x, 0.1 / _FINE, force)
        out[:, t] = x
    noisy = out[:, 50:] + 0.1 * rng.standard_normal((stores, steps, nodes))
    order = rng.permutation(nodes)  # neighbours on the ring must not be neighbours in the table
    return foreign_panel(
        rng, noisy[..., order], np.tile(edges[np.ix_(order, order)], (stores, 1, 1))
    )


def kuramoto(rng: np.random.Generator, stores: int) -> LawDraw:
    """Phases that follow the phases of their parents, observed as their cosine."""
    nodes, steps = int(rng.integers(4, 9)), int(rng.integers(80, 250))
    edges = random_graphs(rng, stores, nodes, rng.uniform(0.15, 0.4))
    speed = rng.uniform(0.5, 3.0, (stores, nodes))
    pull, noise, step = rng.uniform(0.5, 1.5), rng.uniform(0.1, 0.4), 0.3 / _FINE
    phase = rng.uniform(0.0, 6.28, (stores, nodes))
    out = np.empty((stores, steps, nodes))
    for t in range(steps):
        for _ in range(_FINE):
            apart = np.sin(phase[:, :, None] - phase[:, None, :])  # sender - receiver
            shock = noise * np.sqrt(step) * rng.standard_normal(phase.shape)
            phase = phase + step * (speed + pull * (edges * apart).sum(1)) + shock
        out[:, t] = np.cos(phase)
    return foreign_panel(rng, out, edges)


def springs(rng: np.random.Generator, stores: int) -> LawDraw:
    """Damped masses on springs to their parents, kicked by noise; only places are observed."""
    nodes, steps = int(rng.integers(4, 9)), int(rng.integers(80, 250))
    edges = random_graphs(rng, stores, nodes, rng.uniform(0.15, 0.35))
    pull, damping, step = rng.uniform(0.3, 1.0), rng.uniform(0.2, 0.6), 0.5 / _FINE
    place, speed = np.zeros((2, stores, nodes))
    out = np.empty((stores, steps, nodes))
    for t in range(steps):
        for _ in range(_FINE):
            felt = pull * (np.einsum("si,sij->sj", place, edges) - edges.sum(1) * place)
            shock = np.sqrt(step) * rng.standard_normal(place.shape)
            speed = speed + step * (felt - 0.5 * place - damping * speed) + shock
            place = place + step * speed
        out[:, t] = place
    return foreign_panel(rng, out, edges)


def _rk4(x: Array, step: float, force: float) -> Array:
    """One Runge-Kutta step of Lorenz-96."""

    def slope(at: Array) -> Array:
        ahead, back, further = (np.roll(at, k, axis=1) for k in (-1, 1, 2))
        return np.asarray((ahead - further) * back - at + force)

    a = slope(x)
    b = slope(x + 0.5 * step * a)
    c = slope(x + 0.5 * step * b)
    d = slope(x + step * c)
    return np.asarray(x + step / 6.0 * (a + 2.0 * b + 2.0 * c + d))
