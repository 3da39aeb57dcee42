"""Groups of stores with similar graphs, and each group's mean graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_MOST = 5
_WORTH = 0.25  # of the spread within groups that one more group must remove
_ROUNDS = 30


def clustered(
    probability: NDArray[Any], effect: NDArray[Any], pairs: pd.DataFrame
) -> tuple[NDArray[np.int64], pd.DataFrame]:
    """Group [S] of every store, largest group first, and the groups' mean graphs.

    Stores are grouped by k-means on their edge probabilities [S, pairs]; another group is opened
    while that removes a quarter of the spread. Rows of the table: group (0 for all stores), stores,
    source, target, probability, share (of stores with the edge at one half or more), effect.
    """
    label = _groups(probability.astype(np.float64))
    order = np.argsort(-np.bincount(label), kind="stable")
    label = np.argsort(order)[label]
    members = [np.ones(len(label), bool), *(label == k for k in range(label.max() + 1))]
    if len(members) == 2:
        members = members[:1]
    graphs = [
        pairs.assign(
            group=group,
            stores=int(inside.sum()),
            probability=probability[inside].mean(0, dtype=np.float64),
            share=(probability[inside] >= 0.5).mean(0),
            effect=effect[inside].mean(0, dtype=np.float64),
        )
        for group, inside in enumerate(members)
    ]
    return label, pd.concat(graphs, ignore_index=True)


def _groups(points: NDArray[np.float64]) -> NDArray[np.int64]:
    label = np.zeros(len(points), np.int64)
    spread = _spread(points, label)
    for count in range(2, min(_MOST, len(points) // 3) + 1):
        finer = _k_means(points, count)
        left = _spread(points, finer)
        if left > (1 - _WORTH) * spread:
            break
        label, spread = finer, left
    return label


def _k_means(points: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Lloyd's algorithm from centres far apart: the same in every run."""
    centres = [points.mean(0)]
    for _ in range(count):
        distance = np.min([((points - c) ** 2).sum(1) for c in centres], 0)
        centres.append(points[int(distance.argmax())])
    middle = np.stack(centres[1:])
    for _ in range(_ROUNDS):
        label = ((points[:, None] - middle) ** 2).sum(-1).argmin(1)
        middle = np.stack([
            points[label == k].mean(0) if (label == k).any() else middle[k] for k in range(count)
        ])  # fmt: skip
    return np.unique(label, return_inverse=True)[1].astype(np.int64)


def _spread(points: NDArray[np.float64], label: NDArray[np.int64]) -> float:
    return sum(
        float(((points[label == k] - points[label == k].mean(0)) ** 2).sum())
        for k in range(label.max() + 1)
    )
