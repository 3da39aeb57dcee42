"""Forecasters without a network: naive rows, pooled ridge with Fourier terms, per-store VAR.

Penalties and orders are chosen on the steps before the first origin; coefficients are fitted anew
at every origin, on all that is known there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array, eye_array, hstack, kron
from sklearn.linear_model import Ridge

from bench.experiments.forecast_task import Array, Forecast, Task

_HALF_YEAR = 182.0  # days
ALPHAS = tuple(10.0**k for k in range(-2, 6))


def seasonal_naive(task: Task, period: int = 7) -> Forecast:
    """The last value of the same phase of the week."""
    step = np.arange(task.horizon) % period
    return Forecast(np.stack([task.history[:, o - period + step, -1] for o in task.origins]))


def store_mean(task: Task) -> Forecast:
    """The mean of all the store has seen."""
    means = [task.history[:, :o, -1].mean(1, keepdims=True) for o in task.origins]
    return Forecast(np.repeat(np.stack(means), task.horizon, axis=2))


def pooled_ridge(task: Task, *, weekly: int = 3, yearly: int = 3) -> Forecast:
    """One ridge regression for all stores on trend, Fourier terms and a level of each store.

    Targets are divided by the store's level. The penalty is chosen by the error on the last fifth
    of the fitting span.
    """
    s = len(task.history)
    level = task.level[:, -1]
    scaled = task.history[..., -1] / level[:, None]
    features = calendar(task, weekly, yearly)

    def design(steps: slice) -> csr_array:
        rows = features[steps]
        levels = kron(eye_array(s), np.ones((len(rows), 1)))
        return csr_array(hstack([np.tile(rows, (s, 1)), levels]))

    def fitted(alpha: float, end: int) -> Ridge:
        return Ridge(alpha=alpha).fit(design(slice(0, end)), scaled[:, :end].ravel())

    cut, end = round(0.8 * task.fit_steps), task.fit_steps
    held_out, truth = design(slice(cut, end)), scaled[:, cut:end].ravel()
    errors = [((fitted(a, cut).predict(held_out) - truth) ** 2).mean() for a in ALPHAS]
    alpha = ALPHAS[int(np.argmin(errors))]
    following = [fitted(alpha, o).predict(design(slice(o, o + task.horizon))) for o in task.origins]
    return Forecast(np.stack([f.reshape(s, -1) * level[:, None] for f in following]))


def linear_var(task: Task, orders: Sequence[int] = range(1, 8), *, season: bool = True) -> Forecast:
    """Per-store vector autoregression by least squares, order by BIC, rolled forward.

    With ``season``, every equation has a trend and weekly and yearly Fourier terms beside its
    constant.
    """
    terms = calendar(task, 3, 1) if season else np.ones((len(task.dates), 0))
    terms = np.column_stack([np.ones(len(terms)), terms])
    return Forecast(np.stack([_var_forecast(h, terms, task, orders) for h in task.history], axis=1))


def calendar(task: Task, weekly: int, yearly: int) -> Array:
    """Trend (years since the first date) and Fourier terms of week and year, [T, 1 + 2 (w + y)].

    As in the package, there are no yearly terms where less than half a year is there to fit them.
    """
    days = task.dates.astype("datetime64[D]").astype(float)
    if days[task.fit_steps - 1] - days[0] < _HALF_YEAR:
        yearly = 0
    terms = [(days - days[0]) / 365.25]
    for period, harmonics in ((7.0, weekly), (365.25, yearly)):
        for k in range(1, harmonics + 1):
            angle = 2.0 * np.pi * k * days / period
            terms += [np.cos(angle), np.sin(angle)]
    return np.stack(terms, axis=1)


def _var_forecast(history: Array, terms: Array, task: Task, orders: Sequence[int]) -> Array:
    """Forecasts [origins, horizon] of one store's last series."""
    scale = history[: task.fit_steps].std(0)
    x = history / np.where(scale > 0.0, scale, 1.0)
    # With fewer rows than twice the coefficients of an equation, BIC rewards interpolation.
    estimable = [p for p in orders if task.fit_steps - p >= 2 * (p * x.shape[1] + terms.shape[1])]
    orders = estimable or [min(orders)]
    most = max(orders)
    order = min(orders, key=lambda p: _fit_var(x[: task.fit_steps], terms, p, most)[1])
    forecast = np.empty((len(task.origins), task.horizon))
    for row, origin in zip(forecast, task.origins, strict=True):
        coefficients, _ = _fit_var(x[:origin], terms, order, order)
        window = x[origin - order : origin]
        for step in range(task.horizon):
            following = np.append(window[::-1], terms[origin + step]) @ coefficients
            row[step] = following[-1] * scale[-1]
            window = np.concatenate([window[1:], following[None]])
    return forecast


def _fit_var(x: Array, terms: Array, order: int, first: int) -> tuple[Array, float]:
    """Least-squares coefficients [order N + terms, N] and BIC, on rows from step ``first``."""
    t, n = x.shape
    past = np.column_stack([x[first - lag : t - lag] for lag in range(1, order + 1)])
    design = np.column_stack([past, terms[first:t]])
    coefficients = np.asarray(np.linalg.lstsq(design, x[first:], rcond=None)[0], np.float64)
    residual = x[first:] - design @ coefficients
    rows = t - first
    log_det = np.linalg.slogdet(residual.T @ residual / rows + 1e-12 * np.eye(n))[1]
    return coefficients, float(log_det + np.log(rows) / rows * coefficients.size)
