"""Histories as every dynamic method receives them: without calendar effects, on one scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_SILENT = 1e-9  # a series with less spread than this is constant; it becomes zero


def clear_of_calendar(series: Array, period: int = 7) -> Array:
    """Histories [S, T, N] less constant, linear trend and ``period - 1`` season dummies, fitted per
    store and series, with unit variance."""
    step = np.arange(series.shape[1])
    season = (step[:, None] % period == np.arange(1, period)).astype(float)
    basis, _ = np.linalg.qr(np.column_stack([np.ones(len(step)), step / len(step), season]))
    x = _unit(np.asarray(series, dtype=np.float64))
    return _unit(x - basis @ (basis.T @ x))


def lagged(series: Array, lags: int) -> tuple[Array, Array]:
    """Past [S, T - L, N, L], lag 1 first, and present [S, T - L, N]."""
    past = np.lib.stride_tricks.sliding_window_view(series, lags, axis=1)[:, :-1]
    return np.ascontiguousarray(past[..., ::-1]), series[:, lags:]


def _unit(x: Array) -> Array:
    x = x - x.mean(1, keepdims=True)
    spread = x.std(1, keepdims=True)
    return np.where(spread > _SILENT, x / np.maximum(spread, _SILENT), 0.0)
