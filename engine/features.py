"""What a window says about who drives whom, in closed form and without gradients.

A window MLP does not learn these statistics from thousands of stores, so the encoder is given them:
lagged cross-correlations, coefficients and group evidence of one ridge VAR per store, and the
likelihood ratio of every edge under the decoder's current responses.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from causalmmm.engine.linalg import spd_inverse, spd_solve

_RIDGE = 10.0  # prior precision of a standardised VAR coefficient, in units of the noise variance
_CLIP = 8.0
RESPONSE_WIDTH = 6
LIKELIHOOD_RATIO = -2  # position of the conditional log-likelihood ratio among the edge features
_FLAT = 0.01  # a residual spread below this share of a series' level counts as constant


@dataclass
class WindowStatistics:
    """Statistics of B windows.

    edges     [B, N, N, 2 lags + 5], axis 1 the sender and axis 2 the receiver.
    nodes     [B, N, G], G = ``node_width(lags)``.
    variance  [B, N], variance that the store's own VAR leaves, in scaled units, and rows [B], the
              number of rows it was measured on.
    """

    edges: Tensor
    nodes: Tensor
    variance: Tensor
    rows: Tensor


def edge_width(lags: int) -> int:
    """F: edge features of a model with ``lags`` lags, window and response statistics together."""
    return 2 * lags + 5 + RESPONSE_WIDTH


def node_width(lags: int) -> int:
    """G: node features of a model with ``lags`` lags."""
    return lags + 5


@torch.no_grad()
def window_statistics(residual: Tensor, seen: Tensor, lags: int) -> WindowStatistics:
    """Statistics of residual series [B, N, T] on rows ``seen`` [B, T] (float32, no gradient).

    One Gram matrix of all lags gives both the correlations and, through one Cholesky factorisation
    per store, the ridge VAR(lags): B = (Z'Z + c I)^-1 Z'Y, its posterior covariance, and for every
    ordered pair the group statistic b' (P_ii)^-1 b / s_j^2 (Wald, under the ridge prior).
    """
    stores, nodes, steps = residual.shape
    rows = seen.to(residual.dtype)
    count = rows.sum(-1).clamp_min(2.0)
    spread = ((residual.square() * rows.unsqueeze(1)).sum(-1) / count.unsqueeze(-1)).sqrt()
    # a series may be all but constant on the seen rows and move elsewhere: bound what that can do
    series = (residual / spread.clamp_min(_FLAT).unsqueeze(-1)).clamp(-_CLIP, _CLIP)
    # rows predicted: all seen rows that have `lags` predecessors inside the window
    used = rows[:, lags:].unsqueeze(-1)
    n = used.sum(1).clamp_min(2.0)  # [B, 1]
    present = series[..., lags:].mT * used  # [B, T', N]
    shifted = [series[..., lag : steps - lags + lag] for lag in range(lags)]
    past = torch.stack(shifted, dim=-1)  # [B, N, T', L], lag 1 last
    past = past.transpose(1, 2).reshape(stores, steps - lags, nodes * lags)
    gram = (past * used).mT @ past
    cross = past.mT @ present  # [B, N L, N]
    inverse = _inverse(gram)
    weight = inverse @ cross  # [B, N L, N]
    freedom = nodes * lags - _RIDGE * inverse.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True)
    squares = (present.square().sum(1) - (weight * cross).sum(1)).clamp_min(1e-6)
    noise = squares / (n - freedom).clamp_min(0.2 * n)  # [B, N]
    blocks = _blocks(inverse, nodes)  # [B, N, L, L]
    weight = weight.view(stores, nodes, lags, nodes)
    solved = spd_solve(blocks, weight)
    evidence = (weight * solved).sum(2) / noise.unsqueeze(1)  # [B, N, N]
    deviation = (blocks.diagonal(dim1=-2, dim2=-1).unsqueeze(-1) * noise[:, None, None]).sqrt()
    ratio = (weight / deviation).transpose(2, 3)  # [B, N, N, L]
    root = n.sqrt().view(-1, 1, 1, 1)
    lagged = cross.view(stores, nodes, lags, nodes).transpose(2, 3) / root
    same = ((present.mT @ present) / root.squeeze(-1)).unsqueeze(-1)
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
        variance=noise * spread.square(),
        rows=n.squeeze(-1),
    )


@torch.no_grad()
def response_statistics(
    errors: Tensor, responses: Tensor, beta: Tensor, log_noise: Tensor, seen: Tensor
) -> Tensor:
    """Evidence for every pair in the decoder's own terms: [B, N, N, RESPONSE_WIDTH], no gradient.

    errors     [B, N, T'], what calendar and own past leave of every receiver.
    responses  [B, N, D, T'] of every sender, aligned one step earlier.
    beta       [N, N, D], the effects that stores share; log_noise [B, N] of the receivers.
    seen       bool [B, T'], rows that count.

    Per pair: the group statistic of a ridge regression of the receiver on all responses; and, for
    the shared effect alone and for the shared effect given that regression's other senders, the
    matched filter and the signed logarithm of the likelihood ratio of "edge" against "no edge".
    """
    stores, nodes, parts, _ = responses.shape
    rows = seen.to(errors.dtype).unsqueeze(1)
    flat = responses.flatten(1, 2) * rows
    size = (flat.square().sum(-1) / rows.sum(-1).clamp_min(2.0)).sqrt().clamp_min(1e-3)
    flat = flat / size.unsqueeze(-1)
    scaled = (errors * (-log_noise).exp().unsqueeze(-1)).clamp(-_CLIP, _CLIP) * rows
    gram, cross = flat @ flat.mT, flat @ scaled.mT
    inverse = _inverse(gram)
    weight = (inverse @ cross).view(stores, nodes, parts, nodes)
    own = _blocks(gram, nodes)
    evidence = (weight * spd_solve(_blocks(inverse, nodes), weight)).sum(2)
    effect = beta.transpose(1, 2) * size.view(stores, nodes, parts, 1)
    effect = effect * (-log_noise).exp().view(stores, 1, 1, nodes)
    power = (effect * (own @ effect)).sum(2)
    root = power.clamp_min(1e-6).sqrt()
    statistics = [evidence.sqrt() - parts**0.5]
    # (G + cI) w = G'e, so what the other senders leave for sender i is c w_i + G_ii w_i
    for signal in (cross.view_as(weight), _RIDGE * weight + own @ weight):
        hit = (effect * signal).sum(2)
        ratio = hit - 0.5 * power
        statistics += [hit / root, ratio.sign() * ratio.abs().log1p()]
    statistics.append(root.log1p())
    return torch.stack(statistics, dim=-1).clamp(-_CLIP, _CLIP) / 2


def _inverse(gram: Tensor) -> Tensor:
    """(gram + ridge)^-1 of [B, M, M]."""
    ridge = _RIDGE * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    return spd_inverse(gram + ridge)


def _blocks(matrix: Tensor, nodes: int) -> Tensor:
    """Diagonal blocks [B, N, M, M] of [B, N M, N M]."""
    size = matrix.shape[-1] // nodes
    inside = torch.arange(size, device=matrix.device)
    row = torch.arange(nodes, device=matrix.device).view(-1, 1, 1) * size + inside.unsqueeze(-1)
    place = row * (nodes * size) + (row - inside.unsqueeze(-1) + inside)
    return matrix.flatten(1)[:, place]
