"""Per-store empirical-Bayes Granger causality: evidence for a sender's lags, by relevance priors.

Needs no training, no labels and hardly any choice of lags. Knows nothing of this package's model.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.experiments.baselines.series import clear_of_calendar, lagged

Array = NDArray[np.float64]
_FLOOR, _CEILING = 1e-10, 1e3  # of prior variances; series have unit variance
_LEAST_NOISE = 1e-6  # of a receiver's variance, which is one unless it is silent


def group_evidence(
    series: Array, lags: int = 7, *, iterations: int = 20, period: int = 7, at_once: int = 32
) -> Array:
    """Log evidence ratio [S, N, N] of "sender i's lags help predict receiver j" against "they do
    not", from histories [S, T, N].

    Per store and receiver j a Bayesian regression on lags 1..L of all series, after constant, trend
    and ``period - 1`` season dummies are projected out. The coefficient of sender i at lag l has
    prior variance g_ij r_l: relevances g of every pair, and a profile r over lags that all pairs of
    a store share (own lags have variances of their own). g, r and the noise variances maximise the
    evidence (MacKay's fixed point, g and r in turns). The ratio is that of Savage and Dickey at the
    maximum: prior against posterior density of the sender's coefficients at zero.
    """
    parts = range(0, len(series), at_once)
    return np.concatenate(
        [_evidence(series[k : k + at_once], lags, iterations, period) for k in parts]
    )


def edge_probability(evidence: Array, prior: float = 0.15) -> Array:
    """Posterior probability of an edge from its log evidence ratio."""
    odds = np.log(prior / (1.0 - prior)) + evidence
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * odds)))


def _evidence(series: Array, lags: int, iterations: int, period: int) -> Array:
    past, present, rows = _regression(series, lags, period)
    s, n = present.shape[0], present.shape[-1]
    m = n * lags
    gram = (past.mT @ past).unsqueeze(1)  # [S, 1, M, M]: senders, and within them lags
    cross = (past.mT @ present).mT  # [S, N, M]
    total = present.square().sum(1)
    noise = (0.5 * total / rows).clamp_min(_LEAST_NOISE)
    variance = torch.full((s, n, n, lags), 1.0 / m, dtype=torch.float64)  # receiver, sender, lag
    others = 1.0 - torch.eye(n, dtype=torch.float64).unsqueeze(-1)
    for iteration in range(iterations):
        spread, covariance, mean = _posterior(gram, cross, variance, noise)
        relevant = 1.0 - covariance.diagonal(dim1=-2, dim2=-1)  # well-determined coefficients
        weight = spread * mean
        fitted = (weight.unsqueeze(-2) @ gram @ weight.unsqueeze(-1)).squeeze((-1, -2))
        left = total - 2.0 * (weight * cross).sum(-1) + fitted
        noise = left / (rows - relevant.sum(-1)).clamp_min(0.2 * rows)
        noise = noise.clamp_min(_LEAST_NOISE)
        size = mean.square().view_as(variance)
        count = relevant.view_as(variance).clamp_min(1e-12)
        if iteration % 2 == 0:
            ratio = (size.sum(-1) / count.sum(-1)).unsqueeze(-1)
        else:
            shared = (size * others).sum((1, 2)) / (count * others).sum((1, 2))
            ratio = shared[:, None, None] * others + size / count * (1.0 - others)
        variance = (variance * ratio).clamp(_FLOOR, _CEILING)
    _, covariance, mean = _posterior(gram, cross, variance, noise)
    blocks = covariance.view(s, n, n, lags, n, lags).diagonal(dim1=2, dim2=4)
    blocks = blocks.permute(0, 1, 4, 2, 3)  # [S, receiver, sender, L, L]
    mean = mean.view_as(variance)
    explained = (mean * torch.linalg.solve(blocks, mean)).sum(-1)
    return (0.5 * (torch.logdet(blocks) + explained)).mT.numpy()


def _posterior(
    gram: Tensor, cross: Tensor, variance: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Prior spread [S, N, M], and covariance and mean of the coefficients in units of it."""
    spread = variance.flatten(2).sqrt()
    scaled = spread.unsqueeze(-1) * gram * spread.unsqueeze(-2) / noise[..., None, None]
    scaled.diagonal(dim1=-2, dim2=-1).add_(1.0)
    covariance = torch.cholesky_inverse(torch.linalg.cholesky(scaled))
    mean = covariance @ (spread * cross / noise.unsqueeze(-1)).unsqueeze(-1)
    return spread, covariance, mean.squeeze(-1)


def _regression(series: Array, lags: int, period: int) -> tuple[Tensor, Tensor, int]:
    """Lags [S, T', N L], present [S, T', N], both clear of the calendar; degrees of freedom."""
    past, present = lagged(clear_of_calendar(series, period), lags)
    rows = present.shape[1] - 1 - period
    return torch.as_tensor(past).flatten(2), torch.as_tensor(present), rows
