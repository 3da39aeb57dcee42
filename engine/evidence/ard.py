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
from causalmmm.engine.ops.linalg import diagonal_blocks, ridged, spd_inverse, whitening

_ITERATIONS = 6  # further ones change little and make the evidence overconfident
_MIN_PRIOR_VARIANCE, _MAX_PRIOR_VARIANCE = 1e-10, 1e3  # series have unit variance
_MIN_NOISE_VARIANCE = 1e-6
_MAX_PRECISION_RATIO = 1e4  # information of the data on a coefficient relative to its prior's
_INITIAL_AR_VARIANCE = 0.1
_CALENDAR_SHARE = 0.08  # degrees of freedom used by the calendar terms, as a share of the rows
_LOGISTIC_SCALE = 1.702  # logistic(1.702 x) is within 0.01 of the normal distribution function


@dataclass
class ArdFit:
    """Regression of every receiver on L lags of all N series; M = N L coefficients, receiver first.

    past      [B, T - L, M], design matrix, lag 1 first within each series.
    prior_std [B, N, M], prior standard deviation of each coefficient.
    coef      [B, N, M], posterior mean in units of ``prior_std``.
    sigma     [B, N, M, M], posterior covariance in units of ``prior_std``.
    noise     [B, N], noise variance in units of ``level`` squared.
    level     [B, N], root mean square of the receiver.
    """

    past: Tensor
    prior_std: Tensor
    sigma: Tensor
    coef: Tensor
    noise: Tensor
    level: Tensor


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
    nodes = sent.shape[1]
    fit = fit_ard(sent, received, active, context_mask, lags)
    blocks = diagonal_blocks(fit.sigma, nodes)  # [B, N, N, L, L]
    coef = fit.coef.unflatten(-1, (nodes, lags))  # [B, N, N, L]
    prior_std = fit.prior_std.unflatten(-1, (nodes, lags))  # [B, N, N, L]
    white = whitening(blocks)
    distance = (white @ coef.unsqueeze(-1)).square().sum((-2, -1))  # [B, N, N], Mahalanobis
    factor = 0.5 * distance - white.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    total = (prior_std * coef).sum(-1)  # [B, N, N], sum over lags
    variance = (prior_std * (blocks @ prior_std.unsqueeze(-1)).squeeze(-1)).sum(-1)
    z_score = total * variance.clamp_min(1e-20).rsqrt()
    sign_ratio = torch.nn.functional.logsigmoid(_LOGISTIC_SCALE * z_score) + math.log(2)
    factor = factor + sign_ratio * positive.mT
    factor = factor * (1 - torch.eye(nodes, dtype=factor.dtype, device=factor.device))
    return factor.mT.to(sent.dtype)


@torch.no_grad()
def ard_forecast(
    sent: Tensor, received: Tensor, active: Tensor, context_mask: Tensor, lags: int
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [B, N, T - L] of one-step-ahead predictions of rows L .. T - 1,
    under the regressions of :func:`ard_evidence`."""
    fit = fit_ard(sent, received, active, context_mask, lags)
    mean = (fit.prior_std * fit.coef) @ fit.past.mT
    design = fit.past.unsqueeze(1) * fit.prior_std.unsqueeze(2)  # [B, N, T - L, M]
    variance = fit.noise.unsqueeze(-1) + ((design @ fit.sigma) * design).sum(-1)
    level = fit.level.unsqueeze(-1)
    return (mean * level).to(sent.dtype), (variance.sqrt() * level).to(sent.dtype)


def fit_ard(
    sent: Tensor, received: Tensor, active: Tensor, context_mask: Tensor, lags: int
) -> ArdFit:
    """The regressions of :func:`ard_evidence`, which explains arguments and priors.

    Computed in float64: a Gram matrix squares the condition number, which interpolated or
    proportional series with little noise raise beyond float32. Rounding would then decide which
    fixed point the updates reach.
    """
    sent, received, active = sent.double(), received.double(), active.double()
    stores, nodes, steps = sent.shape
    rows = context_mask.to(sent.dtype).unsqueeze(1)
    spread = (sent.square() * rows).sum(-1, keepdim=True) / rows.sum(-1, keepdim=True)
    series = (sent / spread.sqrt().clamp_min(FLAT)).clamp(-CLIP, CLIP)
    used = active[..., lags:] * has_full_lags(context_mask, lags).unsqueeze(1)
    count = used.sum(-1).clamp_min(2.0)
    outcome = received[..., lags:] * used
    level = (outcome.square().sum(-1) / count).sqrt().clamp_min(1e-6)
    outcome = outcome / level.unsqueeze(-1)
    shifted = [series[..., lags - 1 - k : steps - 1 - k] for k in range(lags)]
    past = torch.stack(shifted, dim=-1).transpose(1, 2)  # [B, T', N, L], lag 1 first
    past = past.reshape(stores, steps - lags, nodes * lags)
    gram = torch.stack([(past * used[:, j, :, None]).mT @ past for j in range(nodes)], dim=1)
    xty = outcome @ past  # [B, N, M]
    yty = outcome.square().sum(-1)  # [B, N]
    freedom = (1 - _CALENDAR_SHARE) * count
    own = torch.eye(nodes, dtype=sent.dtype, device=sent.device).unsqueeze(-1)
    other = 1 - own
    variance = 1 / (nodes * lags) + _INITIAL_AR_VARIANCE * own
    variance = variance.expand(stores, nodes, nodes, lags)
    noise = 0.5 * yty / freedom + _MIN_NOISE_VARIANCE
    xtx_diag = gram.diagonal(dim1=-2, dim2=-1).unflatten(-1, (nodes, lags)).clamp_min(1e-6)
    for iteration in range(_ITERATIONS):
        variance = _bounded_variance(variance, xtx_diag, noise)
        sigma, coef = _posterior(gram, xty, variance, noise)
        gamma = 1 - sigma.diagonal(dim1=-2, dim2=-1)  # [B, N, M], MacKay's gamma
        prior_std = variance.flatten(2).sqrt()
        explained = (prior_std * coef * xty).sum(-1) + noise * coef.square().sum(-1)  # yty - RSS
        left = torch.maximum(freedom - gamma.sum(-1), 0.2 * freedom)
        noise = ((yty - explained) / left).clamp_min(_MIN_NOISE_VARIANCE)
        size = coef.square().view_as(variance)
        weight = gamma.view_as(variance).clamp_min(1e-6)
        if iteration % 2 == 0:
            ratio = size.sum(-1, keepdim=True) / weight.sum(-1, keepdim=True)
        else:
            lag_profile = (size * other).sum((1, 2)) / (weight * other).sum((1, 2))
            ratio = lag_profile[:, None, None]
        ratio = ratio * other + size / weight * own
        variance = (variance * ratio).clamp(_MIN_PRIOR_VARIANCE, _MAX_PRIOR_VARIANCE)
    variance = _bounded_variance(variance, xtx_diag, noise)
    sigma, coef = _posterior(gram, xty, variance, noise)
    return ArdFit(past, variance.flatten(2).sqrt(), sigma, coef, noise, level)


def _bounded_variance(variance: Tensor, xtx_diag: Tensor, noise: Tensor) -> Tensor:
    """Prior variances [B, N, N, L], bounded so that rounding of float32 series cannot separate
    collinear ones.

    ``xtx_diag`` [B, N, N, L] is the diagonal of the Gram matrix, noise [B, N].
    """
    return torch.minimum(variance, _MAX_PRECISION_RATIO * noise[..., None, None] / xtx_diag)


def _posterior(gram: Tensor, xty: Tensor, variance: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Covariance [B, N, M, M] and mean [B, N, M] of the coefficients, in units of their prior
    standard deviation."""
    prior_std = variance.flatten(2).sqrt()
    scaled = prior_std.unsqueeze(-1) * gram * prior_std.unsqueeze(-2) / noise[..., None, None]
    sigma = spd_inverse(ridged(scaled, 1.0))
    coef = sigma @ (prior_std * xty / noise.unsqueeze(-1)).unsqueeze(-1)
    return sigma, coef.squeeze(-1)
