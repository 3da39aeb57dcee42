"""Plain PyTorch form of autoregression and its likelihood, which faster paths must reproduce."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)


def ar_prediction(ar_weights: Tensor, residual: Tensor) -> Tensor:
    """[B, N, T - 1]: autoregressive prediction of residuals [B, N, T] from their own past.

    ``ar_weights`` [N, P] or [B, N, P], lag 1 first; residuals before the window count as zero.
    """
    if ar_weights.ndim == 2:
        ar_weights = ar_weights.unsqueeze(0)
    lags, steps = ar_weights.shape[-1], residual.shape[-1] - 1
    past = torch.nn.functional.pad(residual[..., :-1], (lags - 1, 0))
    total = torch.zeros_like(residual[..., 1:])
    for lag in range(lags):  # a few shifted products cost far less than one strided matrix product
        begin = lags - 1 - lag
        total = total + ar_weights[..., lag : lag + 1] * past[..., begin : begin + steps]
    return total


def ar_nll(
    residual: Tensor,
    message: Tensor,
    ar_weights: Tensor,
    log_noise: Tensor,
    target_mask: Tensor,
    active: Tensor,
) -> Tensor:
    """See :func:`causalmmm.kernels.autoregression.ar_nll`."""
    error = residual[..., 1:] - message - ar_prediction(ar_weights, residual)
    log_sd = log_noise.unsqueeze(-1)
    nll = 0.5 * (error * (-log_sd).exp()).square() + log_sd + _HALF_LOG_TAU
    return (nll * target_mask[:, None, 1:] * active[..., 1:]).sum(-1)
