"""Plain PyTorch form of the likelihood of one-step errors, which faster paths must reproduce."""

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


def effect_weights(gate: Tensor, log_effect: Tensor, beta: Tensor) -> Tensor:
    """[B, N, D, N]: gate_ij exp(log_effect_ij) beta_ijd, gates and log effects [B, N, N]."""
    scale = gate * log_effect.exp()
    return scale.unsqueeze(2) * beta.transpose(1, 2)


def message(responses: Tensor, weights: Tensor) -> Tensor:
    """[B, N, T]: sum of the effects of responses [B, N, D, T] on every receiver."""
    return weights.flatten(1, 2).mT @ responses.flatten(1, 2)


def solver_ahead(solver: Tensor, context_mask: Tensor) -> Tensor:
    """[B, Q, T - 1]: the solver [B, Q, T] for series that act one step later."""
    begun = context_mask.cumsum(-1) > 0
    return solver[..., 1:] * (context_mask[:, 1:] & begun[:, :-1]).unsqueeze(1)


def response_nll(
    residual: Tensor,
    responses: Tensor,
    gate: Tensor,
    log_effect: Tensor,
    beta: Tensor,
    solver: Tensor,
    basis: Tensor,
    ar_weights: Tensor,
    log_noise: Tensor,
    context_mask: Tensor,
    target_mask: Tensor,
    active: Tensor,
) -> Tensor:
    """See :func:`causalmmm.kernels.likelihood.response_nll`."""
    total = message(responses, effect_weights(gate, log_effect, beta))
    level = total @ solver_ahead(solver, context_mask).mT  # [B, N, Q]
    centred = total - level @ basis[:, 1:].mT
    error = residual[..., 1:] - centred - ar_prediction(ar_weights, residual)
    log_sd = log_noise.unsqueeze(-1)
    nll = 0.5 * (error * (-log_sd).exp()).square() + log_sd + _HALF_LOG_TAU
    return (nll * target_mask[:, None, 1:] * active[..., 1:]).sum(-1)
