"""Methods without a model of responses, and an oracle: what every fit has to beat, or cannot.

ridge-pooled, ridge-store   same-week adstocked spend, controls, trend and Fourier terms; one
                            coefficient per channel for all stores, or each store its own. Decay
                            and penalty by the error on the last seen weeks; no intervals
seasonal-naive              sales of 52 weeks before
oracle                      is told what all channels together add in every week, hidden ones
                            included, and regresses the rest on trend, season and controls
"""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path

import numpy as np

from bench.peers.task import LEVEL, Answer, Array, Task, main

DECAYS = (0.0, 0.2, 0.4, 0.6, 0.8)
PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)
_CALENDAR_PENALTY = 1e-3  # intercepts, trends and seasons are hardly shrunk
_Z = 1.6448536269514722  # normal quantile that leaves 5 % above
assert LEVEL == 0.9


def fit(task: Task) -> Answer:
    method = os.environ["METHOD"]
    if method == "seasonal-naive":
        return Answer(task.block([task.target])[:, task.train - 52 :, 0][:, : task.holdout])
    if method == "oracle":
        return oracle(task)
    return ridge(task, pooled=method == "ridge-pooled")


def ridge(task: Task, *, pooled: bool) -> Answer:
    """Ridge on relative sales and spend; ``pooled`` shares coefficients of spend and controls."""
    target = task.block([task.target])[..., 0]
    unit = target[:, : task.train].mean(1, keepdims=True)
    spend = task.block(task.channels)
    mean = spend[:, : task.train].mean(1, keepdims=True)
    spend = spend / np.where(mean > 0, mean, 1.0)
    relative = target / unit

    def predicted(decay: float, penalty: float, until: int) -> tuple[Array, Array]:
        """Relative sales [S, T] and contributions [S, T, C] by what is seen before ``until``."""
        carried = adstock(spend, decay)
        levers = np.concatenate([carried, task.block(task.controls)], axis=2)
        stores = range(len(target)) if not pooled else [slice(None)]
        fits = [_solved(task, relative[s], levers[s], penalty, until) for s in stores]
        value = np.concatenate([np.atleast_2d(f[0]) for f in fits])
        weight = np.concatenate([np.atleast_2d(f[1]) for f in fits])
        c = len(task.channels)
        return value, carried * np.broadcast_to(weight, (len(target), weight.shape[1]))[:, None, :c]

    inner = task.train - task.holdout

    def error(setting: tuple[float, float]) -> float:
        value, _ = predicted(*setting, inner)
        return float(np.abs((value - relative) * unit)[:, inner : task.train].sum())

    best = min(product(DECAYS, PENALTIES), key=error)
    value, parts = predicted(*best, task.train)
    total = (parts[:, : task.train] * unit[..., None]).sum(1)
    return Answer((value * unit)[:, task.train :], contributions=total)


def adstock(spend: Array, decay: float) -> Array:
    """Normalised geometric carry-over along weeks of [S, T, C], from nothing."""
    out, carried = np.empty_like(spend), np.zeros_like(spend[:, 0])
    for t in range(spend.shape[1]):
        carried = decay * carried + (1.0 - decay) * spend[:, t]
        out[:, t] = carried
    return out


def oracle(task: Task) -> Answer:
    """The forecast of one who knows the media part: what is left is calendar, controls, noise."""
    truth = Path(task.folder).parent / f"{Path(task.folder).name}.truth.npz"
    with np.load(truth) as known:
        media, contributions = known["media"], known["contributions"]
    target = task.block([task.target])[..., 0]
    controls = task.block(task.controls)
    ones = np.ones((task.weeks, 1))
    means, reach = [], []
    for store in range(len(target)):
        design = np.column_stack([ones, task.calendar(), controls[store]])
        seen = design[: task.train]
        rest = (target[store] - media[store])[: task.train]
        weight, *_ = np.linalg.lstsq(seen, rest, rcond=None)
        freedom = task.train - design.shape[1]
        variance = ((rest - seen @ weight) ** 2).sum() / freedom
        leverage = np.einsum("tp,pq,tq->t", design, np.linalg.inv(seen.T @ seen), design)
        means.append((design @ weight + media[store])[task.train :])
        reach.append(_Z * np.sqrt(variance * (1.0 + leverage))[task.train :])
    mean, width = np.stack(means), np.stack(reach)
    return Answer(mean, mean - width, mean + width, contributions)


def _solved(
    task: Task, relative: Array, levers: Array, penalty: float, until: int
) -> tuple[Array, Array]:
    """Predictions and coefficients of spend and controls, for one store [T] or for all [S, T]."""
    relative, levers = np.atleast_2d(relative), levers.reshape(-1, *levers.shape[-2:])
    stores, weeks, n = levers.shape
    calendar = np.column_stack([np.ones(weeks), task.calendar()])
    own = np.kron(np.eye(stores), calendar)  # [S T, S Q], every store's own level, trend and season
    design = np.column_stack([levers.reshape(-1, n), own])
    seen = np.tile(np.arange(weeks) < until, stores)
    shrink = np.r_[np.full(n, penalty), np.full(own.shape[1], _CALENDAR_PENALTY)]
    x, y = design[seen], relative.reshape(-1)[seen]
    weight = np.linalg.solve(x.T @ x + np.diag(shrink), x.T @ y)
    return (design @ weight).reshape(stores, weeks), weight[:n]


if __name__ == "__main__":
    main(fit)
