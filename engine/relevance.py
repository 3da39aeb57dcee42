"""Evidence for every edge from one store alone: Bayesian regression on lags, by relevance priors.

For panels too small to learn effects that stores share, or whose stores share none. Knows neither
encoder nor decoder.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from causalmmm.engine.linalg import diagonal_blocks, ridged, spd_inverse, whitening
from causalmmm.engine.windows import whole_past

_ROUNDS = 6  # more change nothing that matters and make evidence overconfident
_LEAST, _MOST = 1e-10, 1e3  # of prior variances; series have unit variance
_LEAST_NOISE = 1e-6
_SUREST = 1e4  # most that rows may say about a coefficient, in units of what its prior says
_OWN_VARIANCE = 0.1  # before the first round
_CALENDAR = 0.08  # share of a receiver's rows that its calendar terms have used up
_FLAT = 0.01  # a residual spread below this share of a series' level counts as constant
_CLIP = 8.0
_LOGISTIC = 1.702  # logistic(1.702 x) is within 0.01 of the normal distribution function


@dataclass
class _Fit:
    """Regression of every receiver on the lags of all series; M = N L, receiver first.

    past [B, T - L, M], rows with lag 1 first; coefficients have ``mean`` [B, N, M] and
    ``covariance`` [B, N, M, M] in units of their prior spread ``scale`` [B, N, M]; ``noise``
    [B, N] is a variance, in units of the receiver's ``level`` [B, N] squared.
    """

    past: Tensor
    scale: Tensor
    covariance: Tensor
    mean: Tensor
    noise: Tensor
    level: Tensor


@torch.no_grad()
def relevance_evidence(
    sent: Tensor, received: Tensor, running: Tensor, seen: Tensor, positive: Tensor, lags: int
) -> Tensor:
    """Log Bayes factors [B, N, N], sender first, of "i's last lags help predict j"; diagonal zero.

    sent, received  [B, N, T], residual series as senders and as receivers.
    running, seen   0 or 1, [B, N, T], and bool [B, T]: the rows on which a receiver is explained.
    positive        bool [N, N], effects that cannot be negative.

    Per store and receiver j a regression on lags 1..L of all series. The coefficient of sender i at
    lag l has prior variance g_ij r_l: a relevance of each pair, and a profile over lags that all
    pairs of a store share; own lags have variances of their own. All of them and the noise
    maximise the evidence by fixed-point steps (MacKay 1992), g and r in turns. The factor is that
    of Savage and Dickey, prior against posterior density of all coefficients of a sender at zero;
    where the effect is known to be positive, times the odds that its sum over lags is.
    """
    nodes = sent.shape[1]
    fit = _fit(sent, received, running, seen, lags)
    blocks = diagonal_blocks(fit.covariance, nodes)  # [B, N, N, L, L]
    mean, scale = (part.unflatten(-1, (nodes, lags)) for part in (fit.mean, fit.scale))
    white = whitening(blocks)
    distance = (white @ mean.unsqueeze(-1)).square().sum((-2, -1))
    factor = 0.5 * distance - white.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    total = (scale * mean).sum(-1)
    spread = (scale * (blocks @ scale.unsqueeze(-1)).squeeze(-1)).sum(-1)
    certain = total * spread.clamp_min(1e-20).rsqrt()
    odds = torch.nn.functional.logsigmoid(_LOGISTIC * certain) + math.log(2)
    factor = factor + odds * positive.mT
    factor = factor * (1 - torch.eye(nodes, dtype=factor.dtype, device=factor.device))
    return factor.mT.to(sent.dtype)


@torch.no_grad()
def relevance_forecast(
    sent: Tensor, received: Tensor, running: Tensor, seen: Tensor, lags: int
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [B, N, T - L] of rows L.. of every receiver, each one step ahead
    of its past, under the regressions behind :func:`relevance_evidence`."""
    fit = _fit(sent, received, running, seen, lags)
    mean = (fit.scale * fit.mean) @ fit.past.mT
    moved = fit.past.unsqueeze(1) * fit.scale.unsqueeze(2)  # [B, N, T - L, M]
    variance = fit.noise.unsqueeze(-1) + ((moved @ fit.covariance) * moved).sum(-1)
    level = fit.level.unsqueeze(-1)
    return (mean * level).to(sent.dtype), (variance.sqrt() * level).to(sent.dtype)


def _fit(sent: Tensor, received: Tensor, running: Tensor, seen: Tensor, lags: int) -> _Fit:
    """The regressions, in float64 from the Gram matrices on: these square the condition number,
    which interpolated or proportional series and hardly any noise raise beyond what float32 holds.
    Rounding would then decide which fixed point the steps reach."""
    sent, received, running = sent.double(), received.double(), running.double()
    stores, nodes, steps = sent.shape
    seen_rows = seen.to(sent.dtype).unsqueeze(1)
    spread = (sent.square() * seen_rows).sum(-1, keepdim=True) / seen_rows.sum(-1, keepdim=True)
    series = (sent / spread.sqrt().clamp_min(_FLAT)).clamp(-_CLIP, _CLIP)
    used = running[..., lags:] * whole_past(seen, lags).unsqueeze(1)
    count = used.sum(-1).clamp_min(2.0)
    outcome = received[..., lags:] * used
    level = (outcome.square().sum(-1) / count).sqrt().clamp_min(1e-6)
    outcome = outcome / level.unsqueeze(-1)
    shifted = [series[..., lags - 1 - k : steps - 1 - k] for k in range(lags)]
    past = torch.stack(shifted, dim=-1).transpose(1, 2)  # [B, T', N, L], lag 1 first
    past = past.reshape(stores, steps - lags, nodes * lags)
    gram = torch.stack([(past * used[:, j, :, None]).mT @ past for j in range(nodes)], dim=1)
    cross = outcome @ past
    total = outcome.square().sum(-1)
    freedom = (1 - _CALENDAR) * count
    own = torch.eye(nodes, dtype=sent.dtype, device=sent.device).unsqueeze(-1)
    other = 1 - own
    variance = (1 / (nodes * lags) + _OWN_VARIANCE * own).expand(stores, nodes, nodes, lags)
    noise = 0.5 * total / freedom + _LEAST_NOISE
    power = gram.diagonal(dim1=-2, dim2=-1).unflatten(-1, (nodes, lags)).clamp_min(1e-6)
    for turn in range(_ROUNDS):
        variance = _measurable(variance, power, noise)
        covariance, mean = _posterior(gram, cross, variance, noise)
        determined = 1 - covariance.diagonal(dim1=-2, dim2=-1)
        spent = (variance.flatten(2).sqrt() * mean * cross).sum(-1) + noise * mean.square().sum(-1)
        left = torch.maximum(freedom - determined.sum(-1), 0.2 * freedom)
        noise = ((total - spent) / left).clamp_min(_LEAST_NOISE)
        size = mean.square().view_as(variance)
        weight = determined.view_as(variance).clamp_min(1e-6)
        if turn % 2 == 0:
            ratio = size.sum(-1, keepdim=True) / weight.sum(-1, keepdim=True)
        else:
            shared = (size * other).sum((1, 2)) / (weight * other).sum((1, 2))
            ratio = shared[:, None, None]
        ratio = ratio * other + size / weight * own
        variance = (variance * ratio).clamp(_LEAST, _MOST)
    variance = _measurable(variance, power, noise)
    covariance, mean = _posterior(gram, cross, variance, noise)
    return _Fit(past, variance.flatten(2).sqrt(), covariance, mean, noise, level)


def _measurable(variance: Tensor, power: Tensor, noise: Tensor) -> Tensor:
    """Prior variances [B, N, N, L], none so wide that the rounding of float32 series would tell
    those apart that move together; ``power`` of the coefficients alike, noise [B, N]."""
    return torch.minimum(variance, _SUREST * noise[..., None, None] / power)


def _posterior(
    gram: Tensor, cross: Tensor, variance: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Covariance [B, N, M, M] and mean [B, N, M] of coefficients in units of their prior spread."""
    spread = variance.flatten(2).sqrt()
    scaled = spread.unsqueeze(-1) * gram * spread.unsqueeze(-2) / noise[..., None, None]
    covariance = spd_inverse(ridged(scaled, 1.0))
    mean = covariance @ (spread * cross / noise.unsqueeze(-1)).unsqueeze(-1)
    return covariance, mean.squeeze(-1)
