"""Evidence for edges from a bank of fixed responses, after a step and within it.

Lags of the series know nothing of carry-over and saturation, and nothing of effects within the
step. A few responses of each sender stand for all shapes; relevance priors choose among them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from causalmmm.engine.batches.masks import has_full_lags
from causalmmm.engine.ops.linalg import diagonal_blocks, ridged, spd_inverse, whitening
from causalmmm.kernels import adstock_hill

RESPONSE_FEATURES = 6  # three statistics of each of two alignments
_OWN_LAGS = (1, 2, 3)
# decay, slope, half-saturation in units of the series' mean; a linear response comes on top
_BANK = ((0.0, 1.0, 0.5), (0.4, 1.5, 1.0), (0.75, 1.5, 1.0))
_COMPONENTS = 1 + len(_BANK)
_ITERATIONS = 5
_MIN_VARIANCE, _MAX_VARIANCE = 1e-8, 1e2  # columns and outcomes have unit mean square
_MIN_NOISE = 1e-4
_CALENDAR_SHARE = 0.08  # of the degrees of freedom, as in ``evidence.ard``
_LOGISTIC_SCALE = 1.702  # logistic(1.702 x) is within 0.01 of the normal distribution function


def response_features(
    x: Tensor,
    sent: Tensor,
    received: Tensor,
    active: Tensor,
    context_mask: Tensor,
    residual: Callable[[Tensor], Tensor],
    rank: Tensor,
    positive: Tensor,
) -> Tensor:
    """[B, N, N, 6]: evidence, size and sign of every edge with senders one step back, then with
    senders of lower ``rank`` [N] within the step. Arguments as in ``pair_statistics``."""
    nodes, steps = x.shape[1:]
    first = max(_OWN_LAGS)
    bank = _responses(x, sent, residual).double()  # [B, N, D, T]
    used = active[..., first:] * has_full_lags(context_mask, first).unsqueeze(1)
    outcome = received[..., first:].double() * used
    own = torch.stack([received[..., first - k : steps - k] for k in _OWN_LAGS], -1).double()
    before = bank[..., first - 1 : steps - 1].permute(0, 3, 1, 2)  # [B, T', N, D]
    now = bank[..., first:].permute(0, 3, 1, 2)
    after = [
        _edge_statistics(before.flatten(2), own[:, j], outcome[:, j], used[:, j], j, positive[:, j])
        for j in range(nodes)
    ]
    within = []
    for j in range(nodes):
        earlier = rank < rank[j]
        if not bool(earlier.any()):
            within.append(after[j])
            continue
        senders = torch.where(earlier.view(1, 1, -1, 1), now, before).flatten(2)
        within.append(
            _edge_statistics(senders, own[:, j], outcome[:, j], used[:, j], j, positive[:, j])
        )
    return torch.cat([torch.stack(after, 2), torch.stack(within, 2)], dim=-1).to(x.dtype)


def _responses(x: Tensor, sent: Tensor, residual: Callable[[Tensor], Tensor]) -> Tensor:
    """[B, N, D, T]: what the calendar leaves of every series' responses, the linear one first."""
    decay, slope, half = torch.tensor(_BANK, dtype=x.dtype, device=x.device).T.unsqueeze(-1)
    initial = x.mean(-1, keepdim=True).expand(-1, -1, len(_BANK))
    shaped = adstock_hill(x.unsqueeze(2), decay, slope, half, initial)[0]  # [B, N, D - 1, T]
    left = residual(shaped.flatten(1, 2)).view_as(shaped)
    return torch.cat([sent.unsqueeze(2), left], dim=2)


def _edge_statistics(
    senders: Tensor, own: Tensor, outcome: Tensor, used: Tensor, receiver: int, positive: Tensor
) -> Tensor:
    """[B, N, 3] of one receiver: log Bayes factor of every sender (logarithmic far from zero), root
    of the share of variance it explains, and its total effect over that effect's deviation.

    senders [B, T', N D], own lags [B, T', P], outcome and used rows [B, T'], positive [N].

    A regression on all responses of all senders and on the receiver's own lags. The coefficients of
    a sender share a prior variance, own lags have one each; variances and noise maximise the
    marginal likelihood by fixed-point updates (MacKay, 1992). Bayes factors are Savage-Dickey
    ratios, as in ``evidence.ard``.
    """
    stores, _, width = senders.shape
    nodes, lags = width // _COMPONENTS, own.shape[-1]
    design = torch.cat([senders, own], dim=-1) * used.unsqueeze(-1)  # [B, T', M]
    count = used.sum(-1).clamp_min(2.0)
    scale = (design.square().sum(1) / count.unsqueeze(-1)).sqrt()
    design = design / scale.clamp_min(1e-4).unsqueeze(1)
    level = (outcome.square().sum(-1) / count).sqrt().clamp_min(1e-6)
    target = outcome / level.unsqueeze(-1)
    gram, xty = design.mT @ design, (target.unsqueeze(1) @ design).squeeze(1)
    group = torch.arange(nodes + lags).repeat_interleave(
        torch.tensor([_COMPONENTS] * nodes + [1] * lags)
    )
    member = torch.nn.functional.one_hot(group).to(gram)  # [M, groups]
    allowed = (group != receiver).to(gram)  # a series is not its own sender
    variance = allowed.expand(stores, -1) / width + _MIN_VARIANCE
    freedom = (1 - _CALENDAR_SHARE) * count
    noise = 0.5 * count / freedom
    for _ in range(_ITERATIONS):
        sigma, coef = _posterior(gram, xty, variance, noise)
        gamma = (1 - sigma.diagonal(dim1=-2, dim2=-1)).clamp_min(1e-8)
        std = variance.sqrt()
        explained = (std * coef * xty).sum(-1) + noise * coef.square().sum(-1)
        left = torch.maximum(freedom - gamma.sum(-1), 0.2 * freedom)
        noise = ((count - explained) / left).clamp_min(_MIN_NOISE)
        ratio = (coef.square() @ member) / (gamma @ member)
        variance = (variance * (ratio @ member.mT)).clamp(_MIN_VARIANCE, _MAX_VARIANCE)
        variance = variance * allowed + _MIN_VARIANCE * (1 - allowed)
    sigma, coef = _posterior(gram, xty, variance, noise)
    std = variance.sqrt()
    blocks = diagonal_blocks(sigma[:, :width, :width], nodes)  # [B, N, D, D]
    mean, unit = (v[:, :width].unflatten(-1, (nodes, _COMPONENTS)) for v in (coef, std))
    white = whitening(blocks)
    distance = (white @ mean.unsqueeze(-1)).square().sum((-2, -1))
    log_bf = 0.5 * distance - white.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    total = (unit * mean).sum(-1)
    deviation = (unit * (blocks @ unit.unsqueeze(-1)).squeeze(-1)).sum(-1).clamp_min(1e-12).sqrt()
    z_score = total / deviation
    sign = torch.nn.functional.logsigmoid(_LOGISTIC_SCALE * z_score) + math.log(2)
    log_bf = log_bf + sign * positive
    weight = unit * mean
    size = (weight.unsqueeze(-2) @ diagonal_blocks(gram[:, :width, :width], nodes))[..., 0, :]
    share = ((size * weight).sum(-1) / count.unsqueeze(-1)).clamp(0, 2).sqrt()
    off = 1 - torch.nn.functional.one_hot(torch.tensor(receiver), nodes)
    squashed = log_bf.sign() * log_bf.abs().log1p()
    return torch.stack([squashed, share, z_score.clamp(-16, 16) / 4], -1) * off.unsqueeze(-1)


def _posterior(gram: Tensor, xty: Tensor, variance: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Covariance [B, M, M] and mean [B, M] of the coefficients, in units of their prior standard
    deviation."""
    std = variance.sqrt()
    scaled = std.unsqueeze(-1) * gram * std.unsqueeze(-2) / noise[..., None, None]
    sigma = spd_inverse(ridged(scaled, 1.0))
    return sigma, (sigma @ (std * xty / noise.unsqueeze(-1)).unsqueeze(-1)).squeeze(-1)
