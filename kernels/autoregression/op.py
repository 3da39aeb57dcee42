"""The compiled likelihood as a PyTorch operator: registration, fake tensors, autograd.

Nothing is computed here. The extension works on addresses; this module owns the memory behind them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from causalmmm import _C
from causalmmm.kernels.memory import addresses, dense
from causalmmm.kernels.registration import operator


@operator("ar_nll")
def forward(
    residual: Tensor,
    message: Tensor,
    ar_weights: Tensor,
    log_noise: Tensor,
    target_mask: Tensor,
    active: Tensor,
) -> Tensor:
    """See :func:`causalmmm.kernels.autoregression.ar_nll`; float32 on a CPU."""
    inputs = dense(residual, message, ar_weights, log_noise, active, target_mask)
    nll = log_noise.new_empty(log_noise.shape)
    sizes = (*residual.shape, ar_weights.shape[-1])
    _C.likelihood_forward(sizes, addresses(inputs), nll.data_ptr(), torch.get_num_threads())
    return nll


@operator("ar_nll_backward")
def backward(
    grad_nll: Tensor,
    residual: Tensor,
    message: Tensor,
    ar_weights: Tensor,
    log_noise: Tensor,
    target_mask: Tensor,
    active: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of residual, message, ar_weights and log_noise."""
    inputs = dense(residual, message, ar_weights, log_noise, active, target_mask)
    gradients = _gradients(residual, message, ar_weights, log_noise)
    sizes = (*residual.shape, ar_weights.shape[-1])
    grad_nll = grad_nll.contiguous()
    _C.likelihood_backward(
        *(sizes, addresses(inputs), grad_nll.data_ptr()),
        *(addresses(gradients), torch.get_num_threads()),
    )
    return gradients


@forward.register_fake
def _(
    residual: Tensor,
    message: Tensor,
    ar_weights: Tensor,
    log_noise: Tensor,
    target_mask: Tensor,
    active: Tensor,
) -> Tensor:
    return log_noise.new_empty(log_noise.shape)


@backward.register_fake
def _(
    grad_nll: Tensor,
    residual: Tensor,
    message: Tensor,
    ar_weights: Tensor,
    log_noise: Tensor,
    target_mask: Tensor,
    active: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _gradients(residual, message, ar_weights, log_noise)


def _gradients(
    residual: Tensor, message: Tensor, ar_weights: Tensor, log_noise: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        residual.new_empty(residual.shape),
        message.new_empty(message.shape),
        ar_weights.new_empty(ar_weights.shape),
        log_noise.new_empty(log_noise.shape),
    )


def _remember(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, grad_nll: Tensor) -> tuple[Tensor | None, ...]:
    return *backward(grad_nll, *ctx.saved_tensors), None, None


forward.register_autograd(_differentiate, setup_context=_remember)
