"""The dynamics: what one step does to all series of a group of stores. No random numbers here.

Series are in units of their own typical level; levels are applied by the caller.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
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
    active           [T, B, N]   factor on what a series gains: 0 where a channel is silent and
                     takes no induced spend, trend and season where the law multiplies by them, else
                     1 (bool where it is 0 or 1 throughout)
    noise            [T, B, N]   zero for channels
    effects          [B, N, N]   sender i on receiver j, zero where there is no edge; they act from
                     step ``turn`` on, before it ``earlier_effects`` do
    lag              int64 [N, N]  steps after which sender i acts on receiver j; 0 = within the
                     step, for senders of an earlier stage only
    decay, own_memory  [N]       own_memory is zero for channels
    kernel           [L, N]      weight of the values of 0 .. L-1 steps ago, in place of the
                     geometric carry-over by ``decay``; None = geometric
    carry_in         [N]         carry-over of each sender before the window
    slope, half_saturation  [B, N]
    saturation       a name out of ``SATURATIONS``
    levels           [B, N]      typical level of each series, in the user's units
    floor            [N]
    archetype        int64 [B]
    context          [B, C]
    controls         [T, B, R];  control_effects  [B, R] on the target's exogenous part, which holds
                     them already
    channels         number of channels; they come first, then mediators, then the target
    """

    exogenous: Array
    active: NDArray[np.bool_] | Array
    noise: Array
    effects: Array
    earlier_effects: Array
    turn: int
    lag: NDArray[np.int64]
    decay: Array
    own_memory: Array
    kernel: Array | None
    carry_in: Array
    slope: Array
    half_saturation: Array
    saturation: str
    levels: Array
    floor: Array
    archetype: NDArray[np.int64]
    context: NDArray[np.float64]
    controls: Array
    control_effects: Array
    channels: int

    @property
    def mediators(self) -> slice:
        return slice(self.channels, len(self.floor) - 1)

    @property
    def stages(self) -> list[slice]:
        """Series in the order in which a step settles them: all at once where no effect acts within
        the step; else channels, then each mediator, then the target."""
        n = len(self.floor)
        if self.lag.all():
            return [slice(0, n)]
        return [slice(0, self.channels), *(slice(j, j + 1) for j in range(self.channels, n))]


def hill(carried: Array, slope: Array, half_saturation: Array) -> Array:
    """a^slope / (a^slope + half_saturation^slope) for a >= 0; 0 where a = 0."""
    with np.errstate(divide="ignore", over="ignore"):
        return np.asarray(1.0 / (1.0 + (half_saturation / carried) ** slope))


def logistic(carried: Array, slope: Array, half_saturation: Array) -> Array:
    """(1 - e^-ka) / (1 + e^-ka), with k such that it is 1/2 at half_saturation; no slope."""
    return np.asarray(np.tanh(0.5 * np.log(3.0) * carried / half_saturation))


def logarithm(carried: Array, slope: Array, half_saturation: Array) -> Array:
    """log2(1 + a / half_saturation) / 2: 1/2 at half_saturation, without a bound; no slope."""
    return np.asarray(0.5 * np.log2(1.0 + carried / half_saturation))


SATURATIONS: dict[str, Callable[[Array, Array, Array], Array]] = {
    "hill": hill,
    "logistic": logistic,
    "log": logarithm,
}


class Senders:
    """Responses of all senders, step by step: carry-over of their values, then saturation."""

    def __init__(self, stores: Stores) -> None:
        self.stores = stores
        self.carried = np.ones_like(stores.levels) * stores.carry_in
        depth = 0 if stores.kernel is None else len(stores.kernel)
        self.recent = np.broadcast_to(self.carried, (depth, *self.carried.shape)).copy()
        self.response = self._saturated(slice(0, self.carried.shape[1]))

    def add(self, values: Array, nodes: slice) -> None:
        """Take in this step's values [B, n] of some series."""
        kernel = self.stores.kernel
        if kernel is None:
            decay = self.stores.decay[nodes]
            self.carried[:, nodes] = decay * self.carried[:, nodes] + (1.0 - decay) * values
        else:
            self.recent[1:, :, nodes] = self.recent[:-1, :, nodes]
            self.recent[0, :, nodes] = values
            past = self.recent[:, :, nodes]
            self.carried[:, nodes] = np.einsum("ln,lbn->bn", kernel[:, nodes], past)
        self.response[:, nodes] = self._saturated(nodes)

    def _saturated(self, nodes: slice) -> Array:
        saturate = SATURATIONS[self.stores.saturation]
        slope, half = self.stores.slope[:, nodes], self.stores.half_saturation[:, nodes]
        return saturate(self.carried[:, nodes], slope, half)


def run(
    stores: Stores, *, noise: bool, multiplier: Array | None = None, held: Array | None = None
) -> Array:
    """Histories [T, B, N] in units of typical levels.

    For t = 0 .. T-1, with every sender's carry-over a at ``carry_in`` before the window:

        u_j(t) = own_memory_j u_j(t-1) + sum_i effects_ij s_i(t - lag_ij) [+ noise_j(t)]
        y_j(t) = exogenous_j(t) + active_j(t) u_j(t), at least floor_j
        a_j(t) = decay_j a_j(t-1) + (1 - decay_j) y_j(t),   s_j(t) = saturation(a_j(t))

    or a_j(t) = sum_l kernel_lj y_j(t - l). Where effects act within the step (lag 0) its series are
    worked out stage by stage: channels, mediators by rank, target.

    ``multiplier`` scales exogenous parts (any shape that broadcasts against [T, B, N]): the
    intervention by which contributions and marginal returns are defined. ``held`` is a history
    [T, B, N] whose mediators take the place of those that would follow. Hill and logistic responses
    are bounded by 1, so histories are bounded whatever the graph.
    """
    exogenous = stores.exogenous if multiplier is None else stores.exogenous * multiplier
    senders, stages = Senders(stores), stores.stages
    longest = int(stores.lag.max())
    past = deque([senders.response.copy()] * longest, maxlen=longest)
    now, at_once = _by_lag(stores.earlier_effects if stores.turn else stores.effects, stores.lag)
    gained = _received(past, now)
    if at_once is not None:
        gained = gained + _weighted(senders.response, at_once)
    gained = gained / (1.0 - stores.own_memory)
    history = np.empty_like(stores.exogenous)
    for t in range(len(history)):
        if t and t == stores.turn:
            now, at_once = _by_lag(stores.effects, stores.lag)
        gained = stores.own_memory * gained + _received(past, now)
        if noise:
            gained = gained + stores.noise[t]
        for nodes in stages:
            values = exogenous[t][:, nodes] + stores.active[t][:, nodes] * gained[:, nodes]
            history[t][:, nodes] = np.maximum(values, stores.floor[nodes])
            if held is not None:
                history[t][:, stores.mediators] = held[t][:, stores.mediators]
            senders.add(history[t][:, nodes], nodes)
            if at_once is not None:
                gained = gained + _weighted(senders.response[:, nodes], at_once[:, nodes])
        past.appendleft(senders.response.copy())
    return history


def responses(stores: Stores, history: Array) -> Array:
    """Saturated carry-over [T, B, N] of every sender in a history [T, B, N]."""
    senders, out = Senders(stores), np.empty_like(history)
    for t, values in enumerate(history):
        senders.add(values, slice(0, values.shape[1]))
        out[t] = senders.response
    return out


def _by_lag(effects: Array, lag: NDArray[np.int64]) -> tuple[dict[int, Array], Array | None]:
    """The effects [B, N, N] that act after each number of steps; those within the step, if any."""
    parts = {int(steps): np.where(lag == steps, effects, 0.0) for steps in np.unique(lag)}
    at_once = parts.pop(0, None)
    return parts, at_once


def _received(past: deque[Array], effects: dict[int, Array]) -> Array:
    """What every series gets from the responses of the last steps (latest first)."""
    parts = [_weighted(past[lag - 1], part) for lag, part in effects.items()]
    return np.asarray(sum(parts))


def _weighted(response: Array, effects: Array) -> Array:
    """What every series [B, N] gets from responses [B, n] of senders."""
    return np.asarray(np.einsum("bi,bij->bj", response, effects))
