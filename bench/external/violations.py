"""A vector autoregression, and what it looks like when an assumption of discovery does not hold.

After TCD-Arena (Stein et al., ICLR 2026), by its published settings: 250 steps, links with
probability 0.075 at each of three lags, coefficients of 0.3 to 0.5 with either sign, normal noise
of unit variance, a stable process. Each violation is of one strength, near the top of its range.
numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.external.world import Array, Mask, World, foreign

NODES, STEPS, LAGS, BURN = 7, 250, 3, 100
LINK, COEFFICIENT = 0.075, (0.3, 0.5)
SOURCE = "after TCD-Arena"
_STABLE = 0.95


@dataclass(frozen=True)
class Setting:
    """One violation; the default violates nothing."""

    steps: int = STEPS
    within_step: bool = False  # links of 30 % of pairs act at once, in a hidden order of series
    hidden: int = 0  # series that drive 60 % of the others and are not seen
    noise: str = "normal"
    nonlinear: bool = False
    breaks: bool = False  # coefficients are drawn anew half way, for the same graph
    error: float = 0.0  # measurement noise, in standard deviations of the series
    missing: float = 0.0  # share of values that are lost and filled by interpolation
    trend: float = 0.0  # straight line and season, in standard deviations
    every: int = 1  # only each so-manieth step is seen


VIOLATIONS = {
    "none": Setting(),
    "effects within the step": Setting(within_step=True),
    "common causes": Setting(hidden=2),
    "heavy tails": Setting(noise="t"),
    "skewed noise": Setting(noise="exponential"),
    "nonlinear": Setting(nonlinear=True),
    "coefficients change": Setting(breaks=True),
    "measurement error": Setting(error=1.0),
    "missing values": Setting(missing=0.4),
    "trend and season": Setting(trend=2.0),
    "every second step": Setting(every=2),
    "60 steps": Setting(steps=60),
}


def violated(name: str, stores: int, seed: int) -> World:
    """Stores of one violation, each with a graph of its own."""
    place = list(VIOLATIONS).index(name)
    drawn = [
        _store(VIOLATIONS[name], np.random.default_rng([seed, place, k])) for k in range(stores)
    ]
    series, edges = (np.stack(part) for part in zip(*drawn, strict=True))
    return foreign(f"violation: {name}", SOURCE, series, edges)


def _store(setting: Setting, rng: np.random.Generator) -> tuple[Array, Mask]:
    """Series [T, N] and edges [N, N]."""
    nodes = NODES + setting.hidden
    links = rng.random((LAGS, nodes, nodes)) < LINK
    off = np.eye(nodes, dtype=bool)
    links[0] |= off  # each series remembers its last step
    at_once = np.zeros((nodes, nodes), bool)
    if setting.within_step:
        order = rng.permutation(nodes)
        at_once = (rng.random((nodes, nodes)) < 0.3) & (order[:, None] < order) & links.any(0)
        at_once |= (rng.random((nodes, nodes)) < 0.05) & (order[:, None] < order)
    if setting.hidden:
        links[:, NODES:] = False
        links[:, :, NODES:] = False
        for k in range(NODES, nodes):
            links[0, k, k] = True
            driven = np.flatnonzero(rng.random(NODES) < 0.6)
            links[rng.integers(0, LAGS, len(driven)), k, driven] = True
    coefficients = [_coefficients(rng, links, at_once) for _ in range(2 if setting.breaks else 1)]
    x = _run(rng, setting, coefficients, nodes)[:, :NODES]
    x = x[:: setting.every]
    x = x / x.std(0)
    t = np.arange(len(x))
    if setting.trend:
        slope, phase = rng.choice([-1.0, 1.0], NODES), rng.uniform(0, 6.28, NODES)
        line = setting.trend * slope * np.sqrt(12) * (t[:, None] / len(x) - 0.5)
        x = x + line + setting.trend / 2 * np.sqrt(2) * np.sin(t[:, None] * 2 * np.pi / 12 + phase)
    x = x + setting.error * rng.standard_normal(x.shape)
    if setting.missing:
        for column in x.T:
            kept = rng.random(len(x)) >= setting.missing
            column[:] = np.interp(t, t[kept], column[kept])
    return x, ((links.any(0) | at_once) & ~off)[:NODES, :NODES]


def _coefficients(rng: np.random.Generator, links: Mask, at_once: Mask) -> tuple[Array, Array]:
    """Those at lags 1 to 3 [L, N, N] and within the step [N, N]; smaller until they are stable."""

    def sizes(shape: tuple[int, ...]) -> Array:
        return rng.uniform(*COEFFICIENT, shape) * rng.choice([-1.0, 1.0], shape)

    lagged, now = sizes(links.shape) * links, sizes(at_once.shape) * at_once
    nodes = len(now)
    while True:
        reached = np.linalg.inv(np.eye(nodes) - now.T)
        step = np.zeros((LAGS * nodes, LAGS * nodes))
        step[:nodes] = np.hstack([reached @ a.T for a in lagged])
        step[nodes:, :-nodes] = np.eye((LAGS - 1) * nodes)
        if np.abs(np.linalg.eigvals(step)).max() < _STABLE:
            return lagged, now
        lagged = 0.95 * lagged


def _run(
    rng: np.random.Generator,
    setting: Setting,
    coefficients: list[tuple[Array, Array]],
    nodes: int,
) -> Array:
    steps = setting.steps * setting.every
    noise = _noise(rng, setting.noise, (steps + BURN, nodes))
    x = np.zeros_like(noise)
    late = BURN + steps // 2
    for t in range(LAGS, steps + BURN):
        lagged, now = coefficients[-1 if t >= late else 0]
        felt = _bent(x[t - LAGS : t][::-1]) if setting.nonlinear else x[t - LAGS : t][::-1]
        shock = noise[t] + np.einsum("li,lij->j", felt, lagged)
        x[t] = np.linalg.solve(np.eye(nodes) - now.T, shock) if now.any() else shock
    return x[BURN:]


def _bent(x: Array) -> Array:
    """A response that rises, falls again and is not odd."""
    return np.asarray(2.0 * x * np.exp(-(x**2) / 2.0) + 0.5 * np.tanh(x) ** 2)


def _noise(rng: np.random.Generator, kind: str, shape: tuple[int, int]) -> NDArray[np.float64]:
    if kind == "t":
        return np.asarray(rng.standard_t(2.5, shape) / np.sqrt(5.0))
    if kind == "exponential":
        return np.asarray(rng.exponential(1.0, shape) - 1.0)
    return rng.standard_normal(shape)
