"""Evidence for edges from a bank of fixed responses, after a step and within it.

Lags of the series know nothing of carry-over and saturation, and nothing of effects within the
step. A few responses of each sender stand for all shapes; relevance priors choose among them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from causalmmm.engine.batches.masks import has_full_lags
from causalmmm.engine.evidence.features import squashed
from causalmmm.engine.ops.export_switch import exporting
from causalmmm.engine.ops.linalg import diagonal_blocks, ridged, whitening
from causalmmm.kernels import adstock_hill
from causalmmm.kernels import evidence as compiled

_OWN_LAGS = (1, 2, 3)
# decay, slope, half-saturation in units of the series' mean; a linear response comes on top
_BANK = ((0.0, 1.0, 0.5), (0.4, 1.5, 1.0), (0.75, 1.5, 1.0))
_COMPONENTS = 1 + len(_BANK)
_ITERATIONS = 5
_MIN_VARIANCE, _MAX_VARIANCE = 1e-8, 1e2  # columns and outcomes have unit mean square
_MIN_NOISE = 1e-4
_MIN_GAMMA = 1e-8
_CALENDAR_SHARE = 0.08  # of the degrees of freedom, as in ``evidence.ard``
_LOGISTIC_SCALE = 1.702  # logistic(1.702 x) is within 0.01 of the normal distribution function


@dataclass(frozen=True)
class ResponseStatistics:
    """Statistics of B stores, and what the regressions on the step before leave of the series.

    edges        [B, N, N, 6]: evidence, size and sign of every edge with senders one step back,
                 then with senders of lower rank within the step.
    innovations  [B, N, T'] of the receivers, zero where ``used`` is.
    used         0 or 1, [B, N, T'], rows that are explained.
    before       [B, N, T'], calendar residuals of the senders one step back.
    """

    edges: Tensor
    innovations: Tensor
    used: Tensor
    before: Tensor


def response_features(
    x: Tensor,
    sent: Tensor,
    received: Tensor,
    active: Tensor,
    context_mask: Tensor,
    residual: Callable[[Tensor], Tensor],
    rank: Tensor,
    positive: Tensor,
) -> ResponseStatistics:
    """Of receivers regressed on the responses of all others; ``rank`` [N] orders series within a
    step. Arguments as in ``pair_statistics``."""
    steps = x.shape[-1]
    first = max(_OWN_LAGS)
    bank = _responses(x, sent, residual).double().permute(0, 3, 1, 2)  # [B, T, N, D]
    used = active[..., first:] * has_full_lags(context_mask, first).unsqueeze(1)
    used, received = used.double(), received.double()  # [B, N, T'], [B, N, T]
    before = bank[:, first - 1 : steps - 1]  # [B, T', N, D]
    earlier = rank.unsqueeze(1) > rank  # [receivers, senders]
    # where no series is settled earlier, both alignments are the same regression
    ordered = [j for j, some in enumerate(earlier.any(1).tolist()) if some]
    count = len(rank)
    receivers = [*range(count), *ordered]
    now = torch.cat([torch.zeros_like(earlier), earlier[ordered]]).to(x.device)  # [R, N]
    found = _regressions(bank, received, used, now, receivers)
    statistics = _edge_statistics(found, positive, receivers)  # [B, R, N, 3]
    after = statistics[:, :count]
    within = [
        statistics[:, count + ordered.index(j)] if j in ordered else after[:, j]
        for j in range(count)
    ]
    both = torch.cat([after.transpose(1, 2), torch.stack(within, dim=2)], dim=-1)
    weight = found.weight[:, :count]  # [B, N, M]
    outcome = received[..., first:] * used
    explained = weight[..., : -len(_OWN_LAGS)] @ before.flatten(2).mT  # [B, N, T']
    own = _own_lags(received)  # [B, N, T', P]
    explained = explained + (own @ weight[..., -len(_OWN_LAGS) :, None]).squeeze(-1)
    innovations = outcome - explained * used
    return ResponseStatistics(
        *(part.to(x.dtype) for part in (both, innovations, used, before[..., 0].mT))
    )


def _responses(x: Tensor, sent: Tensor, residual: Callable[[Tensor], Tensor]) -> Tensor:
    """[B, N, D, T]: what the calendar leaves of every series' responses, the linear one first."""
    decay, slope, half = torch.tensor(_BANK, dtype=x.dtype, device=x.device).T.unsqueeze(-1)
    initial = x.mean(-1, keepdim=True).expand(-1, -1, len(_BANK))
    shaped = adstock_hill(x.unsqueeze(2), decay, slope, half, initial)[0]  # [B, N, D - 1, T]
    left = residual(shaped.flatten(1, 2)).view_as(shaped)
    return torch.cat([sent.unsqueeze(2), left], dim=2)


@dataclass(frozen=True)
class _Regressions:
    """What R regressions of B stores found: columns are N D responses, then P own lags.

    factor   [B, R, N], log Bayes factors of the edges, whatever their sign.
    share    [B, R, N], roots of the shares of variance that senders explain.
    z_score  [B, R, N], total effects over their deviations.
    weight   [B, R, N D + P], coefficients of columns and outcomes as they are.
    """

    factor: Tensor
    share: Tensor
    z_score: Tensor
    weight: Tensor


def _regressions(
    bank: Tensor, received: Tensor, used: Tensor, now: Tensor, receivers: Sequence[int]
) -> _Regressions:
    """Of each receiver [R] on the responses [B, T, N, D] of all other series, a step earlier or,
    where ``now`` [R, N], within the step, and on its own lags; ``received`` [B, N, T].

    The coefficients of a sender share a prior variance, own lags have one each; variances and noise
    maximise the marginal likelihood by fixed-point updates (MacKay, 1992). Bayes factors are
    Savage-Dickey ratios, as in ``evidence.ard``.
    """
    if compiled.relevance_supported(bank) and not exporting():
        scales = (_MIN_VARIANCE, _MAX_VARIANCE, _MIN_NOISE, _MIN_GAMMA, _CALENDAR_SHARE)
        arguments = (bank, received, used, now, receivers)
        return _Regressions(*compiled.bank_relevance(*arguments, _ITERATIONS, scales))
    return _plain_regressions(bank, received, used, now, receivers)


def _plain_regressions(
    bank: Tensor, received: Tensor, used: Tensor, now: Tensor, receivers: Sequence[int]
) -> _Regressions:
    """The plain form of :func:`_regressions`."""
    first, nodes = max(_OWN_LAGS), bank.shape[2]
    before, present = bank[:, first - 1 : -1], bank[:, first:]  # [B, T', N, D]
    own, outcome = _own_lags(received), received[..., first:] * used
    moments = [
        _moments(
            torch.where(row[:, None], present, before) if some else before,
            *(own[:, j], outcome[:, j], used[:, j]),
        )
        for j, row, some in zip(receivers, now, now.any(1).tolist(), strict=True)
    ]
    gram, xty, count, unit = (torch.stack(part, dim=1) for part in zip(*moments, strict=True))
    itself = torch.eye(nodes, dtype=gram.dtype, device=gram.device)[list(receivers)]  # [R, N]
    variance, white, coef = _fitted(gram, xty, count, itself)
    width = nodes * _COMPONENTS
    columns = white[..., :width].mT.unflatten(-2, (nodes, _COMPONENTS))  # [B, R, N, D, M]
    blocks = columns @ columns.mT  # [B, R, N, D, D], covariance of each sender's coefficients
    mean, std = (
        v[..., :width].unflatten(-1, (nodes, _COMPONENTS)) for v in (coef, variance.sqrt())
    )
    whitened = whitening(blocks)
    distance = (whitened @ mean.unsqueeze(-1)).square().sum((-2, -1))
    factor = 0.5 * distance - whitened.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    effect = std * mean
    deviation = (std * (blocks @ std.unsqueeze(-1)).squeeze(-1)).sum(-1).clamp_min(1e-12).sqrt()
    size = (effect.unsqueeze(-2) @ diagonal_blocks(gram[..., :width, :width], nodes)).squeeze(-2)
    share = ((size * effect).sum(-1) / count.unsqueeze(-1)).clamp(0.0, 2.0).sqrt()
    weight = unit * (variance.sqrt() * coef)
    return _Regressions(factor, share, effect.sum(-1) / deviation, weight)


def _fitted(
    gram: Tensor, xty: Tensor, count: Tensor, itself: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Prior variances [B, R, M] that evidence chooses, and whitening and mean of the coefficients
    under them, from gram [B, R, M, M], xty [B, R, M], rows [B, R], and 0 or 1 [R, N], which series
    is the receiver."""
    nodes, lags = itself.shape[-1], len(_OWN_LAGS)
    width = nodes * _COMPONENTS
    sizes = torch.tensor([_COMPONENTS] * nodes + [1] * lags)
    group = torch.arange(nodes + lags).repeat_interleave(sizes, output_size=width + lags)
    member = torch.eye(nodes + lags, dtype=gram.dtype)[group].to(gram.device)  # [M, groups]
    allowed = 1 - itself @ member[:, :nodes].mT  # [R, M], a series is not its own sender
    variance = (allowed / width + _MIN_VARIANCE).expand_as(xty)
    freedom = (1 - _CALENDAR_SHARE) * count
    noise = 0.5 * count / freedom
    for _ in range(_ITERATIONS):
        white, coef = _posterior(gram, xty, variance, noise)
        gamma = (1 - white.square().sum(-2)).clamp_min(_MIN_GAMMA)
        explained = (variance.sqrt() * coef * xty).sum(-1) + noise * coef.square().sum(-1)
        left = torch.maximum(freedom - gamma.sum(-1), 0.2 * freedom)
        noise = ((count - explained) / left).clamp_min(_MIN_NOISE)
        ratio = (coef.square() @ member) / (gamma @ member)
        variance = (variance * (ratio @ member.mT)).clamp(_MIN_VARIANCE, _MAX_VARIANCE)
        variance = variance * allowed + _MIN_VARIANCE * (1 - allowed)
    return variance, *_posterior(gram, xty, variance, noise)


def _own_lags(received: Tensor) -> Tensor:
    """[B, N, T', P] of receivers [B, N, T]."""
    first, steps = max(_OWN_LAGS), received.shape[-1]
    return torch.stack([received[..., first - k : steps - k] for k in _OWN_LAGS], -1)


def _moments(
    senders: Tensor, own: Tensor, outcome: Tensor, used: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gram matrix [B, M, M], products with the outcome [B, M] and number of rows [B] of one
    receiver's regression; columns and outcome have unit mean square. The last [B, M] are what their
    coefficients are multiplied with for columns and outcome as they are.

    senders [B, T', N, D], own lags [B, T', P], outcome and used rows [B, T'].
    """
    design = torch.cat([senders.flatten(2), own], dim=-1) * used.unsqueeze(-1)  # [B, T', M]
    count = used.sum(-1).clamp_min(2.0)
    gram, xty = design.mT @ design, (outcome.unsqueeze(1) @ design).squeeze(1)
    mean_square = gram.diagonal(dim1=-2, dim2=-1) / count.unsqueeze(-1)
    size = mean_square.sqrt().clamp_min(1e-4)  # [B, M]
    level = (outcome.square().sum(-1) / count).sqrt().clamp_min(1e-6)
    gram = gram / size.unsqueeze(-1) / size.unsqueeze(-2)
    return gram, xty / size / level.unsqueeze(-1), count, level.unsqueeze(-1) / size


def _edge_statistics(found: _Regressions, positive: Tensor, receivers: Sequence[int]) -> Tensor:
    """[B, R, N, 3]: log Bayes factor of the edge (logarithmic far from zero), root of the share of
    variance it explains, and its total effect over that effect's deviation; zero of a series with
    itself. ``positive`` [N, N], receiver of each regression."""
    sign = torch.nn.functional.logsigmoid(_LOGISTIC_SCALE * found.z_score) + math.log(2)
    log_bf = found.factor + sign * positive.mT[list(receivers)]
    z_score = found.z_score.clamp(-16.0, 16.0) / 4
    statistics = torch.stack([squashed(log_bf), found.share, z_score], -1)
    itself = torch.eye(len(positive), dtype=z_score.dtype, device=z_score.device)
    return statistics * (1 - itself[list(receivers)]).unsqueeze(-1)


def _posterior(gram: Tensor, xty: Tensor, variance: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Whitening W [B, R, M, M] of the precision (W'W is the covariance) and mean [B, R, M] of the
    coefficients, in units of their prior standard deviation."""
    std = variance.sqrt()
    scaled_std = std / noise.sqrt().unsqueeze(-1)
    white = whitening(ridged(scaled_std.unsqueeze(-1) * gram * scaled_std.unsqueeze(-2), 1.0))
    half = white @ (std * xty / noise.unsqueeze(-1)).unsqueeze(-1)
    return white, (white.mT @ half).squeeze(-1)
