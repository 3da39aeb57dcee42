"""Evidence for every edge under the decoder's current responses, in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from causalmmm.engine.batches.masks import has_full_lags
from causalmmm.engine.evidence.features import CLIP, FLAT, LOG_BF_UNIT, RIDGE, squashed
from causalmmm.engine.evidence.mean_field import mean_field
from causalmmm.engine.ops.export_switch import exporting
from causalmmm.engine.ops.linalg import diagonal_blocks, inverse_blocks, ridged, whitening
from causalmmm.kernels import evidence as compiled
from causalmmm.kernels.likelihood import ar_prediction


@dataclass
class ResponseTerms:
    """What a window says of every edge under the shared effects, before any prior of edges.

    statistics  [B, N, N, 5], see :func:`response_terms`.
    xty         [B, N, N], products of a sender's effect with the receiver's error, in nats.
    xtx_diag    [B, N, N], products of a sender's effect with itself.
    overlap     [B, N, N, N], products of the effects of senders i and k on receiver j, as
                [b, i, k, j].
    gram        [B, N D, N D], Gram matrix of the centred responses on the context rows.
    cross       [B, N D, N], products of those with the receivers' standardised errors.
    share       [B, N], share of the context rows on which a receiver is active.
    """

    statistics: Tensor
    xty: Tensor
    xtx_diag: Tensor
    overlap: Tensor
    gram: Tensor
    cross: Tensor
    share: Tensor


@dataclass
class ResponseEvidence:
    """Evidence of a window for every edge, under the decoder's current responses and effects.

    edges   [B, N, N, RESPONSE_WIDTH], edge features.
    factor  [B, N, N], log Bayes factors under the marginal edge prior (before the store's
            prototype weights are inferred).
    gram, cross, share  as in :class:`ResponseTerms`.
    """

    edges: Tensor
    factor: Tensor
    gram: Tensor
    cross: Tensor
    share: Tensor


@torch.no_grad()
def response_terms(
    residual: Tensor,
    ar_weights: Tensor,
    responses: Tensor,
    solver: Tensor,
    basis: Tensor,
    beta: Tensor,
    log_noise: Tensor,
    active: Tensor,
    context_mask: Tensor,
) -> ResponseTerms:
    """Terms of every edge's evidence, without gradient.

    residual      [B, N, T], every receiver after its calendar.
    ar_weights    [N, P], shared autoregressive weights, lag 1 first.
    responses     [B, N, D, T - 1], responses of every sender, one step earlier.
    solver        [B, Q, T], maps a series to its calendar coefficients; responses are taken as
                  acting one step later.
    basis         [B, T, Q], the calendar.
    beta          [N, N, D], shared effects.
    log_noise     [B, N], log standard deviation of the receivers' errors.
    active        0 or 1, [B, N, T], rows on which a receiver is explained.
    context_mask  bool [B, T].

    Statistics per pair: the group statistic of a ridge regression of the receiver on all responses;
    the matched filter and the signed logarithm of the likelihood ratio of "edge" against "no edge",
    both for the shared effect alone and given that regression's other senders.
    """
    arguments = (residual, ar_weights, responses, solver, basis, beta, log_noise, active)
    if compiled.supported(residual, beta.shape[-1]) and not exporting():
        scales = (RIDGE, CLIP, FLAT)
        return ResponseTerms(*compiled.response_terms(*arguments, context_mask, scales))
    return _response_terms(*arguments, context_mask)


def _response_terms(
    residual: Tensor,
    ar_weights: Tensor,
    responses: Tensor,
    solver: Tensor,
    basis: Tensor,
    beta: Tensor,
    log_noise: Tensor,
    active: Tensor,
    context_mask: Tensor,
) -> ResponseTerms:
    """The plain form of :func:`response_terms`."""
    stores, nodes, components, _ = responses.shape
    errors = residual[..., 1:] - ar_prediction(ar_weights, residual)
    rows = has_full_lags(context_mask, 1).to(errors.dtype).unsqueeze(1)
    series = responses.flatten(1, 2)
    calendar = series @ (solver[..., 1:] * rows).mT @ basis[:, 1:].mT
    flat = (series - calendar) * rows  # [B, N D, T - 1], centred
    counted = rows * active[..., 1:]
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
        statistics += [hit / root, squashed(ratio)]
    precision = (-2 * log_noise).exp() * share
    return ResponseTerms(
        statistics=torch.stack(statistics, dim=-1),
        xty=(effect * cross.view_as(weight)).sum(2),
        xtx_diag=xtx_diag,
        overlap=_overlap(plain_gram, beta) * precision[:, None, None],
        gram=plain_gram,
        cross=plain_cross,
        share=share,
    )


@torch.no_grad()
def response_evidence(
    terms: ResponseTerms, factor: Tensor, log_odds: Tensor, spread: float
) -> ResponseEvidence:
    """Evidence for every edge, without gradient, from its terms and a store's prior.

    factor    [B, N, N], log Bayes factors under the marginal edge prior.
    log_odds  [B, N, N], the store's prior log odds, which ``factor`` gave it.
    spread    standard deviation of a store's effect relative to beta.

    Features per pair: the statistics of ``terms``; and the matched filter and log Bayes factor
    given the other senders' mean-field posterior
    (:func:`~causalmmm.engine.evidence.mean_field.mean_field`).
    """
    informed, post_mean = mean_field(terms.xty, terms.overlap, log_odds, spread)
    explained = (terms.overlap * post_mean.unsqueeze(1)).sum(2)  # [B, N, N], by all senders
    left = terms.xty - explained + terms.xtx_diag * post_mean
    root = terms.xtx_diag.clamp_min(1e-6).sqrt()
    rest = torch.stack([left / root, informed * (2 / LOG_BF_UNIT), root.log1p()], dim=-1)
    edges = torch.cat([terms.statistics, rest], dim=-1).clamp(-CLIP, CLIP) / 2
    return ResponseEvidence(edges, factor, terms.gram, terms.cross, terms.share)


def _overlap(gram: Tensor, beta: Tensor) -> Tensor:
    """[B, N, N, N]: sum over components d, e of beta_ijd gram_idke beta_kje, as [b, i, k, j].

    gram [B, N D, N D] and beta [N, N, D]. The second factor is expanded to a block diagonal
    [N, N D, N], which makes both steps matrix products.
    """
    nodes, components = beta.shape[1:]
    sides = beta @ gram.unflatten(1, (nodes, components))  # [B, i, j, k e]
    spread = torch.diag_embed(beta.permute(1, 2, 0)).transpose(1, 2).flatten(1, 2)  # [j, k e, k]
    return (sides.transpose(1, 2) @ spread).permute(0, 2, 3, 1)
