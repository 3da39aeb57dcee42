"""Scores that look at no dynamics of the store in question: every method has to clear them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def receiver_variance(series: Array) -> Array:
    """Variance of the receiver [S, N, N] from [S, T, N]: relative to its mean, so that stores and
    series of all sizes compare, or as it is for series that take either sign."""
    mean = np.where((series < 0.0).any(1), 0.0, series.mean(1))
    variance = (series / np.where(mean > 0.0, mean, 1.0)[:, None]).var(1)
    return np.repeat(variance[:, None, :], series.shape[-1], axis=1)


def training_frequency(training_edges: NDArray[np.bool_], stores: int) -> Array:
    """Share of training stores with the edge: knows the truth of others, nothing of the store."""
    return np.repeat(training_edges.mean(0)[None], stores, axis=0)
