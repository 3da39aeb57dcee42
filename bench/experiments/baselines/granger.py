"""Linear Granger causality: group F-tests in a per-store vector autoregression.

Every function takes equally long histories [S, T, N] and gives numbers [S, N, N], sender by
receiver.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import f as f_distribution

Array = NDArray[np.float64]
_STORES_AT_ONCE = 64
_SPARE = 5  # residual degrees of freedom under which a lag order is not tried


@dataclass(frozen=True)
class Granger:
    """Group F-tests of one lag order for S stores.

    statistic  [S, N, N]: F of "the lags of sender i do not help predict receiver j given all
    series"
    p_value    [S, N, N]
    bic        [S]: of the whole VAR, to choose the order; lower is better
    """

    statistic: Array
    p_value: Array
    bic: Array


def granger(series: Array, lags: int, *, period: int = 7, first: int | None = None) -> Granger:
    """Per-store vector autoregression of order ``lags`` with constant, linear trend and season.

    The season is ``period - 1`` dummies (period 1: none). Series are standardised per store. Rows
    start at step ``first`` (default ``lags``), so that orders can be compared by BIC on the same
    rows. ValueError when too few rows are left to test.
    """
    t, n = series.shape[1:]
    first = lags if first is None else first
    rows, columns = t - first, n * lags + 1 + period
    if rows - columns < _SPARE:
        raise ValueError(f"{rows} rows cannot bear {columns} coefficients")
    parts = [
        _granger(series[k : k + _STORES_AT_ONCE].astype(float), lags, period, first)
        for k in range(0, len(series), _STORES_AT_ONCE)
    ]
    return Granger(*(np.concatenate([getattr(p, name) for p in parts]) for name in _FIELDS))


_FIELDS = ("statistic", "p_value", "bic")


def granger_orders(series: Array, orders: range, *, period: int = 7) -> dict[int, Granger]:
    """Tests of every order the histories can bear, each on all rows it has."""
    t, n = series.shape[1:]
    bearable = [p for p in orders if t - p - n * p - 1 - period >= _SPARE]
    return {lags: granger(series, lags, period=period) for lags in bearable}


def granger_by_bic(series: Array, orders: range, *, period: int = 7) -> Array:
    """p-values at the order that BIC prefers for each store, all compared on the same rows."""
    t, n = series.shape[1:]
    most = max(p for p in orders if t - p - n * p - 1 - period >= _SPARE)
    tests = [granger(series, p, period=period, first=most) for p in orders if p <= most]
    best = np.argmin([test.bic for test in tests], axis=0)
    return np.stack([tests[k].p_value[s] for s, k in enumerate(best)])


def _granger(series: Array, lags: int, period: int, first: int) -> Granger:
    s, t, n = series.shape
    centred = series - series.mean(1, keepdims=True)
    spread = centred.std(1, keepdims=True)
    x = centred / np.where(spread > 0.0, spread, 1.0)
    past = np.concatenate([x[:, first - lag : t - lag] for lag in range(1, lags + 1)], axis=-1)
    step = np.arange(first, t)
    season = (step[:, None] % period == np.arange(1, period)).astype(float)
    terms = np.column_stack([np.ones(len(step)), (step - step.mean()) / t, season])
    design = np.concatenate([past, np.broadcast_to(terms, (s, *terms.shape))], axis=-1)
    y = x[:, first:]

    gram = design.swapaxes(1, 2) @ design
    # Silent channels make columns of zeros; a relative jitter keeps the system solvable without
    # moving any other estimate beyond rounding.
    jitter = 1e-9 * np.trace(gram, axis1=1, axis2=2) / gram.shape[-1]
    inverse = np.linalg.inv(gram + jitter[:, None, None] * np.eye(gram.shape[-1]))
    coefficients = inverse @ (design.swapaxes(1, 2) @ y)
    residual = y - design @ coefficients
    rows, columns = design.shape[1:]
    covariance = residual.swapaxes(1, 2) @ residual / rows
    variance = np.einsum("sjj->sj", covariance) * rows / (rows - columns)
    variance = np.maximum(variance, 1e-12)

    statistic = np.zeros((s, n, n))
    for i in range(n):
        block = np.arange(lags) * n + i
        precision = np.linalg.inv(inverse[:, block[:, None], block])
        b = coefficients[:, block]
        statistic[:, i] = np.einsum("slj,slk,skj->sj", b, precision, b) / lags / variance
    log_det = np.linalg.slogdet(covariance + 1e-12 * np.eye(n))[1]
    bic = log_det + np.log(rows) / rows * n * columns
    return Granger(statistic, f_distribution.sf(statistic, lags, rows - columns), bic)
