"""Evidence for every edge under the decoder's current responses, in closed form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from causalmmm.engine.evidence.features import CLIP, LOG_BF_UNIT, RIDGE
from causalmmm.engine.evidence.mean_field import mean_field
from causalmmm.engine.ops.linalg import diagonal_blocks, inverse_blocks, ridged, whitening


@dataclass
class ResponseEvidence:
    """Evidence of a window for every edge, under the decoder's current responses and effects.

    edges   [B, N, N, RESPONSE_WIDTH], edge features.
    factor  [B, N, N], log Bayes factors under the marginal edge prior (before the store's
            prototype weights are inferred).
    gram    [B, N D, N D], Gram matrix of the responses on the context rows.
    cross   [B, N D, N], products of the responses with the receivers' standardised errors.
    share   [B, N], share of the context rows on which a receiver is active.
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
    """Evidence for every edge under the shared effects, without gradient.

    errors        [B, N, T'], residuals of every receiver after calendar and autoregression.
    responses     [B, N, D, T'], responses of every sender, one step earlier.
    beta          [N, N, D], shared effects.
    log_noise     [B, N], log standard deviation of the receivers' errors.
    active        0 or 1, [B, N, T'], rows on which a receiver is explained.
    context_mask  bool [B, T'].
    log_odds      [N, N], marginal prior log odds of an edge.
    store_odds    maps log Bayes factors [B, N, N] to the store's prior log odds [B, N, N].
    spread        standard deviation of a store's effect relative to beta.

    Features per pair: the group statistic of a ridge regression of the receiver on all responses;
    the matched filter and the signed logarithm of the likelihood ratio of "edge" against "no edge",
    both for the shared effect alone and given that regression's other senders; and the matched
    filter and log Bayes factor given the other senders' mean-field posterior
    (:func:`~causalmmm.engine.evidence.mean_field.mean_field`).
    """
    stores, nodes, components, _ = responses.shape
    rows = context_mask.to(errors.dtype).unsqueeze(1)
    flat = responses.flatten(1, 2) * rows
    counted = rows * active
    share = counted.sum(-1) / rows.sum(-1).clamp_min(1.0)  # active rows represent all rows
    scaled = (errors * (-log_noise).exp().unsqueeze(-1)).clamp(-CLIP, CLIP) * counted
    plain_gram, plain_cross = flat @ flat.mT, flat @ scaled.mT
    square = plain_gram.diagonal(dim1=1, dim2=2) / rows.sum(-1).clamp_min(2.0)
    size = square.clamp_min(1e-6).sqrt().unsqueeze(-1)
    gram, cross = plain_gram / (size * size.mT), plain_cross / size
    white = whitening(ridged(gram, RIDGE))
    weight = (white.mT @ (white @ cross)).view(stores, nodes, components, nodes)
    own = diagonal_blocks(gram, nodes)
    group = (whitening(inverse_blocks(white, nodes)) @ weight).square().sum(2)
    unit = size.view(stores, nodes, components, 1) * (-log_noise).exp().view(stores, 1, 1, nodes)
    effect = beta.transpose(1, 2) * unit
    xtx_diag = (effect * (own @ effect)).sum(2) * share.unsqueeze(1)
    root = xtx_diag.clamp_min(1e-6).sqrt()
    statistics = [group.sqrt() - components**0.5]
    # (G + cI) w = G'e, so with the other senders' part removed G_i'e is c w_i + G_ii w_i
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
    statistics += [left.mT / root, 2 * factor.mT / LOG_BF_UNIT, root.log1p()]
    edges = torch.stack(statistics, dim=-1).clamp(-CLIP, CLIP) / 2
    return ResponseEvidence(edges, first.mT, plain_gram, plain_cross, share)


def _overlap(gram: Tensor, beta: Tensor) -> Tensor:
    """[B, N, N, N]: sum over components d, e of beta_ijd gram_idke beta_kje, as [b, j, i, k].

    gram [B, N D, N D] and beta [N, N, D]. The second factor is expanded to a block diagonal
    [N, N D, N], which makes both steps matrix products.
    """
    nodes, components = beta.shape[1:]
    sides = beta @ gram.unflatten(1, (nodes, components))  # [B, i, j, k e]
    spread = torch.diag_embed(beta.permute(1, 2, 0)).transpose(1, 2).flatten(1, 2)  # [j, k e, k]
    return sides.transpose(1, 2) @ spread
