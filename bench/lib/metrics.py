"""Metrics of estimated edges against known graphs, and of forecasts against what happened.

Arrays in, numbers out; no model, no file, no simulation here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]


def edge_metrics(scores: Array, edges: Mask) -> dict[str, float]:
    """AUROC and AUPRC of scores [S, N, N] for edges bool [S, N, N]; the diagonal does not count.

    ``auroc``, ``auprc``: mean over stores whose graph is neither empty nor full. ``pooled_*``: all
    pairs of all stores at once. ``heterogeneous_auroc``: within each ordered pair that is an edge
    in some stores and absent in others, between stores, averaged over such pairs: what a graph that
    is the same for every store cannot know (it scores 0.5). ``stores``: how many stores counted.
    """
    off = ~np.eye(edges.shape[-1], dtype=bool)
    s, e = scores[:, off], edges[:, off]
    mixed = [k for k in range(len(e)) if 0 < e[k].sum() < e.shape[1]]
    pairs = [p for p in range(e.shape[1]) if 0 < e[:, p].sum() < len(e)]
    return {
        "auroc": _mean(roc_auc_score(e[k], s[k]) for k in mixed),
        "auprc": _mean(average_precision_score(e[k], s[k]) for k in mixed),
        "pooled_auroc": float(roc_auc_score(e.ravel(), s.ravel())),
        "pooled_auprc": float(average_precision_score(e.ravel(), s.ravel())),
        "heterogeneous_auroc": _mean(roc_auc_score(e[:, p], s[:, p]) for p in pairs),
        "stores": float(len(mixed)),
    }


def calibration(probability: Array, edges: Mask, bins: int = 10) -> dict[str, float]:
    """How far probabilities of edges [S, N, N] can be believed; the diagonal does not count.

    ``true_share_80_100``: share of true edges among pairs given at least 0.8 (NaN when none is),
    ``pairs_80_100``: how many those are; ``ece``: expected calibration error over equal bins.
    """
    off = ~np.eye(edges.shape[-1], dtype=bool)
    return pair_calibration(probability[:, off].ravel(), edges[:, off].ravel(), bins)


def pair_calibration(probability: Array, edges: Mask, bins: int = 10) -> dict[str, float]:
    """As ``calibration``, of probabilities [P] and edges [P] of any pairs."""
    p, e = probability.astype(float), edges
    sure = p >= 0.8
    bucket = np.minimum((p * bins).astype(int), bins - 1)
    count = np.bincount(bucket, minlength=bins)
    gap = np.abs(np.bincount(bucket, p, bins) - np.bincount(bucket, e, bins))
    return {
        "true_share_80_100": float(e[sure].mean()) if sure.any() else float("nan"),
        "pairs_80_100": float(sure.sum()),
        "ece": float(gap.sum() / count.sum()),
    }


def normalised_auprc(scores: Array, edges: Mask) -> float:
    """Mean over stores of (AUPRC - share of edges) / (1 - share of edges): 0 for
    uninformative scores, 1 for perfect ones; stores without or with all edges are skipped."""
    off = ~np.eye(edges.shape[-1], dtype=bool)
    values = []
    for s, e in zip(scores[:, off], edges[:, off], strict=True):
        if 0 < e.sum() < len(e):
            values.append((average_precision_score(e, s) - e.mean()) / (1.0 - e.mean()))
    return _mean(values)


def decision_metrics(decided: Mask, edges: Mask) -> dict[str, float]:
    """Decided edges [S, N, N] against the truth; the diagonal does not count.

    ``accuracy``: share of pairs decided rightly; ``shd``: structural Hamming distance, the mean
    over stores of edges to add, to take away or to turn round (a turn counts once).
    """
    off = ~np.eye(edges.shape[-1], dtype=bool)
    wrong = (decided != edges) & off
    missed, added = wrong & edges, wrong & decided
    turned = missed & added.swapaxes(1, 2)
    distance = wrong.sum((1, 2)) - turned.sum((1, 2))
    return {
        "accuracy": float(1.0 - wrong[:, off].mean()),
        "shd": float(distance.mean()),
    }


def forecast_metrics(actual: Array, forecast: Array) -> dict[str, float]:
    """Errors of forecasts [S, K] of K target values per store (origins at one horizon, say).

    ``mse`` is of values divided by the store's mean, so that large stores do not decide it;
    ``wape`` is sum |error| / sum |actual| in the user's units; ``r2_median`` the median over stores
    of each store's own R2; ``r2_pooled`` of all values at once in the user's units.
    """
    error = forecast - actual
    level = np.abs(actual).mean(1, keepdims=True)
    spread = ((actual - actual.mean(1, keepdims=True)) ** 2).sum(1)
    r2 = 1.0 - (error**2).sum(1) / np.where(spread > 0.0, spread, np.nan)
    return {
        "mse": float(((error / level) ** 2).mean()),
        "wape": float(np.abs(error).sum() / np.abs(actual).sum()),
        "r2_median": float(np.nanmedian(r2)),
        "r2_pooled": float(1.0 - (error**2).sum() / ((actual - actual.mean()) ** 2).sum()),
    }


def _mean(values: object) -> float:
    listed = list(values)  # type: ignore[call-overload]
    return float(np.mean(listed)) if listed else float("nan")
