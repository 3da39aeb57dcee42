"""The compiled calendar as a PyTorch operator: registration, fake tensors, autograd.

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


@operator("calendar_residuals")
def calendar_residuals(
    x: Tensor,
    basis: Tensor,
    context_mask: Tensor,
    target_mask: Tensor,
    spend: Tensor,
    shared: Tensor,
    log_ridge: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Residuals as receivers and as senders, activity [B, N, T], coefficients [B, N, Q], solver
    [B, Q, T] and its float64 spread [B, Q, Q].

    From series [B, N, T], basis [B, T, Q], bool masks [B, T], ``spend`` bool [N], and the
    parameters [N, Q] and [Q], which alone have gradients; the residuals as senders pass none on.
    Formulas: ``csrc/calendar/calendar.h``.
    """
    inputs = dense(x, basis, context_mask, target_mask, spend, shared, log_ridge)
    outputs = _outputs(x, basis)
    if by_triton(x):
        launches_of("calendar").forward(inputs, outputs)
        return outputs
    sizes = (*x.shape, basis.shape[-1])
    threads = torch.get_num_threads()
    _C.calendar_forward(sizes, addresses(inputs), addresses(outputs), threads)
    return outputs


@operator("calendar_residuals_backward")
def backward(
    grad_residual: Tensor | None,
    grad_coefficients: Tensor | None,
    grad_solver: Tensor | None,
    grad_spread: Tensor | None,
    active: Tensor,
    solver: Tensor,
    spread: Tensor,
    x: Tensor,
    basis: Tensor,
    context_mask: Tensor,
    target_mask: Tensor,
    spend: Tensor,
    shared: Tensor,
    log_ridge: Tensor,
) -> tuple[Tensor, Tensor]:
    """Gradients of shared and log_ridge."""
    inputs = dense(x, basis, context_mask, target_mask, spend, shared, log_ridge)
    kept = dense(active, solver, spread)
    incoming = [
        None if grad is None else grad.contiguous()
        for grad in (grad_residual, grad_coefficients, grad_solver, grad_spread)
    ]
    runs = len(x) if by_triton(x) else -(-len(x) // _C.CALENDAR_RUN)
    sums = shared.new_empty(runs, *shared.shape), log_ridge.new_empty(runs, *log_ridge.shape)
    if by_triton(x):
        launches_of("calendar").backward(inputs, kept, incoming, sums)
    else:
        sizes = (*x.shape, basis.shape[-1])
        _C.calendar_backward(
            *(sizes, addresses(inputs), addresses(kept), addresses(incoming)),
            *(addresses(sums), torch.get_num_threads()),
        )
    return sums[0].sum(0), sums[1].sum(0)


@calendar_residuals.register_fake
def _(
    x: Tensor,
    basis: Tensor,
    context_mask: Tensor,
    target_mask: Tensor,
    spend: Tensor,
    shared: Tensor,
    log_ridge: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _outputs(x, basis)


@backward.register_fake
def _(
    grad_residual: Tensor | None,
    grad_coefficients: Tensor | None,
    grad_solver: Tensor | None,
    grad_spread: Tensor | None,
    active: Tensor,
    solver: Tensor,
    spread: Tensor,
    x: Tensor,
    basis: Tensor,
    context_mask: Tensor,
    target_mask: Tensor,
    spend: Tensor,
    shared: Tensor,
    log_ridge: Tensor,
) -> tuple[Tensor, Tensor]:
    return shared.new_empty(shared.shape), log_ridge.new_empty(log_ridge.shape)


def _outputs(x: Tensor, basis: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    stores, nodes, steps = x.shape
    terms, empty = basis.shape[-1], x.new_empty
    return (
        *(empty(x.shape), empty(x.shape), empty(x.shape)),
        *(empty(stores, nodes, terms), empty(stores, terms, steps)),
        empty(stores, terms, terms, dtype=torch.float64),
    )


def _remember(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    _, _, active, _, solver, spread = output
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(active, solver, spread, *inputs)


def _differentiate(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    residual, _, _, coefficients, solver, spread = grads
    gradients = backward(residual, coefficients, solver, spread, *ctx.saved_tensors)
    return None, None, None, None, None, *gradients


calendar_residuals.register_autograd(_differentiate, setup_context=_remember)
