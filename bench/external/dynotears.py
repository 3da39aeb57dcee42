"""DYNOTEARS (Pamfil et al., 2020): a structural autoregression with an acyclic step, by descent.

min 1/(2n) |X - X W - Y A|^2 + penalties of both, subject to trace(exp(W o W)) = N: an augmented
Lagrangian over L-BFGS-B on positive and negative parts, as in the authors' code (causalnex, whose
last release needs an older pandas). The data enter by their Gram matrix.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import expm
from scipy.optimize import minimize

from bench.external.world import Array

LAGS, PENALTY = 3, 0.1  # the penalty of both parts in causalcompass
_ROUNDS, _ENOUGH, _LARGEST = 100, 1e-8, 1e16


def dynotears(store: Array) -> Array:
    """Largest absolute weight [N, N] over lags 0 to 3, sender by receiver, of series [T, N] in
    standard deviations."""
    x = (store - store.mean(0)) / np.maximum(store.std(0), 1e-9)
    steps, nodes = x.shape
    past = [x[LAGS - lag : steps - lag] for lag in range(LAGS + 1)]
    rows = np.hstack(past)
    gram = rows.T @ rows / len(rows)  # [N (L + 1)] squared, the step itself first
    size = len(gram)

    def weights(parts: Array) -> Array:
        return np.asarray((parts[: size * nodes] - parts[size * nodes :]).reshape(size, nodes))

    def loss(parts: Array, rho: float, alpha: float) -> tuple[float, Array]:
        w = weights(parts)
        pulled = gram @ w - gram[:, :nodes]
        fit = 0.5 * float((w * (pulled - gram[:, :nodes])).sum())
        grown = expm(w[:nodes] ** 2)
        cyclic = float(np.trace(grown)) - nodes
        slope = pulled
        slope[:nodes] += (rho * cyclic + alpha) * grown.T * 2.0 * w[:nodes]
        value = fit + 0.5 * rho * cyclic**2 + alpha * cyclic + PENALTY * float(parts.sum())
        return value, np.concatenate([slope.ravel(), -slope.ravel()]) + PENALTY

    own = np.zeros((size, nodes), bool)
    own[:nodes] = np.eye(nodes, dtype=bool)
    bounds = [(0.0, 0.0) if fixed else (0.0, None) for fixed in own.ravel()] * 2
    parts, rho, alpha, before = np.zeros(2 * size * nodes), 1.0, 0.0, np.inf
    for _ in range(_ROUNDS):
        parts = minimize(loss, parts, (rho, alpha), method="L-BFGS-B", jac=True, bounds=bounds).x
        cyclic = float(np.trace(expm(weights(parts)[:nodes] ** 2))) - nodes
        alpha += rho * cyclic
        if cyclic <= _ENOUGH or rho >= _LARGEST:
            break
        rho, before = (10.0 * rho if cyclic > 0.25 * before else rho), cyclic
    return np.asarray(np.abs(weights(parts)).reshape(LAGS + 1, nodes, nodes).max(0))
