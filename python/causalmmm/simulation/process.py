"""The dynamics: what one step does to all series of a group of stores. No random numbers here.

Series are in units of their own typical level; levels are applied by the caller.
"""

from __future__ import annotations

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
    effects          [B, N, N]   sender i on receiver j, zero where there is no edge
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

        u_j(t) = own_memory_j u_j(t-1) + sum_i effects_ij s_i(t-1) [+ noise_j(t)]
        y_j(t) = exogenous_j(t) + running_j(t) u_j(t), at least floor_j
        a_j(t) = decay_j a_j(t-1) + (1 - decay_j) y_j(t),   s_j(t) = hill(a_j(t))

    ``multiplier`` scales exogenous parts (any shape that broadcasts against [T, B, N]): the
    intervention by which contributions and marginal returns are defined. Responses are bounded by
    1, so histories are bounded whatever the graph.
    """
    exogenous = stores.exogenous if multiplier is None else stores.exogenous * multiplier
    carried = np.ones_like(stores.levels)
    response = hill(carried, stores.slope, stores.half_saturation)
    gained = _received(response, stores.effects) / (1.0 - stores.own_memory)
    history = np.empty_like(stores.exogenous)
    for t in range(len(history)):
        gained = stores.own_memory * gained + _received(response, stores.effects)
        if noise:
            gained = gained + stores.noise[t]
        history[t] = np.maximum(exogenous[t] + stores.running[t] * gained, stores.floor)
        carried = stores.decay * carried + (1.0 - stores.decay) * history[t]
        response = hill(carried, stores.slope, stores.half_saturation)
    return history


def _received(response: Array, effects: Array) -> Array:
    return np.asarray(np.einsum("bi,bij->bj", response, effects))
