"""Spike-and-slab regression on known directions, by mean-field coordinate ascent."""

from __future__ import annotations

import torch
from torch import Tensor

from causalmmm.engine.ops.export_switch import exporting, exports_whole
from causalmmm.kernels import evidence as compiled

_SWEEPS = 3  # over all senders


def mean_field(
    xty: Tensor, overlap: Tensor, log_odds: Tensor, spread: float
) -> tuple[Tensor, Tensor]:
    """Log Bayes factors and posterior mean effects of all senders on each receiver.

    For receiver j, y = sum_i z_i a_i x_i + noise of unit variance, z_i Bernoulli with ``log_odds``
    [N, N] or [B, N, N], a_i ~ N(1, spread^2). From x_i'y = ``xty`` [B, N, N] and x_i'x_k =
    ``overlap`` [B, N, N, N] (senders i and k first, receiver last), coordinate ascent on the
    mean-field posterior gives log Bayes factors of z_i given the others, and E[z_i a_i], both
    [B, N, N].
    """
    log_odds = log_odds.expand_as(xty)
    if compiled.supported(xty) and not exporting():
        return compiled.coordinate_ascent(xty, overlap, log_odds, spread, _SWEEPS)
    receiver_first = xty.mT, overlap.permute(0, 3, 1, 2), log_odds.mT
    factor, post_mean = coordinate_ascent(*receiver_first, spread, _SWEEPS)
    return factor.mT, post_mean.mT


@exports_whole
def coordinate_ascent(
    xty: Tensor, overlap: Tensor, log_odds: Tensor, spread: float, sweeps: int
) -> tuple[Tensor, Tensor]:
    """:func:`mean_field` with the receiver first in all arguments and results.

    The log Bayes factor of a sender is the log of the integral of exp(a x'y - a^2 x'x / 2) over
    a ~ N(1, spread^2), which is what a's posterior mean explains less ``cost``. What does not
    change from sweep to sweep is computed before: on a GPU every operation of the loop is a launch.
    """
    precision = spread**-2
    xtx_diag = overlap.diagonal(dim1=2, dim2=3)  # [B, N, N]
    others = overlap - torch.diag_embed(xtx_diag)
    cost = 0.5 * (torch.log1p(xtx_diag / precision) + precision)
    variance = 1 / (xtx_diag + precision)
    prior_xty = xty + precision
    odds = log_odds - cost
    post_mean, gain = torch.zeros_like(xty), torch.zeros_like(xty)
    for _ in range(sweeps):
        for i in range(xty.shape[-1]):
            left = prior_xty[..., i] - (others[:, :, i] * post_mean).sum(-1)  # [B, N]
            mean = left * variance[..., i]
            torch.mul(0.5 * left, mean, out=gain[..., i])
            torch.mul(torch.sigmoid(gain[..., i] + odds[..., i]), mean, out=post_mean[..., i])
    return gain - cost, post_mean
