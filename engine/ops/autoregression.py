"""One-step predictions of series from their own past."""

from __future__ import annotations

import torch
from torch import Tensor


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
