"""What regressions on the past leave of every series, and what it says of pairs.

Effects within a step between series that no role orders show in how innovations go together, and
which way they run in tails and skewness; curved effects and interactions show in what innovations
have to do with products of the step before. Knows neither lags nor responses.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from causalmmm.engine.evidence.features import squashed
from causalmmm.engine.ops.linalg import spd_inverse

_BOUND = 6.0  # of innovations and senders in units of their spread
_LEAST_SPREAD = 1e-6
_CLOSEST = 0.98  # correlation at which what one series leaves of another is still told from noise
# Entropy of a standardised series by two moments (Hyvaerinen, 1998), as in DirectLiNGAM.
_TAILS, _TILT, _NORMAL_TAILS = 79.047, 7.4129, 0.37457


def innovation_features(
    innovations: Tensor, used: Tensor, before: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Statistics of pairs that are alike or opposite for a pair and its reverse [B, N, N, 4], of
    products of the step before [B, N, N, 3], and of series [B, N, 4]; sender by receiver.

    innovations  [B, N, T], what a regression on the past leaves of receivers; zero where not used.
    used         0 or 1, [B, N, T], rows on which receivers are explained.
    before       [B, N, T], the senders' calendar residuals of the step before.

    The first four are the correlation within the step, the same given all other series, and which
    way it runs by entropy and by skewness: positive where the sender comes first. Then follow the
    correlations of the receiver's innovations with the sender's square, with the product of both,
    and the largest with a product of the sender and a third series. All of them are in units of
    their deviation under independence, logarithmic far from zero. Of series: skewness, tails and
    autocorrelation of innovations, and by how much their variance changes half way.
    """
    count = used.sum(-1).clamp_min(2.0)  # [B, N]
    shocks = _standardised(innovations, used, count)
    both = (used @ used.mT).clamp_min(2.0)  # [B, N, N], rows on which both are explained
    rho = ((shocks @ shocks.mT) / both).clamp(-1.0, 1.0)
    skewness = (shocks.square() * shocks).sum(-1) / count
    mutual = torch.stack(
        [
            both.sqrt() * rho,
            both.sqrt() * _partial(shocks, count),
            both * _entropy_direction(shocks, used, rho, both),
            both.sqrt() * _skew_direction(shocks, rho, skewness, count, both),
        ],
        dim=-1,
    )
    off = 1 - torch.eye(shocks.shape[1], dtype=shocks.dtype, device=shocks.device)
    mutual = squashed(mutual) * off.unsqueeze(-1)
    products = squashed(_product_features(shocks, used, before, count)) * off.unsqueeze(-1)
    return mutual, products, _node_features(shocks, used, skewness, count)


def _standardised(series: Tensor, used: Tensor, count: Tensor) -> Tensor:
    """[B, N, T] of mean zero and unit variance over the used rows, bounded, and zero elsewhere."""
    centred = (series - (series * used).sum(-1, keepdim=True) / count.unsqueeze(-1)) * used
    spread = (centred.square().sum(-1) / count).sqrt().clamp_min(_LEAST_SPREAD)
    bounded = (centred / spread.unsqueeze(-1)).clamp(-_BOUND, _BOUND)
    again = (bounded.square().sum(-1) / count).sqrt().clamp_min(_LEAST_SPREAD)
    return bounded / again.unsqueeze(-1)


def _partial(shocks: Tensor, count: Tensor) -> Tensor:
    """[B, N, N]: correlation of two series given all others; few rows shrink it."""
    nodes = shocks.shape[1]
    # a product of one matrix, so that it is positive where series are active on different rows too
    whole = shocks / count.sqrt().unsqueeze(-1)
    ridge = (nodes / count.amax(-1)).clamp(0.02, 1.0)
    identity = torch.eye(nodes, dtype=shocks.dtype, device=shocks.device)
    precision = spd_inverse(whole @ whole.mT + ridge[:, None, None] * identity)
    scale = precision.diagonal(dim1=-2, dim2=-1).rsqrt()
    return -precision * scale.unsqueeze(-1) * scale.unsqueeze(-2)


def _entropy_direction(shocks: Tensor, used: Tensor, rho: Tensor, both: Tensor) -> Tensor:
    """[B, N, N]: entropy of cause and remainder, were the receiver the cause, less the same were
    the sender; nats a row. Antisymmetric."""
    bounded = rho.clamp(-_CLOSEST, _CLOSEST).unsqueeze(-1)
    rows = used.unsqueeze(1) * used.unsqueeze(2)
    # what the sender leaves of the receiver [B, N, N, T]
    left = shocks.unsqueeze(1) - bounded * shocks.unsqueeze(2)
    left = left * (1 - bounded.square()).rsqrt() * rows
    remainder = _entropy_loss(left, rows, both)  # [B, N, N]
    alone = _entropy_loss(shocks, used, used.sum(-1).clamp_min(2.0))  # [B, N]
    first = alone.unsqueeze(2) + remainder  # of the sender as the cause, and what is left
    return first - first.mT


def _entropy_loss(series: Tensor, rows: Tensor, count: Tensor) -> Tensor:
    """Nats by which a standardised series [..., T] has less entropy than normal noise."""
    size = series.abs()
    log_cosh = (size + torch.log1p((-2.0 * size).exp()) - math.log(2.0)) * rows
    tails = log_cosh.sum(-1) / count - _NORMAL_TAILS
    tilt = (series * (-0.5 * series.square()).exp()).sum(-1) / count
    return _TAILS * tails.square() + _TILT * tilt.square()


def _skew_direction(
    shocks: Tensor, rho: Tensor, skewness: Tensor, count: Tensor, both: Tensor
) -> Tensor:
    """[B, N, N]: correlation times the difference of third moments (Hyvaerinen and Smith, 2013);
    a series without skewness has no say. Antisymmetric."""
    third = (shocks.square() @ shocks.mT) / both  # mean of sender^2 receiver
    sure = torch.tanh(skewness * (count / 6.0).sqrt()).unsqueeze(2)
    tilted = sure * third
    return rho * (tilted - tilted.mT)


def _product_features(shocks: Tensor, used: Tensor, before: Tensor, count: Tensor) -> Tensor:
    """[B, N, N, 3]: see ``innovation_features``."""
    nodes = shocks.shape[1]
    rows = used.amax(1, keepdim=True)  # [B, 1, T]
    number = rows.sum(-1).clamp_min(2.0)  # [B, 1]
    series = _standardised(before, rows, number)
    products = (series.unsqueeze(1) * series.unsqueeze(2)).flatten(1, 2)  # [B, N N, T]
    mean = products.sum(-1) / number
    spread = (products.square().sum(-1) / number - mean.square()).clamp_min(1e-4).sqrt()
    # innovations have mean zero, which centres the products
    agree = (products @ shocks.mT) / spread.unsqueeze(-1) / count.sqrt().unsqueeze(1)
    agree = agree.unflatten(1, (nodes, nodes))  # [B, N, N, N]: sender, other factor, receiver
    square = agree.diagonal(dim1=1, dim2=2).mT  # [B, N, N]: sender, receiver
    own = agree.diagonal(dim1=2, dim2=3)
    identity = torch.eye(nodes, dtype=shocks.dtype, device=shocks.device)
    third = (1 - identity).unsqueeze(2) * (1 - identity).unsqueeze(0)  # [N, N, N]
    largest = (agree.abs() * third).amax(2)
    return torch.stack([square, own, largest], dim=-1)


def _node_features(shocks: Tensor, used: Tensor, skewness: Tensor, count: Tensor) -> Tensor:
    """[B, N, 4]: see ``innovation_features``."""
    tails = _entropy_loss(shocks, used, count).clamp_max(1.0)
    after = (shocks[..., 1:] * shocks[..., :-1]).sum(-1) / count
    number = used.cumsum(-1)
    early = (number <= 0.5 * count.unsqueeze(-1)).to(shocks.dtype) * used
    power = shocks.square()
    first = (power * early).sum(-1) / early.sum(-1).clamp_min(1.0)
    second = (power * (used - early)).sum(-1) / (used - early).sum(-1).clamp_min(1.0)
    change = (second.clamp_min(1e-3) / first.clamp_min(1e-3)).log().abs()
    return torch.stack([skewness.clamp(-3.0, 3.0), tails, after, change], dim=-1)
