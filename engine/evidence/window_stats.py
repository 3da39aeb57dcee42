"""What a window says about who drives whom, in closed form and without gradients.

A window MLP does not learn these statistics from thousands of stores, so the encoder is given them:
lagged cross-correlations, coefficients and group evidence of one ridge VAR per store, and the
likelihood ratio of every edge under the decoder's current responses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from causalmmm.engine.batches.windows import has_full_lags
from causalmmm.engine.ops.linalg import diagonal_blocks, ridged, whitening

RIDGE = 10.0  # prior precision of a standardised VAR coefficient, in units of the noise variance
_CLIP = 8.0
_SWEEPS = 3  # of the mean-field solution over senders
RESPONSE_WIDTH = 8
EVIDENCE = -2  # position of the log Bayes factor among the edge features, in units of EVIDENCE_UNIT
EVIDENCE_UNIT = 4.0
_FLAT = 0.01  # a residual spread below this share of a series' level counts as constant


@dataclass
class WindowStatistics:
    """Statistics of B windows.

    edges     [B, N, N, 2 lags + 5], axis 1 the sender and axis 2 the receiver.
    nodes     [B, N, G], G = ``node_width(lags)``.
    spread    [B, N], standard deviation of the series as receivers, in scaled units, and rows
              [B, N], the number of rows it was measured on.
    """

    edges: Tensor
    nodes: Tensor
    spread: Tensor
    rows: Tensor


def edge_width(lags: int) -> int:
    """F: edge features of a model with ``lags`` lags, window and response statistics together."""
    return 2 * lags + 5 + RESPONSE_WIDTH


def node_width(lags: int) -> int:
    """G: node features of a model with ``lags`` lags."""
    return lags + 5


@torch.no_grad()
def window_statistics(
    residual: Tensor, received: Tensor, active: Tensor, context_mask: Tensor, lags: int
) -> WindowStatistics:
    """Statistics of residual series [B, N, T] on the rows of ``context_mask``, without gradient.

    ``residual`` is of the series as senders; ``received`` of the series as receivers, which are
    explained only on rows where they are ``active`` (0 or 1, [B, N, T]).

    One Gram matrix of all lags gives both the correlations and, through one Cholesky factorisation
    per store, the ridge VAR(lags): B = (Z'Z + c I)^-1 Z'Y, its posterior covariance, and for every
    ordered pair the group statistic b' (P_ii)^-1 b / s_j^2 (Wald, under the ridge prior).
    """
    stores, nodes, steps = residual.shape
    rows = context_mask.to(residual.dtype)
    count = rows.sum(-1).clamp_min(2.0)
    spread = ((residual.square() * rows.unsqueeze(1)).sum(-1) / count.unsqueeze(-1)).sqrt()
    explained = (active * rows.unsqueeze(1)).sum(-1).clamp_min(2.0)
    received_spread = ((received.square() * rows.unsqueeze(1)).sum(-1) / explained).sqrt()
    # a series may be all but constant on the seen rows and move elsewhere: bound what that can do
    series = (residual / spread.clamp_min(_FLAT).unsqueeze(-1)).clamp(-_CLIP, _CLIP)
    outcome = (received / spread.clamp_min(_FLAT).unsqueeze(-1)).clamp(-_CLIP, _CLIP)
    # rows predicted: all seen rows that have `lags` predecessors inside the window
    used = has_full_lags(context_mask, lags).to(residual.dtype).unsqueeze(1)
    n = used.sum(-1).clamp_min(2.0)  # [B, 1]
    counted = used * active[..., lags:]
    present = outcome[..., lags:] * counted  # [B, N, T']
    share = counted.sum(-1).clamp_min(2.0) / n  # [B, N]
    single = series.unsqueeze(2)
    shifted = [single[..., lag : steps - lags + lag] for lag in range(lags)]
    past = torch.cat(shifted, dim=2).flatten(1, 2)  # [B, N L, T'], lag 1 last
    gram = (past * used) @ past.mT
    cross = past @ present.mT  # [B, N L, N]
    white = whitening(ridged(gram, RIDGE))
    half = white @ cross
    weight = white.mT @ half  # [B, N L, N]
    freedom = nodes * lags - RIDGE * white.square().sum((1, 2)).unsqueeze(-1)
    squares = (present.square().sum(-1) - half.square().sum(1)).clamp_min(1e-6)
    noise = squares / (share * n - freedom).clamp_min(0.2 * share * n)  # [B, N]
    blocks = _inverse_blocks(white, nodes)  # [B, N, L, L]
    weight = weight.view(stores, nodes, lags, nodes)
    evidence = (whitening(blocks) @ weight).square().sum(2) / noise.unsqueeze(1)  # [B, N, N]
    deviation = (blocks.diagonal(dim1=-2, dim2=-1).unsqueeze(-1) * noise[:, None, None]).sqrt()
    ratio = (weight / deviation).transpose(2, 3)  # [B, N, N, L]
    root = n.sqrt().view(-1, 1, 1, 1)
    lagged = cross.view(stores, nodes, lags, nodes).transpose(2, 3) / root
    same = ((present @ present.mT) / root.squeeze(-1)).unsqueeze(-1)
    group = (evidence.sqrt() - lags**0.5).unsqueeze(-1)
    total = (weight.sum(2) * root.squeeze(-1) / lags**0.5).unsqueeze(-1)
    size = torch.log(n / 100).view(-1, 1, 1, 1).expand(-1, nodes, nodes, 1)
    edges = torch.cat([ratio, lagged, same, group, group.transpose(1, 2), total, size], dim=-1)
    own = cross.view(stores, nodes, lags, nodes).diagonal(dim1=1, dim2=3).mT / n.unsqueeze(-1)
    square = series.square()
    third = (square * series * rows.unsqueeze(1)).sum(-1) / count.unsqueeze(-1)
    fourth = (square.square() * rows.unsqueeze(1)).sum(-1) / count.unsqueeze(-1)
    node = torch.stack(
        [
            third.clamp(-4, 4) / 2,
            torch.log1p(fourth.clamp_min(0)),
            noise.sqrt(),
            spread.clamp_min(1e-4).log() + 1.5,
            size[:, :, 0, 0],
        ],
        dim=-1,
    )
    return WindowStatistics(
        edges=edges.clamp(-_CLIP, _CLIP) / 2,
        nodes=torch.cat([own, node], dim=-1),
        spread=received_spread,
        rows=explained,
    )


@dataclass
class ResponseEvidence:
    """What a window says about every pair in the decoder's own terms.

    edges   [B, N, N, RESPONSE_WIDTH], features.
    factor  [B, N, N], log Bayes factors before the store's prototype weights are known.
    gram    [B, N D, N D] of the responses, cross [B, N D, N] with the receivers, on the rows seen;
    share   [B, N] of those rows on which a receiver runs.
    """

    edges: Tensor
    factor: Tensor
    gram: Tensor
    cross: Tensor
    share: Tensor


@torch.no_grad()
def response_evidence(
    errors: Tensor,
    responses: Tensor,
    beta: Tensor,
    log_noise: Tensor,
    active: Tensor,
    context_mask: Tensor,
    log_odds: Tensor,
    store_odds: Callable[[Tensor], Tensor],
    spread: float,
) -> ResponseEvidence:
    """Evidence under effects that all stores share, without gradient.

    errors     [B, N, T'], what calendar and own past leave of every receiver.
    responses  [B, N, D, T'] of every sender, aligned one step earlier.
    beta       [N, N, D], the effects that stores share; log_noise [B, N] of the receivers.
    seen       bool [B, T'], rows that count, for receiver j where running [B, N, T'].
    log_odds   [N, N] of an edge before the store is seen; ``store_odds`` gives those of a store
               [B, N, N] from a first round of log Bayes factors [B, N, N].
    spread     of a store's effect around beta.

    Features per pair: the group statistic of a ridge regression of the receiver on all responses;
    for the shared effect alone, and given that regression's other senders, the matched filter and
    the signed logarithm of the likelihood ratio of "edge" against "no edge"; and the matched filter
    and log Bayes factor given the other senders' mean-field posterior (see :func:`mean_field`).
    """
    stores, nodes, parts, _ = responses.shape
    rows = context_mask.to(errors.dtype).unsqueeze(1)
    flat = responses.flatten(1, 2) * rows
    counted = rows * active
    share = counted.sum(-1) / rows.sum(-1).clamp_min(1.0)  # a receiver's rows stand for all rows
    scaled = (errors * (-log_noise).exp().unsqueeze(-1)).clamp(-_CLIP, _CLIP) * counted
    plain_gram, plain_cross = flat @ flat.mT, flat @ scaled.mT
    square = plain_gram.diagonal(dim1=1, dim2=2) / rows.sum(-1).clamp_min(2.0)
    size = square.clamp_min(1e-6).sqrt().unsqueeze(-1)
    gram, cross = plain_gram / (size * size.mT), plain_cross / size
    white = whitening(ridged(gram, RIDGE))
    weight = (white.mT @ (white @ cross)).view(stores, nodes, parts, nodes)
    own = diagonal_blocks(gram, nodes)
    group = (whitening(_inverse_blocks(white, nodes)) @ weight).square().sum(2)
    unit = size.view(stores, nodes, parts, 1) * (-log_noise).exp().view(stores, 1, 1, nodes)
    effect = beta.transpose(1, 2) * unit
    xtx_diag = (effect * (own @ effect)).sum(2) * share.unsqueeze(1)
    root = xtx_diag.clamp_min(1e-6).sqrt()
    statistics = [group.sqrt() - parts**0.5]
    # (G + cI) w = G'e, so what the other senders leave for sender i is c w_i + G_ii w_i
    for signal in (cross.view_as(weight), RIDGE * weight + own @ weight):
        hit = (effect * signal).sum(2)
        ratio = hit - 0.5 * xtx_diag
        statistics += [hit / root, ratio.sign() * ratio.abs().log1p()]
    xty = (effect * cross.view_as(weight)).sum(2).mT  # receiver first from here on
    precision = (-2 * log_noise).exp() * share
    overlap = _overlap(plain_gram, beta) * precision[:, :, None, None]
    first, _ = mean_field(xty, overlap, log_odds.mT, spread)
    factor, post_mean = mean_field(xty, overlap, store_odds(first.mT).mT, spread)
    left = xty - (overlap @ post_mean.unsqueeze(-1)).squeeze(-1) + xtx_diag.mT * post_mean
    statistics += [left.mT / root, 2 * factor.mT / EVIDENCE_UNIT, root.log1p()]
    edges = torch.stack(statistics, dim=-1).clamp(-_CLIP, _CLIP) / 2
    return ResponseEvidence(edges, first.mT, plain_gram, plain_cross, share)


def _overlap(gram: Tensor, beta: Tensor) -> Tensor:
    """[B, N, N, N]: sums over components d, e of beta_ijd gram_idke beta_kje, as [b, j, i, k].

    gram [B, N D, N D] and beta [N, N, D]; the second factor is spread out to [N, N D, N], so that
    both steps are whole matrices.
    """
    nodes, parts = beta.shape[1:]
    sides = beta @ gram.unflatten(1, (nodes, parts))  # [B, i, j, k e]
    spread = torch.diag_embed(beta.permute(1, 2, 0)).transpose(1, 2).flatten(1, 2)  # [j, k e, k]
    return sides.transpose(1, 2) @ spread


def mean_field(
    xty: Tensor, overlap: Tensor, log_odds: Tensor, spread: float
) -> tuple[Tensor, Tensor]:
    """Which senders explain each receiver: spike and slab regression on known directions.

    For receiver j, y = sum_i z_i a_i x_i + noise of unit variance, z_i Bernoulli with ``log_odds``
    [N, N] or [B, N, N], a_i ~ N(1, spread^2). From x_i'y = ``xty`` [B, N, N] and x_i'x_k =
    ``overlap`` [B, N, N, N] (receiver first in all), coordinate ascent on the mean-field posterior
    gives log Bayes factors of z_i given the others, and E[z_i a_i], both [B, N, N].
    """
    log_odds = log_odds.expand_as(xty)
    if torch.compiler.is_exporting():
        return exported_mean_field(xty, overlap, log_odds, spread, _SWEEPS)
    return _mean_field(xty, overlap, log_odds, spread, _SWEEPS)


def _mean_field(
    xty: Tensor, overlap: Tensor, log_odds: Tensor, spread: float, sweeps: int
) -> tuple[Tensor, Tensor]:
    xtx_diag = overlap.diagonal(dim1=2, dim2=3)
    others = overlap - torch.diag_embed(xtx_diag)
    post_mean, factor = torch.zeros_like(xty), torch.zeros_like(xty)
    for _ in range(sweeps):
        for i in range(xty.shape[-1]):
            hit = xty[..., i] - (others[:, :, i] * post_mean).sum(-1)
            factor[..., i], mean = _log_bayes_factor(hit, xtx_diag[..., i], spread)
            post_mean[..., i] = torch.sigmoid(factor[..., i] + log_odds[..., i]) * mean
    return factor, post_mean


@torch.library.custom_op("causalmmm::mean_field", mutates_args=())
def exported_mean_field(
    xty: Tensor, overlap: Tensor, log_odds: Tensor, spread: float, sweeps: int
) -> tuple[Tensor, Tensor]:
    return _mean_field(xty, overlap, log_odds, spread, sweeps)


exported_mean_field.register_fake(lambda xty, *_: (torch.empty_like(xty), torch.empty_like(xty)))


def _log_bayes_factor(hit: Tensor, xtx_diag: Tensor, spread: float) -> tuple[Tensor, Tensor]:
    """Of exp(a hit - a^2 power / 2) with a ~ N(1, spread^2) integrated out; and a's mean."""
    precision = spread**-2
    mean = (hit + precision) / (xtx_diag + precision)
    gain = 0.5 * mean.square() * (xtx_diag + precision)
    return gain - 0.5 * (torch.log1p(xtx_diag / precision) + precision), mean


def _inverse_blocks(white: Tensor, nodes: int) -> Tensor:
    """Diagonal blocks [B, N, M, M] of W'W, W = ``white`` [B, N M, N M]."""
    columns = white.mT.unflatten(1, (nodes, -1))
    return columns @ columns.mT
