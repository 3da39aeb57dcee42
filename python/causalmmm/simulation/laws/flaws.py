"""Autoregressions as they are met: measured with error, with gaps, trends and cycles of their own,
coefficients and noise that change, steps left out, effects within a step that no role orders.

Series come out as [S, T, N]; ``draw.foreign_panel`` gives them roles, level and calendar.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from causalmmm.simulation.laws.draw import (
    Array,
    LawDraw,
    Mask,
    foreign_panel,
    random_graphs,
    random_steps,
)

_BURN = 60
_BOUND = 30.0  # of series of unit noise: a setting that explodes stays finite
_LAGS = 3
_BENT: tuple[Callable[[Array], Array], ...] = (
    np.tanh,
    lambda a: a / (1.0 + 0.5 * a**2),
    lambda a: np.maximum(a, 0.0) - 0.4,
)
_FLAWS = ("error", "gaps", "trend", "noise", "coefficients", "steps", "none")
_OFTEN = (0.2, 0.15, 0.25, 0.15, 0.1, 0.1, 0.05)


@dataclass(frozen=True)
class _Process:
    """A vector autoregression of S stores.

    lagged   [phases, S, L, N, N], weights by part of the history, lag 1 first.
    at_once  [S, N, N], within the step, without cycles.
    shape    of what past values are felt as.
    """

    lagged: Array
    at_once: Array
    shape: Callable[[Array], Array]

    def run(self, noise: Array) -> Array:
        """Series [S, T, N] after a burn-in, from noise [S, T + burn-in, N]."""
        stores, total, nodes = noise.shape
        phases = len(self.lagged)
        flat = self.lagged.reshape(phases, stores, -1, nodes)  # [phases, S, L N, N]
        through = np.linalg.inv(np.eye(nodes) - self.at_once)
        felt = np.zeros((stores, self.lagged.shape[2], nodes))
        x = np.empty_like(noise)
        for t in range(total):
            phase = max(0, t - _BURN) * phases // max(total - _BURN, 1)
            moved = (felt.reshape(stores, 1, -1) @ flat[phase])[:, 0] + noise[:, t]
            now = np.clip((moved[:, None] @ through)[:, 0], -_BOUND, _BOUND)
            x[:, t] = now
            felt[:, 1:] = felt[:, :-1]
            felt[:, 0] = self.shape(now)
        return x[:, _BURN:]


def imperfect(rng: np.random.Generator, stores: int) -> LawDraw:
    """A stable autoregression with one or two flaws of the process or of how it is observed."""
    nodes, steps = int(rng.integers(3, 12)), random_steps(rng)
    flaws = set(rng.choice(_FLAWS, size=2, p=_OFTEN))
    edges = random_graphs(rng, stores, nodes, rng.uniform(0.05, 0.3))
    every = int(rng.integers(2, 4)) if "steps" in flaws else 1
    phases = int(rng.integers(2, 4)) if "coefficients" in flaws else 1
    at_once = np.zeros((stores, nodes, nodes))
    lagged = _stable(rng, edges, at_once, phases)
    bent = _BENT[rng.integers(len(_BENT))] if rng.random() < 0.2 else _as_it_is
    noise = _shocks(rng, (stores, steps * every + _BURN, nodes))
    if "noise" in flaws:
        noise = noise * _volatility(rng, noise.shape)
    x = _Process(lagged, at_once, bent).run(noise)[:, ::every]
    return foreign_panel(rng, _observed(rng, x, flaws), edges)


def simultaneous(rng: np.random.Generator, stores: int) -> LawDraw:
    """Effects within the step in an order that no role tells: linear, after shocks that are rarely
    normal, on their own or beside lagged ones; some seen through a blur of each series' own."""
    nodes, steps = int(rng.integers(3, 12)), random_steps(rng)
    density = rng.uniform(0.08, 0.35)
    edges = random_graphs(rng, stores, nodes, density)
    order = rng.permutation(nodes)
    edges = edges & ((order[:, None] < order) | (rng.random() < 0.4))
    instant = edges & (order[:, None] < order)
    kept = rng.random((nodes, nodes)) < rng.choice([1.0, rng.uniform(0.3, 1.0)])
    instant = instant & kept
    size = rng.uniform(0.2, 0.9, edges.shape) * rng.choice([-1.0, 1.0], (nodes, nodes))
    size = np.abs(size) if rng.random() < 0.4 else size
    if rng.random() < 0.5:
        edges = instant
    later = edges & ~instant if rng.random() < 0.5 else edges
    at_once = instant * size
    noise = _shocks(rng, (stores, steps + _BURN, nodes), usual=0.25)
    x = _Process(_stable(rng, later, at_once, 1), at_once, _as_it_is).run(noise)
    if rng.random() < 0.3:
        x = _blurred(rng, x)
    x = x + rng.choice([0.0, rng.uniform(0.0, 0.2)]) * rng.standard_normal(x.shape) * x.std()
    return foreign_panel(rng, x, edges)


def _as_it_is(a: Array) -> Array:
    return a


def _stable(rng: np.random.Generator, edges: Mask, at_once: Array, phases: int) -> Array:
    """Weights [phases, S, L, N, N] on a graph, own memory included, of processes that are stable
    with the weights ``at_once`` [S, N, N] too; the phases have the same edges."""
    stores, nodes, _ = edges.shape
    lags = int(rng.integers(1, _LAGS + 1))
    if rng.random() < 0.3:
        kernel = np.ones((lags, nodes, nodes))  # the same weight at every lag
    else:
        first = rng.integers(0, lags, (nodes, nodes))
        kernel = (np.arange(lags)[:, None, None] == first) * 1.0
        kernel = np.maximum(kernel, rng.random(kernel.shape) < 0.2)
    own = np.zeros((lags, nodes, nodes))
    own[:, np.arange(nodes), np.arange(nodes)] = rng.uniform(-0.2, 0.4)
    own[0, np.arange(nodes), np.arange(nodes)] = rng.uniform(-0.1, 0.9, nodes)
    low = rng.uniform(0.1, 0.5)
    size = rng.uniform(low, low + 0.4, (phases, stores, lags, nodes, nodes))
    sign = rng.choice([-1.0, 1.0], (phases, 1, lags, nodes, nodes))
    if rng.random() < 0.4:
        sign = np.broadcast_to(sign[:, :, :1], sign.shape)
    lagged = size * sign * kernel * edges[:, None] + own
    radius = rng.uniform(0.5, 0.97)
    companion = np.zeros((phases, stores, lags * nodes, lags * nodes))
    through = np.linalg.inv(np.eye(nodes) - at_once)
    companion[..., :nodes] = lagged.reshape(phases, stores, lags * nodes, nodes) @ through
    rest = np.arange((lags - 1) * nodes)
    companion[..., rest, nodes + rest] = 1.0
    found = np.abs(np.linalg.eigvals(companion)).max(-1)
    # weights of lag k times c^k multiply every eigenvalue by c
    scale = np.minimum(1.0, radius / np.maximum(found, 1e-9))[..., None, None, None]
    return np.asarray(lagged * scale ** np.arange(1, lags + 1)[:, None, None])


def _shocks(rng: np.random.Generator, size: tuple[int, ...], usual: float = 0.65) -> Array:
    """Noise of unit scale: normal, heavy-tailed, skewed, even or in bursts; by series or alike."""
    if rng.random() < usual:
        return rng.standard_normal(size)
    kind = rng.integers(5)
    if kind == 0:
        return np.asarray(np.clip(rng.standard_t(2.5 + 2.0 * rng.random(), size), -9.0, 9.0) / 1.6)
    if kind == 1:
        return np.asarray(rng.gamma(shape := rng.uniform(0.5, 3.0), 1.0, size) - shape) / (
            shape**0.5
        )
    if kind == 2:
        return np.asarray(rng.uniform(-1.73, 1.73, size))
    if kind == 3:
        return np.asarray(rng.laplace(0.0, 0.71, size))
    # on and off at random, for some steps each
    share, pace = rng.uniform(0.1, 0.5), rng.uniform(0.1, 0.6)
    flips = rng.random(size)
    on = np.zeros((size[0], size[2]), bool)
    out = np.empty(size)
    for t in range(size[1]):
        on = np.where(on, flips[:, t] >= pace, flips[:, t] < pace * share / (1.0 - share))
        out[:, t] = on
    spread = (share * (1.0 - share)) ** 0.5
    return np.asarray((out - share) / spread + 0.3 * rng.standard_normal(size))


def _volatility(rng: np.random.Generator, size: tuple[int, ...]) -> Array:
    """[S, T, N]: scale of noise that jumps, swings or wanders, by series or alike."""
    stores, steps, nodes = size
    alike = 1 if rng.random() < 0.4 else nodes
    time, kind = np.arange(steps)[None, :, None], rng.integers(3)
    if kind == 0:
        at = rng.integers(0, steps, (stores, 1, alike))
        log = np.log(rng.uniform(1.5, 8.0)) * (time >= at) * rng.choice([-1.0, 1.0])
    elif kind == 1:
        phase = rng.uniform(0.0, 6.28, (stores, 1, alike))
        log = rng.uniform(0.3, 1.2) * np.sin(6.28 * time / rng.uniform(20.0, 200.0) + phase)
    else:
        log = 0.1 * rng.standard_normal((stores, steps, alike)).cumsum(1)
        log = np.clip(log - log.mean(1, keepdims=True), -1.5, 1.5)
    return np.asarray(np.broadcast_to(np.exp(log), size))


def _observed(rng: np.random.Generator, x: Array, flaws: set[str]) -> Array:
    """Series as they are seen: trend and cycle of each, error, gaps that were filled."""
    stores, steps, nodes = x.shape
    x = x / np.maximum(x.std(1, keepdims=True), 1e-9)
    time = np.arange(steps)[None, :, None]
    if "trend" in flaws:
        slope = rng.choice([-1.0, 1.0], (stores, 1, nodes)) * rng.uniform(0.0, 2.5)
        period = rng.uniform(4.0, 60.0, (1, 1, nodes) if rng.random() < 0.5 else (1, 1, 1))
        phase = rng.uniform(0.0, 6.28, (stores, 1, nodes))
        height = rng.uniform(0.0, 2.5) * (rng.random() < 0.85)
        x = x + slope * 3.46 * (time / steps - 0.5)
        x = x + height * np.sin(6.28318 * time / period + phase)
    if "error" in flaws:
        x = x + np.exp(rng.uniform(np.log(0.1), np.log(1.3))) * rng.standard_normal(x.shape)
    if "gaps" in flaws:
        share, straight = rng.uniform(0.05, 0.5), rng.random() < 0.5
        for s in range(stores):
            for k in range(nodes):
                kept = np.flatnonzero(rng.random(steps) >= share)
                if len(kept) > 1:
                    last = np.maximum(np.searchsorted(kept, time[0, :, 0], side="right") - 1, 0)
                    values = x[s, kept, k]
                    x[s, :, k] = (
                        np.interp(time[0, :, 0], kept, values) if straight else values[last]
                    )
    return x


def _blurred(rng: np.random.Generator, x: Array) -> Array:
    """Each series through a rising and falling kernel of its own."""
    length = min(12, x.shape[1] // 4)
    time = np.arange(length)[:, None]
    peak, nodes = rng.uniform(0.5, 2.5), x.shape[-1]
    peaks = peak * np.exp(0.15 * rng.standard_normal(nodes))
    kernel = (time + 1.0) ** peaks * np.exp(-(time + 1.0))
    kernel = kernel / kernel.sum(0)
    padded = np.concatenate([np.repeat(x[:, :1], length - 1, axis=1), x], axis=1)
    steps = x.shape[1]
    parts = [kernel[k] * padded[:, length - 1 - k : length - 1 - k + steps] for k in range(length)]
    return np.asarray(np.sum(parts, axis=0))
