"""The dynamics: what one step does to all series of a group of stores. No random numbers here.

Series are in units of their own typical level; levels are applied by the caller.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Mediators and target stay positive: noise never takes them below this share of their level.
FLOOR = 0.02


@dataclass(frozen=True)
class Stores:
    """Everything that fixes the noise-free history of B stores; float64 unless said.

    exogenous        [T, B, N]   what each series is without effects
    running          bool [T, B, N]  False where a channel is silent and takes no induced spend
    noise            [T, B, N]   zero for channels
    effects          [B, N, N]   sender i on receiver j, zero where there is no edge; they act from
                     step ``turn`` on, before it ``earlier_effects`` do
    lag              int64 [N, N]  steps after which sender i acts on receiver j, at least 1
    decay, own_memory  [N]       own_memory is zero for channels
    slope, half_saturation  [B, N]
    levels           [B, N]      typical level of each series, in the user's units
    floor            [N]
    archetype        int64 [B]
    context          [B, C]
    """

    exogenous: Array
    running: NDArray[np.bool_]
    noise: Array
    effects: Array
    earlier_effects: Array
    turn: int
    lag: NDArray[np.int64]
    decay: Array
    own_memory: Array
    slope: Array
    half_saturation: Array
    levels: Array
    floor: Array
    archetype: NDArray[np.int64]
    context: Array


def hill(carried: Array, slope: Array, half_saturation: Array) -> Array:
    """a^slope / (a^slope + half_saturation^slope) for a >= 0; 0 where a = 0."""
    with np.errstate(divide="ignore", over="ignore"):
        return np.asarray(1.0 / (1.0 + (half_saturation / carried) ** slope))


def run(stores: Stores, *, noise: bool, multiplier: Array | None = None) -> Array:
    """Histories [T, B, N] in units of typical levels.

    For t = 0 .. T-1, with every sender's carry-over at its typical level (a = 1) before the window:

        u_j(t) = own_memory_j u_j(t-1) + sum_i effects_ij s_i(t - lag_ij) [+ noise_j(t)]
        y_j(t) = exogenous_j(t) + running_j(t) u_j(t), at least floor_j
        a_j(t) = decay_j a_j(t-1) + (1 - decay_j) y_j(t),   s_j(t) = hill(a_j(t))

    ``multiplier`` scales exogenous parts (any shape that broadcasts against [T, B, N]): the
    intervention by which contributions and marginal returns are defined. Responses are bounded by
    1, so histories are bounded whatever the graph.
    """
    exogenous = stores.exogenous if multiplier is None else stores.exogenous * multiplier
    carried = np.ones_like(stores.levels)
    response = hill(carried, stores.slope, stores.half_saturation)
    past = deque([response] * int(stores.lag.max()), maxlen=int(stores.lag.max()))
    now = _by_lag(stores.earlier_effects if stores.turn else stores.effects, stores.lag)
    gained = _received(past, now) / (1.0 - stores.own_memory)
    history = np.empty_like(stores.exogenous)
    for t in range(len(history)):
        if t and t == stores.turn:
            now = _by_lag(stores.effects, stores.lag)
        gained = stores.own_memory * gained + _received(past, now)
        if noise:
            gained = gained + stores.noise[t]
        history[t] = np.maximum(exogenous[t] + stores.running[t] * gained, stores.floor)
        carried = stores.decay * carried + (1.0 - stores.decay) * history[t]
        past.appendleft(hill(carried, stores.slope, stores.half_saturation))
    return history


def _by_lag(effects: Array, lag: NDArray[np.int64]) -> dict[int, Array]:
    """The effects [B, N, N] that act after each number of steps."""
    return {int(steps): np.where(lag == steps, effects, 0.0) for steps in np.unique(lag)}


def _received(past: deque[Array], effects: dict[int, Array]) -> Array:
    """What every series gets from the responses of the last steps (latest first)."""
    parts = [np.einsum("bi,bij->bj", past[lag - 1], part) for lag, part in effects.items()]
    return np.asarray(sum(parts))
