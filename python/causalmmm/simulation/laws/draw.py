"""``LawDraw``: panels of one law with their graphs, and how foreign series become one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causalmmm.engine.spec.series import SeriesData

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
_STEP_DAYS = {"D": 1, "W-MON": 7}


@dataclass(frozen=True)
class LawDraw:
    """S stores drawn under one setting of a law.

    data      their series
    edges     bool [S, N, N], sender by receiver; the diagonal is False
    positive  bool [N, N], effects that a user would declare as never negative
    """

    data: SeriesData
    edges: Mask
    positive: Mask


def positive_pairs(roles: tuple[str, ...]) -> Mask:
    """bool [N, N]: spend does not lower a mediator or the target."""
    spend = np.array([role == "channel" for role in roles])
    return np.asarray(spend[:, None] & ~spend)


def random_roles(rng: np.random.Generator, nodes: int) -> tuple[str, ...]:
    """Channels, up to two mediators, the target last."""
    mediators = int(rng.integers(0, min(3, nodes - 1)))
    return (*("channel",) * (nodes - mediators - 1), *("mediator",) * mediators, "target")


def rank_of(roles: tuple[str, ...]) -> NDArray[np.int64]:
    """int64 [N]: the order in which a step settles series; channels are settled at once."""
    channels = sum(role == "channel" for role in roles)
    return np.maximum(np.arange(len(roles)) - channels + 1, 0)


def foreign_panel(
    rng: np.random.Generator, x: Array, edges: Mask, roles: tuple[str, ...] | None = None
) -> LawDraw:
    """Series [S, T, N] of a law without marketing in it, on a random calendar and level.

    Most users of such data declare that effects have either sign; some do not.
    """
    stores, steps, nodes = x.shape
    roles = random_roles(rng, nodes) if roles is None else roles
    x = x / np.maximum(x.std(1, keepdims=True), 1e-9)
    if rng.random() < 0.5:
        x = x + rng.uniform(0.0, 8.0, (1, 1, nodes))
    freq = "D" if rng.random() < 0.6 else "W-MON"
    days = np.arange(steps) * _STEP_DAYS[freq]
    data = SeriesData(
        values=np.ascontiguousarray(x.reshape(stores * steps, nodes), dtype=np.float32),
        offsets=np.arange(stores + 1, dtype=np.int64) * steps,
        start=np.zeros(stores, dtype=np.int64),
        grid=np.datetime64("2024-01-01", "D") + days.astype("timedelta64[D]"),
        freq=freq,
        roles=roles,
        controls=np.zeros((stores * steps, 0), np.float32),
        context=np.zeros((stores, 0), np.float32),
    )
    declared = positive_pairs(roles) if rng.random() < 0.3 else np.zeros((nodes, nodes), bool)
    return LawDraw(data, edges, declared)


def random_graphs(
    rng: np.random.Generator, stores: int, nodes: int, density: float | None = None
) -> Mask:
    """bool [S, N, N]: one graph for all stores, a few, or one for each."""
    share = rng.uniform(0.08, 0.4) if density is None else density
    kinds = int(rng.choice([1, 3, stores]))
    graphs = rng.random((kinds, nodes, nodes)) < share
    graphs[:, np.arange(nodes), np.arange(nodes)] = False
    return np.asarray(graphs[rng.integers(kinds, size=stores)])


def random_steps(rng: np.random.Generator) -> int:
    """Length of a history: 50 to 300 steps, some up to 700, some 26 to 70."""
    shortest, longest = 50.0, 700.0 if rng.random() < 0.15 else 300.0
    if rng.random() < 0.15:
        shortest, longest = 26.0, 70.0
    return round(float(np.exp(rng.uniform(np.log(shortest), np.log(longest)))))
