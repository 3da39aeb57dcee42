"""Log marginal likelihood of linear Gaussian models with all coefficients integrated out.

Linear algebra on Gram matrices only; what the columns mean is decided in ``design``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from causalmmm.engine.ops import linalg

_LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Moments:
    """Sufficient statistics of y [..., T] and its P columns X [..., T, P], float64.

    xtx  [..., P, P];  xty  [..., P];  yty  [...];  rows  [...], how many enter.
    """

    xtx: Tensor
    xty: Tensor
    yty: Tensor
    rows: Tensor


@dataclass(frozen=True)
class Posterior:
    """Coefficients given everything else: N(mean, (scale root^-T)(scale root^-T)').

    mean  [..., P];  root  [..., P, P], factor of the precision of mean / scale (``ops.linalg``);
    scale [..., P], prior standard deviations.
    """

    mean: Tensor
    root: Tensor
    scale: Tensor

    def draw(self, normal: Tensor) -> Tensor:
        """Coefficients [..., P] from standard normal numbers [..., P]."""
        turned = linalg.solve_factor_transposed(self.root, normal.unsqueeze(-1))
        return self.mean + self.scale * turned.squeeze(-1)

    def covariance(self) -> Tensor:
        """[..., P, P]."""
        inverse = linalg.inverse_of(self.root)
        return self.scale.unsqueeze(-1) * inverse * self.scale.unsqueeze(-2)


def posterior(
    moments: Moments, centre: Tensor, scale: Tensor, log_noise: Tensor
) -> tuple[Tensor, Posterior]:
    """Log marginal likelihood [...] and the posterior of coefficients ~ N(centre, scale^2).

        log N(y; X centre, noise^2 I + X scale^2 X')

    by the matrix inversion and determinant lemmas on A = I + S X'X S / noise^2. A scale of zero
    pins its coefficient to the centre. ``centre``, ``scale`` [..., P], ``log_noise`` [...].
    """
    precision = (-2 * log_noise).exp()  # [...]
    gram = scale.unsqueeze(-1) * moments.xtx * scale.unsqueeze(-2)
    root = linalg.factor(linalg.ridged(gram * precision[..., None, None], 1.0))  # [..., P, P]
    fitted = (moments.xtx @ centre.unsqueeze(-1)).squeeze(-1)  # [..., P]
    cross = scale * (moments.xty - fitted) * precision.unsqueeze(-1)
    solved = linalg.solve_matrix(root, cross.unsqueeze(-1)).squeeze(-1)  # [..., P]
    rss = moments.yty + (centre * (fitted - 2 * moments.xty)).sum(-1)  # [...], at the centre
    log_det = linalg.log_determinant(root)
    value = -0.5 * (rss * precision - (cross * solved).sum(-1) + log_det)
    value = value - moments.rows * (log_noise + 0.5 * _LOG_2PI)
    return value, Posterior(centre + scale * solved, root, scale)


class _LogMarginal(torch.autograd.Function):
    """:func:`posterior`'s first result as a function of the moments and the prior.

    The gradient is the posterior mean of the complete-data gradient (Fisher's identity), which
    needs one inverse instead of a derivative through the factorisation.
    """

    @staticmethod
    def forward(
        ctx: Any,
        xtx: Tensor,
        xty: Tensor,
        yty: Tensor,
        rows: Tensor,
        centre: Tensor,
        scale: Tensor,
        log_noise: Tensor,
    ) -> Tensor:
        value, found = posterior(Moments(xtx, xty, yty, rows), centre, scale, log_noise)
        ctx.save_for_backward(xtx, xty, yty, rows, log_noise, scale, centre, found.mean, found.root)
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        xtx, xty, yty, rows, log_noise, scale, centre, mean, root = ctx.saved_tensors
        precision = (-2 * log_noise).exp()
        inverse = torch.cholesky_inverse(root)
        covariance = scale.unsqueeze(-1) * inverse * scale.unsqueeze(-2)
        second = mean.unsqueeze(-1) * mean.unsqueeze(-2) + covariance  # E[w w']
        left = xty - (xtx @ mean.unsqueeze(-1)).squeeze(-1)  # X'(y - X mean)
        weight = grad * precision  # [...]
        rss = yty - 2 * (mean * xty).sum(-1) + (second * xtx).sum((-2, -1))  # E|y - X w|^2
        grad_centre = left * weight.unsqueeze(-1)
        lost = (xtx @ (scale.unsqueeze(-1) * inverse)).diagonal(dim1=-2, dim2=-1)
        grad_scale = scale * left.square() * precision.unsqueeze(-1) - lost
        return (
            -0.5 * weight[..., None, None] * second,
            weight.unsqueeze(-1) * mean,
            -0.5 * weight,
            None,
            grad_centre.sum_to_size(centre.shape),
            (grad_scale * weight.unsqueeze(-1)).sum_to_size(scale.shape),
            (grad * (rss * precision - rows)).sum_to_size(log_noise.shape),
        )


def log_marginal(moments: Moments, centre: Tensor, scale: Tensor, log_noise: Tensor) -> Tensor:
    """Log marginal likelihood [...], differentiable once in all arguments but the row counts."""
    value: Tensor = _LogMarginal.apply(
        moments.xtx, moments.xty, moments.yty, moments.rows, centre, scale, log_noise
    )
    return value
