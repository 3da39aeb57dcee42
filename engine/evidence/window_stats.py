"""Statistics of one window: lagged cross-correlations and one ridge VAR per store, in closed form.

A window MLP does not learn these statistics even from thousands of stores, so they are computed
here and given to the encoder as features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from causalmmm.engine.batches.masks import has_full_lags
from causalmmm.engine.evidence.features import CLIP, FLAT, RIDGE
from causalmmm.engine.ops.export_switch import exporting
from causalmmm.engine.ops.linalg import inverse_blocks, ridged, whitening
from causalmmm.kernels import evidence as compiled


@dataclass
class WindowStatistics:
    """Statistics of B windows.

    edges   [B, N, N, 2 lags + 5], edge features; axis 1 is the sender, axis 2 the receiver.
    nodes   [B, N, G], node features, G = ``node_width(lags)``.
    spread  [B, N], standard deviation of the series as receivers, in scaled units.
    rows    [B, N], number of rows on which ``spread`` was measured.
    """

    edges: Tensor
    nodes: Tensor
    spread: Tensor
    rows: Tensor


@torch.no_grad()
def window_statistics(
    residual: Tensor, received: Tensor, active: Tensor, context_mask: Tensor, lags: int
) -> WindowStatistics:
    """Statistics of the calendar residuals of a window on its context rows, without gradient.

    residual, received  [B, N, T], residuals of the series as senders and as receivers.
    active              0 or 1, [B, N, T]; receivers are explained only on active rows.

    One Gram matrix of all lags gives both the correlations and, through one Cholesky factorisation
    per store, the ridge VAR(lags): B = (Z'Z + c I)^-1 Z'Y, its posterior covariance, and for every
    ordered pair the group statistic b' (P_ii)^-1 b / s_j^2 (Wald, under the ridge prior).
    """
    if compiled.supported(residual, lags) and not exporting():
        series = residual, received, active
        scales = (RIDGE, CLIP, FLAT)
        return WindowStatistics(*compiled.window_statistics(*series, context_mask, lags, scales))
    return _window_statistics(residual, received, active, context_mask, lags)


def _window_statistics(
    residual: Tensor, received: Tensor, active: Tensor, context_mask: Tensor, lags: int
) -> WindowStatistics:
    """The plain form of :func:`window_statistics`."""
    stores, nodes, steps = residual.shape
    rows = context_mask.to(residual.dtype)
    count = rows.sum(-1).clamp_min(2.0)
    spread = ((residual.square() * rows.unsqueeze(1)).sum(-1) / count.unsqueeze(-1)).sqrt()
    explained = (active * rows.unsqueeze(1)).sum(-1).clamp_min(2.0)
    received_spread = ((received.square() * rows.unsqueeze(1)).sum(-1) / explained).sqrt()
    # a series may be almost constant on the context rows and move elsewhere: bound its values
    series = (residual / spread.clamp_min(FLAT).unsqueeze(-1)).clamp(-CLIP, CLIP)
    outcome = (received / spread.clamp_min(FLAT).unsqueeze(-1)).clamp(-CLIP, CLIP)
    # the regression predicts the context rows that have `lags` predecessors inside the window
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
    blocks = inverse_blocks(white, nodes)  # [B, N, L, L]
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
        edges=edges.clamp(-CLIP, CLIP) / 2,
        nodes=torch.cat([own, node], dim=-1),
        spread=received_spread,
        rows=explained,
    )
