"""Likelihood of one-step errors: effects of responses less their calendar, and autoregression.

The public functions live here and choose who computes: the fused operator in `op`, compiled on a
CPU and by Triton on a GPU; or, where that is not built or cannot take size, device or dtype, the
plain PyTorch form in `reference`.
"""

from __future__ import annotations

from torch import Tensor

from causalmmm.kernels.extension import BUILT, takes
from causalmmm.kernels.likelihood import reference
from causalmmm.kernels.likelihood.reference import ar_prediction, effect_weights, message

if BUILT:
    from causalmmm.kernels.likelihood import op

__all__ = ["ar_prediction", "effect_weights", "message", "response_nll"]


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
    """Negative log likelihood [B, N] of one-step errors, in nats, summed over the target rows.

        s_j(t) = sum_id gate_ij exp(log_effect_ij) beta_ijd responses_id(t)
        e(t) = residual(t + 1) - s(t) less its calendar - sum_p ar_weights_p residual(t + 1 - p)
        nll  = sum_t [ e(t)^2 / (2 sd^2) + log sd + log(2 pi) / 2 ]      over target, active rows

    Args:
        residual: series [B, N, T], zero before the window.
        responses: [B, N, D, T - 1], which act on the next row.
        gate, log_effect: [B, N, N], sender first.
        beta: effects that all stores share, [N, N, D].
        solver, basis: [B, Q, T] and [B, T, Q]; the calendar of row t + 1 is taken off s(t).
        ar_weights: [B, N, P], lag 1 first.
        log_noise: log sd [B, N].
        context_mask: bool [B, T], the rows that ``solver`` fits.
        target_mask: bool [B, T], rows that count; the first never does.
        active: 0 or 1 [B, N, T], rows that count for a series.

    The first six, ``ar_weights`` and ``log_noise`` have gradients; all are float32 for the fused
    form, else of one dtype.
    """
    arguments = (residual, responses, gate, log_effect, beta, solver, basis, ar_weights, log_noise)
    if BUILT and takes(residual, residual.shape[1:]):
        return op.forward(*arguments, context_mask, target_mask, active)
    return reference.response_nll(*arguments, context_mask, target_mask, active)
