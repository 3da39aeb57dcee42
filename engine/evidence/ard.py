"""Evidence for every edge from one store alone: a Bayesian VAR with automatic relevance
determination (ARD) priors.

For panels too small to learn shared effects, or whose stores share none. Knows neither encoder nor
decoder.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from causalmmm.engine.batches.masks import has_full_lags
from causalmmm.engine.evidence.features import CLIP, FLAT
from causalmmm.engine.ops.export_switch import exporting
from causalmmm.engine.ops.linalg import diagonal_blocks, ridged, spd_inverse, whitening
from causalmmm.kernels import evidence as compiled

_ITERATIONS = 6  # further ones change little and make the evidence overconfident
_MIN_PRIOR_VARIANCE, _MAX_PRIOR_VARIANCE = 1e-10, 1e3  # series have unit variance
_MIN_NOISE_VARIANCE = 1e-6
_MIN_GAMMA = 1e-6
_MAX_PRECISION_RATIO = 1e4  # information of the data on a coefficient relative to its prior's
_INITIAL_AR_VARIANCE = 0.1
_CALENDAR_SHARE = 0.08  # degrees of freedom used by the calendar terms, as a share of the rows
_LOGISTIC_SCALE = 1.702  # logistic(1.702 x) is within 0.01 of the normal distribution function


@dataclass(frozen=True)
class _Rows:
    """What the regressions of B stores read, float64; T' = T - L rows are explained.

    series   [B, N, T], senders of unit variance.
    used     0 or 1, [B, N, T'], rows on which each receiver is explained.
    outcome  [B, N, T'], receivers of unit mean square, zero where ``used`` is.
    level    [B, N], their root mean square before.
    freedom  [B, N], rows less what the calendar used.
    """

    series: Tensor
    used: Tensor
    outcome: Tensor
    level: Tensor
    freedom: Tensor


@dataclass(frozen=True)
class _Relevance:
    """What evidence chose for every receiver, M = N L coefficients, and its tests; receiver first.

    variance  [B, N, M], prior variances, lag 1 first within each series.
    noise     [B, N], noise variance of ``outcome``.
    factor    [B, N, N], log Bayes factors, whatever the sign of the effect.
    z_score   [B, N, N], sum over a sender's lags, mean over standard deviation.
    """

    variance: Tensor
    noise: Tensor
    factor: Tensor
    z_score: Tensor


@torch.no_grad()
def ard_evidence(
    sent: Tensor,
    received: Tensor,
    active: Tensor,
    context_mask: Tensor,
    positive: Tensor,
    lags: int,
) -> Tensor:
    """Log Bayes factors [B, N, N], sender first, of "lags of i help to predict j"; diagonal zero.

    sent, received  [B, N, T], residual series as senders and as receivers.
    active          0 or 1, [B, N, T]; receivers are explained only on active rows.
    context_mask    bool [B, T], rows that may be used.
    positive        bool [N, N], effects that cannot be negative.

    Per store and receiver j, a regression on lags 1..L of all series. The coefficient of sender i
    at lag l has prior variance g_ij r_l: a relevance of each pair times a profile over lags that
    all pairs of a store share; each autoregressive coefficient has a variance of its own. They and
    the noise variance maximise the marginal likelihood by fixed-point updates (MacKay, 1992), g and
    r in alternation. The Bayes factor is the Savage-Dickey ratio, prior over posterior density of
    all coefficients of a sender at zero; if the effect cannot be negative, it is multiplied by
    the ratio of posterior to prior probability that the sum over lags is positive.
    """
    found = _relevance(_rows_of(sent, received, active, context_mask, lags), lags)
    sign_ratio = torch.nn.functional.logsigmoid(_LOGISTIC_SCALE * found.z_score) + math.log(2)
    factor = found.factor + sign_ratio * positive.mT
    factor = factor * (1 - torch.eye(sent.shape[1], dtype=factor.dtype, device=factor.device))
    return factor.mT.to(sent.dtype)


@torch.no_grad()
def ard_forecast(
    sent: Tensor, received: Tensor, active: Tensor, context_mask: Tensor, lags: int
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [B, N, T - L] of one-step-ahead predictions of rows L .. T - 1,
    under the regressions of :func:`ard_evidence`."""
    rows = _rows_of(sent, received, active, context_mask, lags)
    found, past = _relevance(rows, lags), _past(rows.series, lags)
    gram, xty = _products(rows, past)
    sigma, coef = _posterior(gram, xty, found.variance, found.noise)
    prior_std = found.variance.sqrt()
    mean = (prior_std * coef) @ past.mT
    design = past.unsqueeze(1) * prior_std.unsqueeze(2)  # [B, N, T', M]
    variance = found.noise.unsqueeze(-1) + ((design @ sigma) * design).sum(-1)
    level = rows.level.unsqueeze(-1)
    return (mean * level).to(sent.dtype), (variance.sqrt() * level).to(sent.dtype)


def _rows_of(
    sent: Tensor, received: Tensor, active: Tensor, context_mask: Tensor, lags: int
) -> _Rows:
    """The arguments of :func:`ard_evidence`, in the units of the regressions.

    In float64: a Gram matrix squares the condition number, which interpolated or proportional
    series with little noise raise beyond float32. Rounding would then decide which fixed point the
    updates reach.
    """
    sent, received, active = sent.double(), received.double(), active.double()
    seen = context_mask.to(sent.dtype).unsqueeze(1)
    spread = (sent.square() * seen).sum(-1, keepdim=True) / seen.sum(-1, keepdim=True)
    series = (sent / spread.sqrt().clamp_min(FLAT)).clamp(-CLIP, CLIP)
    used = active[..., lags:] * has_full_lags(context_mask, lags).unsqueeze(1)
    count = used.sum(-1).clamp_min(2.0)
    outcome = received[..., lags:] * used
    level = (outcome.square().sum(-1) / count).sqrt().clamp_min(1e-6)
    freedom = (1 - _CALENDAR_SHARE) * count
    return _Rows(series, used, outcome / level.unsqueeze(-1), level, freedom)


def _relevance(rows: _Rows, lags: int) -> _Relevance:
    """The regressions of :func:`ard_evidence`, which explains their priors."""
    if compiled.relevance_supported(rows.series) and not exporting():
        scales = (
            *(_MIN_PRIOR_VARIANCE, _MAX_PRIOR_VARIANCE, _MIN_NOISE_VARIANCE, _MIN_GAMMA),
            *(_INITIAL_AR_VARIANCE, _MAX_PRECISION_RATIO),
        )
        arguments = (rows.series, rows.used, rows.outcome, rows.freedom)
        return _Relevance(*compiled.lag_relevance(*arguments, lags, _ITERATIONS, scales))
    return _plain_relevance(rows, lags)


def _plain_relevance(rows: _Rows, lags: int) -> _Relevance:
    """The plain form of :func:`_relevance`."""
    stores, nodes, _ = rows.series.shape
    pairs = (nodes, lags)
    gram, xty = _products(rows, _past(rows.series, lags))
    yty, freedom = rows.outcome.square().sum(-1), rows.freedom  # [B, N]
    own = torch.eye(nodes, dtype=gram.dtype, device=gram.device).unsqueeze(-1)
    other = 1 - own
    variance = 1 / (nodes * lags) + _INITIAL_AR_VARIANCE * own
    variance = variance.expand(stores, nodes, nodes, lags)
    noise = 0.5 * yty / freedom + _MIN_NOISE_VARIANCE
    xtx_diag = gram.diagonal(dim1=-2, dim2=-1).unflatten(-1, pairs).clamp_min(1e-6)
    for iteration in range(_ITERATIONS):
        variance = _bounded_variance(variance, xtx_diag, noise)
        sigma, coef = _posterior(gram, xty, variance.flatten(2), noise)
        gamma = 1 - sigma.diagonal(dim1=-2, dim2=-1)  # [B, N, M], MacKay's gamma
        prior_std = variance.flatten(2).sqrt()
        explained = (prior_std * coef * xty).sum(-1) + noise * coef.square().sum(-1)  # yty - RSS
        left = torch.maximum(freedom - gamma.sum(-1), 0.2 * freedom)
        noise = ((yty - explained) / left).clamp_min(_MIN_NOISE_VARIANCE)
        size = coef.square().view_as(variance)
        weight = gamma.view_as(variance).clamp_min(_MIN_GAMMA)
        if iteration % 2 == 0:
            ratio = size.sum(-1, keepdim=True) / weight.sum(-1, keepdim=True)
        else:
            lag_profile = (size * other).sum((1, 2)) / (weight * other).sum((1, 2))
            ratio = lag_profile[:, None, None]
        ratio = ratio * other + size / weight * own
        variance = (variance * ratio).clamp(_MIN_PRIOR_VARIANCE, _MAX_PRIOR_VARIANCE)
    variance = _bounded_variance(variance, xtx_diag, noise)
    sigma, coef = _posterior(gram, xty, variance.flatten(2), noise)
    tests = _tests(diagonal_blocks(sigma, nodes), coef.unflatten(-1, pairs), variance.sqrt())
    return _Relevance(variance.flatten(2), noise, *tests)


def _tests(blocks: Tensor, coef: Tensor, prior_std: Tensor) -> tuple[Tensor, Tensor]:
    """Log Bayes factors and z scores [B, N, N], from the covariance [B, N, N, L, L] and mean
    [B, N, N, L] of the lags of every sender, in units of their prior deviation [B, N, N, L]."""
    white = whitening(blocks)
    distance = (white @ coef.unsqueeze(-1)).square().sum((-2, -1))  # [B, N, N], Mahalanobis
    factor = 0.5 * distance - white.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    total = (prior_std * coef).sum(-1)  # [B, N, N], sum over lags
    variance = (prior_std * (blocks @ prior_std.unsqueeze(-1)).squeeze(-1)).sum(-1)
    return factor, total * variance.clamp_min(1e-20).rsqrt()


def _past(series: Tensor, lags: int) -> Tensor:
    """Lags 1 .. L of every series, [B, T', M], lag 1 first within each."""
    stores, nodes, steps = series.shape
    shifted = [series[..., lags - 1 - k : steps - 1 - k] for k in range(lags)]
    past = torch.stack(shifted, dim=-1).transpose(1, 2)  # [B, T', N, L]
    return past.reshape(stores, steps - lags, nodes * lags)


def _products(rows: _Rows, past: Tensor) -> tuple[Tensor, Tensor]:
    """Gram matrix [B, N, M, M] of every receiver's rows, and products with its outcome
    [B, N, M]."""
    used = rows.used
    grams = [(past * used[:, j, :, None]).mT @ past for j in range(used.shape[1])]
    return torch.stack(grams, dim=1), rows.outcome @ past


def _bounded_variance(variance: Tensor, xtx_diag: Tensor, noise: Tensor) -> Tensor:
    """Prior variances [B, N, N, L], bounded so that rounding of float32 series cannot separate
    collinear ones.

    ``xtx_diag`` [B, N, N, L] is the diagonal of the Gram matrix, noise [B, N].
    """
    return torch.minimum(variance, _MAX_PRECISION_RATIO * noise[..., None, None] / xtx_diag)


def _posterior(gram: Tensor, xty: Tensor, variance: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Covariance [B, N, M, M] and mean [B, N, M] of the coefficients of prior variance [B, N, M],
    in units of their prior standard deviation."""
    prior_std = variance.sqrt()
    scaled = prior_std.unsqueeze(-1) * gram * prior_std.unsqueeze(-2) / noise[..., None, None]
    sigma = spd_inverse(ridged(scaled, 1.0))
    coef = sigma @ (prior_std * xty / noise.unsqueeze(-1)).unsqueeze(-1)
    return sigma, coef.squeeze(-1)
