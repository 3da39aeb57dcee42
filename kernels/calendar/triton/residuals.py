"""Series less their regression on the calendar, and its gradients; formulas in
``csrc/calendar/calendar.h``.

Tiles are [series, time] and [term, time]; what is ill-conditioned is float64.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl

from causalmmm.kernels.tiles import column_of, solved

_MAX_LOG_RIDGE = tl.constexpr(12.0)  # as in csrc/calendar/calendar.h


@triton.jit
def receivers(p_x, p_spend, b_context, nodes, steps, NP: tl.constexpr, TP: tl.constexpr):
    """Series as receivers [NP, TP], their activity, and the series themselves."""
    n, t = tl.arange(0, NP), tl.arange(0, TP)
    inside = (n < nodes)[:, None] & (t < steps)[None, :]
    b_x = tl.load(p_x + n[:, None] * steps + t[None, :], mask=inside, other=0.0)
    b_spend = tl.load(p_spend + n, mask=n < nodes, other=0) != 0
    b_active = ((b_x != 0) | ~b_spend[:, None]).to(tl.float32)
    b_counted = b_active * b_context[None, :]
    b_level = tl.sum(b_x * b_counted, 1) / tl.maximum(tl.sum(b_counted, 1), 1.0)
    return tl.where(inside, tl.where(b_active > 0, b_x, b_level[:, None]), 0.0), b_active, b_x


@triton.jit(do_not_specialize=["nodes", "steps"])
def calendar_residuals_kernel(
    p_x,  # [B, N, T] float32
    p_basis,  # [B, T, Q] float32
    p_context,  # [B, T] uint8, rows of the regression
    p_target,  # [B, T] uint8; a row in neither is padding
    p_spend,  # [N] uint8, 1 where zero means no spend
    p_shared,  # [N, Q] float32
    p_log_ridge,  # [Q] float32
    p_residual,  # [B, N, T] float32 out, as receivers
    p_sent,  # [B, N, T] float32 out, as senders
    p_active,  # [B, N, T] float32 out, 0 or 1
    p_coefficients,  # [B, N, Q] float32 out
    p_solver,  # [B, Q, T] float32 out
    p_spread,  # [B, Q, Q] float64 out
    nodes,  # N
    steps,  # T
    Q: tl.constexpr,  # terms
    QP: tl.constexpr,  # terms padded to a power of two
    NP: tl.constexpr,  # N padded
    TP: tl.constexpr,  # T padded
):
    """One program a store."""
    shop_row = tl.program_id(0).to(tl.int64)
    first = shop_row * nodes
    n, t, q = tl.arange(0, NP), tl.arange(0, TP), tl.arange(0, QP)
    term, row, valid = q < Q, t < steps, n < nodes
    p_basis += shop_row * steps * Q
    b_context = tl.load(p_context + shop_row * steps + t, mask=row, other=0).to(tl.float32)

    # the regression
    b_gram = tl.zeros((QP, QP), tl.float64)
    for s in range(steps):
        used = tl.load(p_context + shop_row * steps + s).to(tl.float64)
        b_terms = tl.load(p_basis + s * Q + q, mask=term, other=0.0).to(tl.float64)
        b_gram += b_terms[:, None] * (used * b_terms)[None, :]
    b_log_ridge = tl.load(p_log_ridge + q, mask=term, other=0.0)  # 1 in the padding
    b_log_ridge = tl.minimum(tl.maximum(b_log_ridge, -_MAX_LOG_RIDGE), _MAX_LOG_RIDGE)
    b_ridge = tl.exp(b_log_ridge.to(tl.float64))
    b_gram += tl.where(q[:, None] == q[None, :], b_ridge[:, None], 0.0)
    b_spread, _ = solved(b_gram, tl.zeros((QP, 1), tl.float64), Q)
    p_square = p_spread + shop_row * Q * Q + q[:, None] * Q + q[None, :]
    tl.store(p_square, b_spread, mask=term[:, None] & term[None, :])
    b_solver = tl.zeros((QP, TP), tl.float64)
    for k in range(Q):
        b_basis = b_context * tl.load(p_basis + t * Q + k, mask=row, other=0.0)
        b_solver += column_of(b_spread, k)[:, None] * b_basis.to(tl.float64)[None, :]
    b_short = b_solver.to(tl.float32)
    p_tile = p_solver + shop_row * Q * steps + q[:, None] * steps + t[None, :]
    tl.store(p_tile, b_short, mask=term[:, None] & row[None, :])

    # what it leaves of the series
    b_received, b_active, b_sent = receivers(
        p_x + first * steps, p_spend, b_context, nodes, steps, NP, TP
    )
    for k in range(Q):
        b_basis = tl.load(p_basis + t * Q + k, mask=row, other=0.0)
        b_shared = tl.load(p_shared + n * Q + k, mask=valid, other=0.0)
        b_received -= b_shared[:, None] * b_basis[None, :]
        b_sent -= b_shared[:, None] * b_basis[None, :]
    b_left, b_left_sent = b_received, b_sent
    for k in range(Q):
        b_basis = tl.load(p_basis + t * Q + k, mask=row, other=0.0)
        b_line = tl.sum(tl.where(q[:, None] == k, b_short, 0.0), 0)
        b_coefficient = tl.sum(b_received * b_line[None, :], 1)
        b_left -= b_coefficient[:, None] * b_basis[None, :]
        b_of_sent = tl.sum(b_sent * b_line[None, :], 1)
        b_left_sent -= b_of_sent[:, None] * b_basis[None, :]
        b_coefficient += tl.load(p_shared + n * Q + k, mask=valid, other=0.0)
        tl.store(p_coefficients + (first + n) * Q + k, b_coefficient, mask=valid)
    b_target = tl.load(p_target + shop_row * steps + t, mask=row, other=0).to(tl.float32)
    b_left *= b_active * tl.maximum(b_context, b_target)[None, :]
    p_series = (first + n)[:, None] * steps + t[None, :]
    inside = valid[:, None] & row[None, :]
    tl.store(p_residual + p_series, b_left, mask=inside)
    tl.store(p_sent + p_series, b_left_sent, mask=inside)
    tl.store(p_active + p_series, b_active, mask=inside)


@triton.jit(do_not_specialize=["nodes", "steps"])
def calendar_residuals_bwd_kernel(
    p_x,  # as for `calendar_residuals_kernel`; this to the ridge
    p_basis,
    p_context,
    p_target,
    p_spend,
    p_shared,
    p_log_ridge,
    p_active,  # [B, N, T] float32, of the forward pass, as the next two
    p_solver,  # [B, Q, T] float32
    p_spread,  # [B, Q, Q] float64
    p_grad_residual,  # [B, N, T] float32; these four are not read without FROM_..
    p_grad_coefficients,  # [B, N, Q] float32
    p_grad_solver,  # [B, Q, T] float32
    p_grad_spread,  # [B, Q, Q] float64
    p_d_shared,  # [B, N, Q] float32 out, store by store
    p_d_log_ridge,  # [B, Q] float32 out, store by store
    nodes,  # N
    steps,  # T
    Q: tl.constexpr,  # terms
    QP: tl.constexpr,  # terms padded to a power of two
    NP: tl.constexpr,  # N padded
    TP: tl.constexpr,  # T padded
    FROM_RESIDUAL: tl.constexpr,
    FROM_COEFFICIENTS: tl.constexpr,
    FROM_SOLVER: tl.constexpr,
    FROM_SPREAD: tl.constexpr,
):
    """One program a store."""
    shop_row = tl.program_id(0).to(tl.int64)
    first = shop_row * nodes
    n, t, q = tl.arange(0, NP), tl.arange(0, TP), tl.arange(0, QP)
    term, row, valid = q < Q, t < steps, n < nodes
    p_basis += shop_row * steps * Q
    b_context = tl.load(p_context + shop_row * steps + t, mask=row, other=0).to(tl.float32)
    b_deviation, _, _ = receivers(p_x + first * steps, p_spend, b_context, nodes, steps, NP, TP)
    b_left = tl.zeros((NP, TP), tl.float32)  # gradient of the residuals
    if FROM_RESIDUAL:
        b_target = tl.load(p_target + shop_row * steps + t, mask=row, other=0).to(tl.float32)
        p_series = (first + n)[:, None] * steps + t[None, :]
        inside = valid[:, None] & row[None, :]
        b_left = tl.load(p_grad_residual + p_series, mask=inside, other=0.0)
        b_left *= tl.load(p_active + p_series, mask=inside, other=0.0)
        b_left *= tl.maximum(b_context, b_target)[None, :]

    # through the coefficients, to the deviations and to the solver
    for k in range(Q):
        b_basis = tl.load(p_basis + t * Q + k, mask=row, other=0.0)
        b_shared = tl.load(p_shared + n * Q + k, mask=valid, other=0.0)
        b_deviation -= b_shared[:, None] * b_basis[None, :]
    b_d_deviation = b_left
    b_d_solver = tl.zeros((QP, TP), tl.float64)
    if FROM_SOLVER:
        p_tile = shop_row * Q * steps + q[:, None] * steps + t[None, :]
        inside = term[:, None] & row[None, :]
        b_d_solver += tl.load(p_grad_solver + p_tile, mask=inside, other=0.0).to(tl.float64)
    for k in range(Q):
        b_basis = tl.load(p_basis + t * Q + k, mask=row, other=0.0)
        b_line = tl.load(p_solver + (shop_row * Q + k) * steps + t, mask=row, other=0.0)
        b_d_coefficient = -tl.sum(b_left * b_basis[None, :], 1)
        if FROM_COEFFICIENTS:
            p_of_term = p_grad_coefficients + (first + n) * Q + k
            b_d_coefficient += tl.load(p_of_term, mask=valid, other=0.0)
        b_d_deviation += b_d_coefficient[:, None] * b_line[None, :]
        b_d_line = tl.sum(b_deviation * b_d_coefficient[:, None], 0).to(tl.float64)
        b_d_solver += tl.where(q[:, None] == k, b_d_line[None, :], 0.0)
    for k in range(Q):
        b_basis = tl.load(p_basis + t * Q + k, mask=row, other=0.0)
        b_d_shared = -tl.sum(b_d_deviation * b_basis[None, :], 1)
        if FROM_COEFFICIENTS:
            p_of_term = p_grad_coefficients + (first + n) * Q + k
            b_d_shared += tl.load(p_of_term, mask=valid, other=0.0)
        tl.store(p_d_shared + (first + n) * Q + k, b_d_shared, mask=valid)

    # S = (C'C + R)^-1 and K = S C': dR is the diagonal of -S (dS + dK C) S
    p_square = shop_row * Q * Q + q[:, None] * Q + q[None, :]
    square = term[:, None] & term[None, :]
    b_spread = tl.load(p_spread + p_square, mask=square, other=0.0)
    b_solver = tl.zeros((QP, TP), tl.float64)  # K
    b_back = tl.zeros((QP, TP), tl.float64)  # S dK
    b_product = tl.zeros((QP, QP), tl.float64)  # S dS
    for k in range(Q):
        b_basis = b_context * tl.load(p_basis + t * Q + k, mask=row, other=0.0)
        b_column = column_of(b_spread, k)
        b_solver += b_column[:, None] * b_basis.to(tl.float64)[None, :]
        b_d_line = tl.sum(tl.where(q[:, None] == k, b_d_solver, 0.0), 0)
        b_back += b_column[:, None] * b_d_line[None, :]
        if FROM_SPREAD:
            p_line = p_grad_spread + (shop_row * Q + k) * Q + q
            b_product += b_column[:, None] * tl.load(p_line, mask=term, other=0.0)[None, :]
    b_d_ridge = -tl.sum(b_back * b_solver, 1)
    if FROM_SPREAD:
        b_d_ridge -= tl.sum(b_product * b_spread, 1)
    b_log_ridge = tl.load(p_log_ridge + q, mask=term, other=0.0)
    bounded = tl.abs(b_log_ridge) <= _MAX_LOG_RIDGE
    b_d_log_ridge = tl.where(bounded, b_d_ridge * tl.exp(b_log_ridge.to(tl.float64)), 0.0)
    tl.store(p_d_log_ridge + shop_row * Q + q, b_d_log_ridge.to(tl.float32), mask=term)
