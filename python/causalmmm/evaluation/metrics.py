"""Scores: of probabilities against known edges, of forecasts against what happened.

Arrays in, numbers out; knows no panel, no model and no table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


class Bucket(NamedTuple):
    """Pairs whose probability lies in [lower, upper): how many, what was said, what is true."""

    lower: float
    upper: float
    items: int
    mean_probability: float
    true_share: float


def auroc(truth: ArrayLike, score: ArrayLike) -> float:
    """Probability that a random true item scores above a random false one, ties counted half.

    Both of one shape, truth bool. NaN unless there are both true and false items.
    """
    true, value = _labelled(truth, score)
    positive, negative = int(true.sum()), int((~true).sum())
    if not positive or not negative:
        return float("nan")
    _, place, count = np.unique(value, return_inverse=True, return_counts=True)
    rank = np.cumsum(count) - (count - 1) / 2  # mean rank of each distinct score, from 1
    above = rank[place][true].sum() - positive * (positive + 1) / 2
    return float(above / (positive * negative))


def auprc(truth: ArrayLike, score: ArrayLike) -> float:
    """Average precision: precision at each distinct score, weighted by the recall it adds.

    NaN when nothing is true. A score that says nothing gets the share of true items.
    """
    true, value = _labelled(truth, score)
    if not true.any():
        return float("nan")
    order = np.argsort(-value, kind="stable")
    hits = np.cumsum(true[order])
    last = np.append(np.flatnonzero(np.diff(value[order])), len(order) - 1)
    precision = hits[last] / (last + 1)
    gained = np.diff(hits[last], prepend=0) / hits[-1]
    return float((precision * gained).sum())


def calibration(
    truth: ArrayLike, probability: ArrayLike, edges: Sequence[float] = (0, 0.2, 0.4, 0.6, 0.8, 1)
) -> list[Bucket]:
    """What share of items is true among those given similar probabilities.

    ``edges`` bound the buckets; the last one includes its upper bound. Empty buckets hold NaN.
    """
    true, value = _labelled(truth, probability)
    bounds = np.asarray(edges, np.float64)
    if value.size and (value.min() < bounds[0] or value.max() > bounds[-1]):
        raise ValueError(f"probabilities lie between {bounds[0]} and {bounds[-1]}")
    inside = np.clip(np.searchsorted(bounds, value, side="right") - 1, 0, len(bounds) - 2)
    count = np.bincount(inside, minlength=len(bounds) - 1)
    with np.errstate(invalid="ignore"):
        said = np.bincount(inside, value, len(count)) / count
        share = np.bincount(inside, true, len(count)) / count
    return [
        Bucket(float(bounds[k]), float(bounds[k + 1]), int(n), float(said[k]), float(share[k]))
        for k, n in enumerate(count)
    ]


def calibration_error(buckets: Sequence[Bucket]) -> float:
    """Expected calibration error: mean gap between what was said and what is true, by count."""
    filled = [b for b in buckets if b.items]
    total = sum(b.items for b in filled)
    gaps = sum(b.items * abs(b.mean_probability - b.true_share) for b in filled)
    return gaps / total if total else float("nan")


def mse(actual: ArrayLike, forecast: ArrayLike) -> float:
    """Mean squared error."""
    true, made = _paired(actual, forecast)
    return float(np.mean((made - true) ** 2))


def wape(actual: ArrayLike, forecast: ArrayLike) -> float:
    """Sum of absolute errors over the sum of absolute actual values; NaN when those are all 0."""
    true, made = _paired(actual, forecast)
    return _ratio(np.abs(made - true).sum(), np.abs(true).sum())


def median_r2(actual: ArrayLike, forecast: ArrayLike) -> float:
    """Median over stores of each store's own R2, from [S, K] values of S stores.

    Stores whose actual values do not move have no R2 and do not count; NaN when none has.
    """
    true, made = _paired(actual, forecast)
    spread = ((true - true.mean(1, keepdims=True)) ** 2).sum(1)
    error = ((made - true) ** 2).sum(1)
    moving = spread > 0
    return float(np.median(1 - error[moving] / spread[moving])) if moving.any() else float("nan")


def coverage(actual: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> float:
    """Share of actual values inside [lower, upper]."""
    true = np.asarray(actual, np.float64)
    low, high = np.asarray(lower, np.float64), np.asarray(upper, np.float64)
    return float(np.mean((low <= true) & (true <= high)))


def crps_from_draws(actual: ArrayLike, draws: ArrayLike) -> Array:
    """Continuous ranked probability score of samples [..., M] for actual values [...].

    E|X - y| - E|X - X'| / 2, the second expectation over all pairs of samples; lower is better,
    in units of the values, and equal to the absolute error for a single sample.
    """
    true = np.asarray(actual, np.float64)
    drawn = np.sort(np.asarray(draws, np.float64), axis=-1)
    if drawn.shape[:-1] != true.shape:
        raise ValueError(f"draws {drawn.shape} must be those of values {true.shape}, then samples")
    m = drawn.shape[-1]
    apart = (drawn * (2 * np.arange(m) - m + 1)).sum(-1) / m**2  # = E|X - X'| / 2 when sorted
    missed: Array = np.abs(drawn - true[..., None]).mean(-1)
    return missed - apart


def crps_from_quantiles(actual: ArrayLike, quantiles: ArrayLike, levels: ArrayLike) -> Array:
    """The same score from quantiles [..., Q] at ``levels`` [Q] between 0 and 1, ascending.

    Twice the pinball loss, integrated over the levels by the midpoint rule; with few levels the
    tails are known only roughly, and so is the score.
    """
    true = np.asarray(actual, np.float64)[..., None]
    made, at = np.asarray(quantiles, np.float64), np.asarray(levels, np.float64)
    if at.ndim != 1 or made.shape[-1:] != at.shape or np.any(np.diff(at, prepend=0) <= 0):
        raise ValueError("levels ascend between 0 and 1, one for each quantile")
    middle = (at[1:] + at[:-1]) / 2
    weight = np.diff(np.concatenate([[0.0], middle, [1.0]]))
    pinball = np.where(true >= made, at * (true - made), (1 - at) * (made - true))
    score: Array = 2 * (pinball * weight).sum(-1)
    return score


def _labelled(truth: ArrayLike, score: ArrayLike) -> tuple[NDArray[np.bool_], Array]:
    true, value = np.asarray(truth, bool).ravel(), np.asarray(score, np.float64).ravel()
    if true.shape != value.shape:
        raise ValueError(f"{true.size} labels do not go with {value.size} scores")
    if np.isnan(value).any():
        raise ValueError("a score is NaN")
    return true, value


def _paired(actual: ArrayLike, forecast: ArrayLike) -> tuple[Array, Array]:
    true, made = np.asarray(actual, np.float64), np.asarray(forecast, np.float64)
    if true.shape != made.shape:
        raise ValueError(f"forecasts {made.shape} do not go with actual values {true.shape}")
    return true, made


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator > 0 else float("nan")
