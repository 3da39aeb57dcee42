"""Likelihood of one-step errors and its gradients; formulas in ``csrc/likelihood/likelihood.h``.

Tiles are [receiver, time]; column t is row t + 1 of the window.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl

_HALF_LOG_TAU = tl.constexpr(0.9189385332046727)  # log(2 pi) / 2


@triton.jit
def fitted_rows(p_context, steps, TP: tl.constexpr):
    """1 where the calendar fits a column [TP], else 0: context rows with history before them."""
    t = tl.arange(0, TP)
    b_context = tl.load(p_context + t, mask=t < steps, other=0) != 0
    begin = tl.min(tl.where(b_context, t, steps), 0)
    b_next = tl.load(p_context + t + 1, mask=t < steps - 1, other=0) != 0
    return (b_next & (t >= begin)).to(tl.float32)


@triton.jit
def response_sum(
    p_responses,
    p_gate,
    p_effect,
    p_beta,
    nodes,
    steps,
    D: tl.constexpr,
    NP: tl.constexpr,
    TP: tl.constexpr,
):
    """Effects [NP, TP] of all responses of a store, before the calendar."""
    j, t = tl.arange(0, NP), tl.arange(0, TP)
    valid, inside = j < nodes, t < steps - 1
    b_total = tl.zeros((NP, TP), tl.float32)
    for i in range(nodes):
        b_gate = tl.load(p_gate + i * nodes + j, mask=valid, other=0.0)
        b_scale = b_gate * tl.exp(tl.load(p_effect + i * nodes + j, mask=valid, other=0.0))
        for d in range(D):
            b_beta = tl.load(p_beta + (i * nodes + j) * D + d, mask=valid, other=0.0)
            p_row = p_responses + (i * D + d) * (steps - 1) + t
            b_response = tl.load(p_row, mask=inside, other=0.0)
            b_total += (b_scale * b_beta)[:, None] * b_response[None, :]
    return b_total


@triton.jit
def one_step_errors(
    b_total, b_fitted, p_residual, p_solver, p_basis, p_ar, nodes, steps,
    P: tl.constexpr, Q: tl.constexpr, NP: tl.constexpr, TP: tl.constexpr,
):  # fmt: skip
    """Errors [NP, TP] of the predictions from these effects."""
    j, t = tl.arange(0, NP), tl.arange(0, TP)
    valid, inside = j < nodes, t < steps - 1
    both = valid[:, None] & inside[None, :]
    p_series = p_residual + j[:, None] * steps + t[None, :]
    b_error = tl.load(p_series + 1, mask=both, other=0.0) - b_total
    for q in range(Q):
        b_solver = b_fitted * tl.load(p_solver + q * steps + t + 1, mask=inside, other=0.0)
        b_basis = tl.load(p_basis + (t + 1) * Q + q, mask=inside, other=0.0)
        b_error += tl.sum(b_total * b_solver[None, :], 1)[:, None] * b_basis[None, :]
    for p in range(P):
        b_weight = tl.load(p_ar + j * P + p, mask=valid, other=0.0)
        b_past = tl.load(p_series - p, mask=both & (t >= p)[None, :], other=0.0)
        b_error -= b_weight[:, None] * b_past
    return b_error


@triton.jit
def used_rows(p_target, p_active, nodes, steps, NP: tl.constexpr, TP: tl.constexpr):
    """1 where a column of a receiver counts [NP, TP], else 0."""
    j, t = tl.arange(0, NP), tl.arange(0, TP)
    inside = t < steps - 1
    b_target = tl.load(p_target + t + 1, mask=inside, other=0).to(tl.float32)
    both = (j < nodes)[:, None] & inside[None, :]
    p_row = p_active + j[:, None] * steps + t[None, :] + 1
    return b_target[None, :] * tl.load(p_row, mask=both, other=0.0)


@triton.jit(do_not_specialize=["nodes", "steps"])
def response_nll_kernel(
    p_residual,  # [B, N, T] float32
    p_responses,  # [B, N, D, T - 1] float32
    p_gate,  # [B, N, N] float32, sender first
    p_effect,  # [B, N, N] float32, log effects
    p_beta,  # [N, N, D] float32
    p_solver,  # [B, Q, T] float32
    p_basis,  # [B, T, Q] float32
    p_ar,  # [B, N, P] float32, lag 1 first
    p_log_noise,  # [B, N] float32
    p_active,  # [B, N, T] float32, 0 or 1
    p_context,  # [B, T] uint8, rows that the solver fits
    p_target,  # [B, T] uint8, rows that count
    p_nll,  # [B, N] float32 out
    nodes,  # N
    steps,  # T
    P: tl.constexpr,  # autoregressive lags
    D: tl.constexpr,  # components
    Q: tl.constexpr,  # terms of the calendar
    NP: tl.constexpr,  # N padded to a power of two
    TP: tl.constexpr,  # T padded
):
    """One program a store."""
    shop_row = tl.program_id(0).to(tl.int64)
    first = shop_row * nodes  # of [B, N]
    pairs = first * nodes
    b_total = response_sum(
        *(p_responses + first * D * (steps - 1), p_gate + pairs, p_effect + pairs, p_beta),
        *(nodes, steps, D, NP, TP),
    )
    b_fitted = fitted_rows(p_context + shop_row * steps, steps, TP)
    b_error = one_step_errors(
        *(b_total, b_fitted, p_residual + first * steps, p_solver + shop_row * Q * steps),
        *(p_basis + shop_row * steps * Q, p_ar + first * P, nodes, steps, P, Q, NP, TP),
    )
    b_used = used_rows(p_target + shop_row * steps, p_active + first * steps, nodes, steps, NP, TP)
    j = tl.arange(0, NP)
    b_log_noise = tl.load(p_log_noise + first + j, mask=j < nodes, other=0.0)
    b_error *= tl.exp(-b_log_noise)[:, None]
    b_nll = 0.5 * b_error * b_error + b_log_noise[:, None] + _HALF_LOG_TAU
    tl.store(p_nll + first + j, tl.sum(b_nll * b_used, 1), mask=j < nodes)


@triton.jit(do_not_specialize=["nodes", "steps"])
def response_nll_bwd_kernel(
    p_grad,  # [B, N] float32, gradient of the likelihoods
    p_residual,  # as for `response_nll_kernel`; this to the masks
    p_responses,
    p_gate,
    p_effect,
    p_beta,
    p_solver,
    p_basis,
    p_ar,
    p_log_noise,
    p_active,
    p_context,
    p_target,
    p_scratch,  # [B, N, T - 1] float32, gradient of the errors
    p_d_residual,  # [B, N, T] float32 out
    p_d_responses,  # [B, N, D, T - 1] float32 out
    p_d_gate,  # [B, N, N] float32 out
    p_d_effect,  # [B, N, N] float32 out
    p_d_beta,  # [B, N, N, D] float32 out, store by store
    p_d_solver,  # [B, Q, T] float32 out
    p_d_ar,  # [B, N, P] float32 out
    p_d_log_noise,  # [B, N] float32 out
    nodes,  # N
    steps,  # T
    P: tl.constexpr,  # autoregressive lags
    D: tl.constexpr,  # components
    Q: tl.constexpr,  # terms of the calendar
    NP: tl.constexpr,  # N padded to a power of two
    TP: tl.constexpr,  # T padded
):
    """One program a store; effects and errors are computed again."""
    shop_row = tl.program_id(0).to(tl.int64)
    first = shop_row * nodes  # of [B, N]
    pairs, of_response = first * nodes, first * D * (steps - 1)
    p_residual += first * steps
    p_responses += of_response
    p_solver += shop_row * Q * steps
    p_basis += shop_row * steps * Q
    b_total = response_sum(
        *(p_responses, p_gate + pairs, p_effect + pairs, p_beta, nodes, steps, D, NP, TP)
    )
    b_fitted = fitted_rows(p_context + shop_row * steps, steps, TP)
    b_error = one_step_errors(
        *(b_total, b_fitted, p_residual, p_solver, p_basis, p_ar + first * P),
        *(nodes, steps, P, Q, NP, TP),
    )
    b_used = used_rows(p_target + shop_row * steps, p_active + first * steps, nodes, steps, NP, TP)
    j, t = tl.arange(0, NP), tl.arange(0, TP)
    valid, inside = j < nodes, t < steps - 1
    both = valid[:, None] & inside[None, :]
    b_grad = tl.load(p_grad + first + j, mask=valid, other=0.0)
    b_unit = tl.exp(-tl.load(p_log_noise + first + j, mask=valid, other=0.0))[:, None]
    b_scaled = b_error * b_unit
    b_d_noise = b_grad * tl.sum(b_used * (1 - b_scaled * b_scaled), 1)
    tl.store(p_d_log_noise + first + j, b_d_noise, mask=valid)
    b_d_error = b_grad[:, None] * b_used * b_scaled * b_unit
    p_scratch += first * (steps - 1)
    tl.store(p_scratch + j[:, None] * (steps - 1) + t[None, :], b_d_error, mask=both)

    # autoregression
    p_series = p_residual + j[:, None] * steps + t[None, :]
    for p in range(P):
        b_past = tl.load(p_series - p, mask=both & (t >= p)[None, :], other=0.0)
        tl.store(p_d_ar + (first + j) * P + p, -tl.sum(b_d_error * b_past, 1), mask=valid)

    # calendar of the effects
    b_d_total = -b_d_error
    p_d_solver += shop_row * Q * steps
    for q in range(Q):
        b_solver = b_fitted * tl.load(p_solver + q * steps + t + 1, mask=inside, other=0.0)
        b_basis = tl.load(p_basis + (t + 1) * Q + q, mask=inside, other=0.0)
        b_d_level = tl.sum(b_d_error * b_basis[None, :], 1)
        b_d_solver = b_fitted * tl.sum(b_total * b_d_level[:, None], 0)
        tl.store(p_d_solver + q * steps + t + 1, b_d_solver, mask=inside)
        tl.store(p_d_solver + q * steps + t, b_d_solver * 0.0, mask=t == 0)
        b_d_total += b_d_level[:, None] * b_solver[None, :]

    # effects
    for i in range(nodes):
        place = pairs + i * nodes + j
        b_gate = tl.load(p_gate + place, mask=valid, other=0.0)
        b_size = tl.exp(tl.load(p_effect + place, mask=valid, other=0.0))
        b_d_scale = tl.zeros((NP,), tl.float32)
        for d in range(D):
            p_row = (i * D + d) * (steps - 1) + t
            b_response = tl.load(p_responses + p_row, mask=inside, other=0.0)
            b_beta = tl.load(p_beta + (i * nodes + j) * D + d, mask=valid, other=0.0)
            b_weight = b_gate * b_size * b_beta
            b_d_response = tl.sum(b_d_total * b_weight[:, None], 0)
            tl.store(p_d_responses + of_response + p_row, b_d_response, mask=inside)
            b_d_weight = tl.sum(b_d_total * b_response[None, :], 1)
            tl.store(p_d_beta + place * D + d, b_d_weight * b_gate * b_size, mask=valid)
            b_d_scale += b_d_weight * b_beta
        tl.store(p_d_gate + place, b_d_scale * b_size, mask=valid)
        tl.store(p_d_effect + place, b_d_scale * b_gate * b_size, mask=valid)

    # series, which the errors of later rows read as their past
    tl.debug_barrier()
    whole = valid[:, None] & (t < steps)[None, :]
    p_error = p_scratch + j[:, None] * (steps - 1) + t[None, :]
    b_d_series = tl.load(p_error - 1, mask=whole & (t > 0)[None, :], other=0.0)
    for p in range(P):
        b_weight = tl.load(p_ar + (first + j) * P + p, mask=valid, other=0.0)
        later = valid[:, None] & (t + p < steps - 1)[None, :]
        b_d_series -= b_weight[:, None] * tl.load(p_error + p, mask=later, other=0.0)
    p_out = p_d_residual + first * steps + j[:, None] * steps + t[None, :]
    tl.store(p_out, b_d_series, mask=whole)
