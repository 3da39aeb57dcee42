"""Weekly panels with known contributions, drawn from laws inside and outside the model's family.

Only laws live here; what is measured on them is in ``weekly.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
YEAR = 365.25 / 7
HOLDOUT = 13


@dataclass(frozen=True)
class WeeklyPanel:
    """S stores, T weeks; series are channels, mediators, target.

    series [S, N, T];  controls [S, R, T];  roles, N of them.
    direct, total [S, C, T]: noise-free effect of each channel on the target, without and with what
    mediators carry;  mean [S, T]: target without this week's noise.
    """

    series: Array
    controls: Array
    roles: tuple[str, ...]
    direct: Array
    total: Array
    mean: Array


@dataclass(frozen=True)
class Law:
    """What varies between laws. ``share`` is the mean of a channel's effect at full saturation."""

    stores: int
    weeks: int
    channels: int
    share: float = 0.25
    mediated: int = 0
    outside: bool = False
    shift: float = 0.0


LAWS = {
    "weekly": Law(8, 156, 8),
    "mediated": Law(8, 156, 8, mediated=3),
    "national": Law(1, 104, 4, share=0.4),
    "wide": Law(50, 208, 30, share=0.067),
    "outside": Law(8, 156, 8, outside=True),
    "shift": Law(8, 156, 8, shift=-0.4),
}


def draw_panel(law: Law, seed: int) -> WeeklyPanel:
    """One panel. Spend is gamma with thirteen-week flights; each channel has a decay, a slope and a
    half saturation that stores share, and effects that differ by 15 % between stores."""
    rng = np.random.default_rng(seed)
    stores, weeks, channels = law.stores, law.weeks, law.channels
    t = np.arange(weeks)
    size = rng.lognormal(0, 0.3, stores)
    spend = _spend(rng, law, size)
    decay = rng.beta(1.5, 3.5, channels)
    curve = rng.uniform(0.8, 2.0, channels), rng.uniform(0.6, 2.5, channels)
    reference = spend.sum((0, 2)) / (spend > 0).sum((0, 2))
    relative = spend / reference[:, None]
    response = _response(relative, decay, curve, law.outside)
    effect = rng.lognormal(math.log(law.share), 0.5, channels)
    effect = effect * rng.lognormal(0, 0.15, (stores, channels))
    phase = rng.uniform(0, 6)
    season = 0.12 * np.sin(2 * np.pi * t / YEAR + phase) + 0.05 * np.sin(4 * np.pi * t / YEAR)
    trend = 0.1 * t / weeks * rng.normal(1, 0.5, stores)[:, None]
    controls = rng.normal(0, 1, (stores, 2, weeks))
    base = (1 + trend) * (1 + season) if law.outside else 1 + trend + season
    base = base * rng.lognormal(0, 0.1, stores)[:, None]
    if law.shift:
        begin = rng.integers(weeks // 3, weeks // 2, stores)
        length = rng.integers(20, weeks // 3, stores)
        inside = (t >= begin[:, None]) & (t < (begin + length)[:, None])
        base = base + law.shift * inside
    direct = effect[:, :, None] * response
    indirect, mediator, carried = _mediated(rng, law, response)
    mean = base + direct.sum(1) + carried + 0.03 * controls.sum(1)
    y = mean + 0.05 * rng.normal(size=(stores, weeks))
    level = 100_000 * size[:, None]
    parts = [spend] + ([mediator] if law.mediated else []) + [(y * level)[:, None]]
    roles = ("channel",) * channels + ("mediator",) * bool(law.mediated) + ("target",)
    wide = level[:, :, None]
    return WeeklyPanel(
        np.concatenate(parts, 1),
        controls,
        roles,
        direct * wide,
        (direct + indirect) * wide,
        mean * level,
    )


def _spend(rng: np.random.Generator, law: Law, size: Array) -> Array:
    shape = (law.stores, law.channels, law.weeks)
    spend = rng.gamma(1.2, 1 / 1.2, shape) * rng.lognormal(6, 0.8, law.channels)[:, None]
    flights = rng.random((law.channels, law.weeks // 13))
    running = flights < rng.uniform(0.4, 1.0, law.channels)[:, None]
    running[:, 0] = True
    spend *= np.repeat(running, 13, axis=1)[None, :, : law.weeks]
    return spend * size[:, None, None]


def _response(x: Array, decay: Array, curve: Sequence[Array], outside: bool) -> Array:
    """Responses [S, C, T] to relative spend: geometric and Hill, or Weibull and logistic."""
    if outside:
        lags = np.arange(13)
        shape, scale = 1.6, 0.5 + 4 * decay[:, None]
        z = (lags + 0.5) / scale
        kernel = z ** (shape - 1) * np.exp(-(z**shape))
        kernel = kernel / kernel.sum(1, keepdims=True)
        stock = np.stack(
            [[np.convolve(row, k)[: len(row)] for row, k in zip(s, kernel, strict=True)] for s in x]
        )
        pace = curve[0][:, None] / curve[1][:, None]
        grown: Array = (1 - np.exp(-pace * stock)) / (1 + np.exp(-pace * stock))
        return grown
    state, stock = np.zeros(x.shape[:2]), np.empty_like(x)
    for k in range(x.shape[2]):
        state = decay * state + (1 - decay) * x[:, :, k]
        stock[:, :, k] = state
    return hill(stock, curve[0][:, None], curve[1][:, None])


def hill(stock: Array, slope: Array, half: Array) -> Array:
    with np.errstate(divide="ignore"):
        response: Array = 1 / (1 + (half / stock) ** slope)
    return response


def _mediated(rng: np.random.Generator, law: Law, response: Array) -> tuple[Array, Array, Array]:
    """What the mediator carries from each channel [S, C, T], the mediator itself [S, 1, T], and
    what it adds to the target [S, T]."""
    stores, channels, weeks = response.shape
    if not law.mediated:
        return np.zeros_like(response), np.zeros((stores, 1, weeks)), np.zeros((stores, weeks))
    drives = np.zeros(channels)
    drives[: law.mediated] = rng.lognormal(math.log(0.8), 0.3, law.mediated)
    season = 0.1 * np.sin(2 * np.pi * np.arange(weeks) / YEAR + rng.uniform(0, 6))
    pushed = drives[:, None] * response
    clean = 0.6 + season + pushed.sum(1)
    noise = 0.06 * rng.normal(size=(stores, weeks))
    views = np.maximum(clean + noise, 0.01)
    slope, half, strength = np.array(1.2), np.array(1.5), 0.6
    added = strength * hill(views, slope, half)
    lost = np.stack(
        [
            strength * hill(np.maximum(views - pushed[:, c], 0.001), slope, half)
            for c in range(channels)
        ],
        1,
    )
    return added[:, None] - lost, (5000 * views)[:, None], added
