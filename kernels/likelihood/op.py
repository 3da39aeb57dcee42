"""The compiled likelihood as a PyTorch operator: registration, fake tensors, autograd.

Nothing is computed here. The extension works on addresses; this module owns the memory behind them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from causalmmm import _C
from causalmmm.kernels.extension import by_triton
from causalmmm.kernels.launching import launches_of
from causalmmm.kernels.memory import addresses, dense
from causalmmm.kernels.registration import operator

Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


@operator("response_nll")
def forward(
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
    """See :func:`causalmmm.kernels.likelihood.response_nll`; float32 on a CPU."""
    inputs = dense(
        *(residual, responses, gate, log_effect, beta, solver, basis),
        *(ar_weights, log_noise, active, context_mask, target_mask),
    )
    nll = log_noise.new_empty(log_noise.shape)
    if by_triton(residual):
        launches_of("likelihood").forward(inputs, nll)
        return nll
    sizes = _sizes(responses, basis, ar_weights)
    _C.likelihood_forward(sizes, addresses(inputs), nll.data_ptr(), torch.get_num_threads())
    return nll


@operator("response_nll_backward")
def backward(
    grad_nll: Tensor,
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
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of residual, responses, gate, log_effect, beta, solver, ar_weights, log_noise."""
    inputs = dense(
        *(residual, responses, gate, log_effect, beta, solver, basis),
        *(ar_weights, log_noise, active, context_mask, target_mask),
    )
    runs = len(residual) if by_triton(residual) else -(-len(residual) // _C.LIKELIHOOD_RUN)
    of_beta = beta.new_empty(runs, *beta.shape)
    before, after = (residual, responses, gate, log_effect), (solver, ar_weights, log_noise)
    gradients = [*_like(*before), of_beta, *_like(*after)]
    grad_nll = grad_nll.contiguous()
    if by_triton(residual):
        launches_of("likelihood").backward(grad_nll, inputs, gradients)
    else:
        _C.likelihood_backward(
            *(_sizes(responses, basis, ar_weights), addresses(inputs), grad_nll.data_ptr()),
            *(addresses(gradients), torch.get_num_threads()),
        )
    gradients[4] = of_beta.sum(0)
    return tuple(gradients)  # type: ignore[return-value]


@forward.register_fake
def _(
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
    return log_noise.new_empty(log_noise.shape)


@backward.register_fake
def _(
    grad_nll: Tensor,
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
) -> Gradients:
    tensors = (residual, responses, gate, log_effect, beta, solver, ar_weights, log_noise)
    return tuple(_like(*tensors))  # type: ignore[return-value]


def _like(*tensors: Tensor) -> list[Tensor]:
    """Uninitialised memory for gradients, without gaps."""
    return [tensor.new_empty(tensor.shape) for tensor in tensors]


def _sizes(responses: Tensor, basis: Tensor, ar_weights: Tensor) -> tuple[int, ...]:
    stores, nodes, components, steps = responses.shape
    return stores, nodes, components, steps + 1, basis.shape[-1], ar_weights.shape[-1]


def _remember(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, grad_nll: Tensor) -> tuple[Tensor | None, ...]:
    *to_solver, ar_weights, log_noise = backward(grad_nll, *ctx.saved_tensors)
    return *to_solver, None, ar_weights, log_noise, None, None, None


forward.register_autograd(_differentiate, setup_context=_remember)
