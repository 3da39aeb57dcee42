"""BTVC: the Bayesian time-varying coefficient model of Ng, Wang and Dai (2021), one per store.

The published model is KTR of the Orbit library. Orbit could not be installed beside this project's
versions: orbit-ml 1.1.4.1 to 1.1.5.0 are source distributions whose build downloads and compiles
CmdStan (it failed), and the last wheel, 1.1.4, carries dependency metadata that pip has refused
since 24.1 and needs CmdStan to fit its level. So this is the model itself:

    y_t = level_t + trend + season_t + sum_p x_tp beta_tp + noise

level, seasonal coefficients and beta are kernel-smoothed knots: level knots walk at random, those
of coefficients vary around a constant. Differences from the publication: priors and noise are
Gaussian, so that the posterior is closed form; beta may be negative; y is not logged, since sales
may touch zero; there is a linear trend with a tight prior. Regressors are log(1 + carry-over) of
all other series, one step back. Their future is unknown: it is set to their mean over the last four
weeks, and from the second step on their variance is part of the forecast's. Budget: all of
``GRID``, chosen by the squared error on the last fifth of the fitting span.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy.signal import lfilter

from bench.experiments.baselines.forecast_linear import calendar
from bench.experiments.forecast_task import Array, Forecast, Task

# Standard deviations: level knot to knot, regression knots around their constant, constants;
# carry-over per step.
GRID = tuple(product((0.003, 0.01, 0.03), (0.02, 0.1), (0.1, 0.3), (0.0, 0.5)))
QUICK = GRID[:2]
LEVEL_KNOT, OTHER_KNOT = 28, 90  # steps between knots
# Prior spreads in units of the store's level; the season may hardly change from knot to knot.
_SEASON, _TREND, _START, _SEASON_WANDER = 0.2, 0.1, 1.0, 0.02
_RECENT = 28


def btvc(task: Task) -> Forecast:
    grid = QUICK if task.quick else GRID
    cut = round(0.8 * task.fit_steps)
    ahead = min(task.horizon, task.fit_steps - cut)
    origins = tuple(np.unique(np.linspace(cut, task.fit_steps - ahead, 4).astype(int)).tolist())
    trial = Task(task.history, task.dates, task.context, origins, ahead)
    errors = []
    for setting in grid:
        mean, _ = _forecasts(trial, *setting)
        level = np.abs(trial.history[:, :cut, -1]).mean(1)[:, None]
        errors.append((((mean - trial.actual) / np.where(level > 0, level, 1.0)) ** 2).mean())
    return Forecast.gaussian(*_forecasts(task, *grid[int(np.argmin(errors))]))


def _forecasts(
    task: Task, walk: float, wander: float, constant: float, decay: float
) -> tuple[Array, Array]:
    """Mean and standard deviation [origins, S, horizon] of the posterior predictive."""
    means, spreads = [], []
    for origin in task.origins:
        level = np.abs(task.history[:, :origin]).mean(1)
        scaled = task.history[:, :origin] / np.where(level > 0.0, level, 1.0)[:, None]
        regressors = _regressors(scaled[..., :-1], task.horizon, decay)
        shared, prior = _structure(task, origin, walk)
        knots = _kernel(origin + task.horizon, origin, OTHER_KNOT)
        deviations = (regressors[..., None] * knots[:, None]).reshape(*regressors.shape[:2], -1)
        width = regressors.shape[-1]
        # A knot is a constant plus its own deviation: neighbouring columns share their constant.
        block = constant**2 + wander**2 * np.eye(knots.shape[1])
        covariance = np.zeros((prior.shape[0] + width * len(block),) * 2)
        covariance[: len(prior), : len(prior)] = prior
        covariance[len(prior) :, len(prior) :] = np.kron(np.eye(width), block)
        precision = np.linalg.inv(covariance)
        middle = np.zeros(len(covariance))
        # Series are scaled to a level of 1, and so begin the knots of the level.
        middle[: _kernel(1, origin, LEVEL_KNOT).shape[1]] = 1.0
        mean, spread = [], []
        for store in range(len(task.history)):
            design = np.column_stack([shared, deviations[store]])
            path, sd, weights = _posterior(design, scaled[store, :, -1], precision, middle)
            beta = weights[-deviations.shape[-1] :].reshape(width, -1) @ knots[-1]
            unknown = beta @ np.cov(regressors[store, :origin].T).reshape(width, width) @ beta
            sd[1:] = np.sqrt(sd[1:] ** 2 + unknown)
            mean.append(path * level[store, -1])
            spread.append(sd * level[store, -1])
        means.append(mean)
        spreads.append(spread)
    return np.array(means), np.array(spreads)


def _posterior(
    design: Array, y: Array, precision: Array, middle: Array, noise: float = 0.15
) -> tuple[Array, Array, Array]:
    """Predictive mean and spread of the rows beyond ``y``, and the weights; noise is estimated."""
    fitted, future = design[: len(y)], design[len(y) :]
    gram, moment = fitted.T @ fitted, fitted.T @ (y - fitted @ middle)
    for _ in range(3):
        covariance = np.linalg.inv(gram / noise**2 + precision)
        weights = covariance @ moment / noise**2
        used = np.trace(covariance @ gram) / noise**2  # degrees of freedom
        residual = y - fitted @ (middle + weights)
        noise = max(1e-3, float(np.sqrt((residual**2).sum() / max(len(y) - used, 1.0))))
    variance = noise**2 + np.einsum("hk,kl,hl->h", future, covariance, future)
    return future @ (middle + weights), np.sqrt(variance), weights


def _structure(task: Task, origin: int, walk: float) -> tuple[Array, Array]:
    """Design of level, trend and season [origin + horizon, K], and their prior covariance."""
    steps = origin + task.horizon
    level = _kernel(steps, origin, LEVEL_KNOT)
    terms = calendar(task, 3, 3)[:steps]
    trend, season = terms[:, :1] - terms[origin - 1, :1], terms[:, 1:]
    knots = _kernel(steps, origin, OTHER_KNOT)
    moving = (season[..., None] * knots[:, None]).reshape(steps, -1)
    many = knots.shape[1]
    # A random walk from a first knot: cov(b_j, b_k) = start + walk^2 min(j, k).
    order = np.arange(level.shape[1])
    walked = _START**2 + walk**2 * np.minimum.outer(order, order)
    block = _SEASON**2 + _SEASON_WANDER**2 * np.eye(many)
    seasonal = np.kron(np.eye(season.shape[1]), block)
    size = len(walked) + 1 + len(seasonal)
    prior = np.zeros((size, size))
    prior[: len(walked), : len(walked)] = walked
    prior[len(walked), len(walked)] = _TREND**2
    prior[len(walked) + 1 :, len(walked) + 1 :] = seasonal
    return np.column_stack([level, trend, moving]), prior


def _kernel(steps: int, origin: int, distance: int) -> Array:
    """Triangular weights [steps, knots], rows adding to 1; beyond the last knot its value stays.

    Knots stand ``distance`` apart, counted back from the last known step.
    """
    knots = np.arange(origin - 1, -1, -distance)[::-1]
    at = np.minimum(np.arange(steps), origin - 1)
    weights = np.maximum(0.0, 1.0 - np.abs(at[:, None] - knots) / distance)
    weights[at < knots[0], 0] = 1.0
    return np.asarray(weights / weights.sum(1, keepdims=True))


def _regressors(others: Array, horizon: int, decay: float) -> Array:
    """[S, origin + horizon, N - 1] from scaled series [S, origin, N - 1]."""
    recent = others[:, -_RECENT:].mean(1, keepdims=True)
    extended = np.concatenate([others, np.repeat(recent, horizon, axis=1)], axis=1)
    first = extended.mean(1, keepdims=True)
    carried, _ = lfilter([1.0 - decay], [1.0, -decay], extended, axis=1, zi=decay * first)
    lagged = np.concatenate([carried[:, :1], carried[:, :-1]], axis=1)
    return np.asarray(np.sign(lagged) * np.log1p(np.abs(lagged)))
