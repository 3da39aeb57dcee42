"""Autoregression of series on their own past: one-step predictions, and their likelihood fused.

The public functions live here and choose who computes: the compiled operator in `op`, or, where
that is not built or cannot take the device or dtype, the plain PyTorch form in `reference`.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

from causalmmm.kernels.autoregression import reference
from causalmmm.kernels.autoregression.reference import ar_prediction

if find_spec("causalmmm._C") is not None:
    from causalmmm import _C
    from causalmmm.kernels.autoregression import op

    _COMPILED = hasattr(_C, "likelihood_forward")  # False for a build older than this source
else:  # a source tree without a build
    _COMPILED = False

__all__ = ["ar_nll", "ar_prediction"]


def ar_nll(
    residual: Tensor,
    message: Tensor,
    ar_weights: Tensor,
    log_noise: Tensor,
    target_mask: Tensor,
    active: Tensor,
) -> Tensor:
    """Negative log likelihood [B, N] of one-step errors, in nats, summed over the target rows.

        e(t) = residual(t + 1) - message(t) - sum_p ar_weights_p residual(t + 1 - p)
        nll  = sum_t [ e(t)^2 / (2 sd^2) + log sd + log(2 pi) / 2 ]      over target, active rows

    Args:
        residual: series [B, N, T], zero before the window.
        message: what else predicts the rows from the second on, [B, N, T - 1].
        ar_weights: [B, N, P], lag 1 first.
        log_noise: log sd [B, N].
        target_mask: bool [B, T], rows that count; the first never does.
        active: 0 or 1 [B, N, T], rows that count for a series.

    The first four have gradients; all are float32 for the compiled form, else of one dtype.
    """
    arguments = (residual, message, ar_weights, log_noise)
    if _COMPILED and residual.device.type == "cpu" and residual.dtype == torch.float32:
        return op.forward(*arguments, target_mask, active)
    return reference.ar_nll(*arguments, target_mask, active)
