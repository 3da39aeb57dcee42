"""Heads of pairs and their gradients; formulas in ``kernels/heads/op.py``. Tiles are [receiver,
feature]."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl

_MAX_MEAN = tl.constexpr(3.0)
_MIN_LOG_SD, _MAX_LOG_SD = tl.constexpr(-6.0), tl.constexpr(1.0)


@triton.jit
def features_of(p_edges, row, nodes, F: tl.constexpr, FP: tl.constexpr, NP: tl.constexpr):
    """Features [NP, FP] of the pairs of one sender of one store, the row of both."""
    j, f = tl.arange(0, NP)[:, None], tl.arange(0, FP)[None, :]
    return tl.load(p_edges + (row * nodes + j) * F + f, mask=(j < nodes) & (f < F), other=0.0)


@triton.jit(do_not_specialize=["nodes"])
def pair_heads_kernel(
    p_edges,  # [B, N, N, F] float32
    p_sender,  # [B, N, R] float32
    p_receiver,  # [B, N, R] float32
    p_prior,  # [B, N, N, 2] float32
    p_evidence,  # [F] float32
    p_bias,  # [1] float32
    p_shift,  # [2, F] float32
    p_shared,  # [N, N] float32, log deviations that all stores share
    p_log_bf,  # [B, N, N] float32 out
    p_informed,  # [B, N, N, 2] float32 out
    p_mean,  # [B, N, N] float32 out
    p_log_sd,  # [B, N, N] float32 out
    nodes,  # N
    F: tl.constexpr,  # features
    FP: tl.constexpr,  # features padded to a power of two
    R: tl.constexpr,  # rank of the effects
    RP: tl.constexpr,  # rank padded
    NP: tl.constexpr,  # N padded
):
    """One program a sender of a store."""
    shop_row, i = tl.program_id(0).to(tl.int64), tl.program_id(1)
    j, f, r = tl.arange(0, NP), tl.arange(0, FP), tl.arange(0, RP)
    valid, row = j < nodes, shop_row * nodes + i
    place = row * nodes + j
    b_edges = features_of(p_edges, row, nodes, F, FP, NP)
    b_evidence = tl.load(p_evidence + f, mask=f < F, other=0.0)
    b_log_bf = tl.sum(b_edges * b_evidence[None, :], 1) + tl.load(p_bias)
    b_log_bf = tl.where(j != i, b_log_bf, 0.0)
    b_none = tl.load(p_prior + 2 * place, mask=valid, other=0.0)
    b_causal = tl.load(p_prior + 2 * place + 1, mask=valid, other=0.0)
    tl.store(p_log_bf + place, b_log_bf, mask=valid)
    tl.store(p_informed + 2 * place, b_none, mask=valid)
    tl.store(p_informed + 2 * place + 1, b_causal + b_log_bf, mask=valid)
    p_row = p_receiver + (shop_row * nodes + j)[:, None] * R + r[None, :]
    b_receiver = tl.load(p_row, mask=valid[:, None] & (r < R)[None, :], other=0.0)
    b_sender = tl.load(p_sender + row * R + r, mask=r < R, other=0.0)
    b_shift = tl.load(p_shift + f, mask=f < F, other=0.0)
    b_mean = tl.sum(b_receiver * b_sender[None, :], 1) + tl.sum(b_edges * b_shift[None, :], 1)
    ALL: tl.constexpr = tl.PropagateNan.ALL
    b_mean = tl.clamp(b_mean, -_MAX_MEAN, _MAX_MEAN, propagate_nan=ALL)
    b_shift = tl.load(p_shift + F + f, mask=f < F, other=0.0)
    b_log_sd = tl.load(p_shared + i * nodes + j, mask=valid, other=0.0)
    b_log_sd += tl.sum(b_edges * b_shift[None, :], 1)
    b_log_sd = tl.clamp(b_log_sd, _MIN_LOG_SD, _MAX_LOG_SD, propagate_nan=ALL)
    tl.store(p_mean + place, b_mean, mask=valid)
    tl.store(p_log_sd + place, b_log_sd, mask=valid)


@triton.jit(do_not_specialize=["stores", "nodes", "parts"])
def pair_heads_bwd_kernel(
    p_grad_log_bf,  # [B, N, N] float32; not read without FROM_LOG_BF, and so the next three
    p_grad_informed,  # [B, N, N, 2] float32
    p_grad_mean,  # [B, N, N] float32
    p_grad_log_sd,  # [B, N, N] float32
    p_edges,  # [B, N, N, F] float32
    p_sender,  # [B, N, R] float32
    p_receiver,  # [B, N, R] float32
    p_mean,  # [B, N, N] float32, of the forward pass, as the next
    p_log_sd,  # [B, N, N] float32
    p_d_sender,  # [B, N, R] float32 out
    p_d_receiver,  # [B, N, R] float32 out
    p_sums,  # [parts, 3 F + 1 + N N] float32 out: evidence, bias, shift, shared log deviations
    stores,  # B
    nodes,  # N
    parts,  # over which the stores are spread
    F: tl.constexpr,  # features
    FP: tl.constexpr,  # features padded to a power of two
    R: tl.constexpr,  # rank of the effects
    RP: tl.constexpr,  # rank padded
    NP: tl.constexpr,  # N padded
    FROM_LOG_BF: tl.constexpr,
    FROM_INFORMED: tl.constexpr,
    FROM_MEAN: tl.constexpr,
    FROM_LOG_SD: tl.constexpr,
):
    """One program a part of the stores."""
    part = tl.program_id(0)
    j, f, r = tl.arange(0, NP), tl.arange(0, FP), tl.arange(0, RP)
    valid, ranks = j < nodes, (r < R)[None, :]
    b_d_evidence = tl.zeros((FP,), tl.float32)
    b_d_shift = tl.zeros((FP,), tl.float32)
    b_d_spread = tl.zeros((FP,), tl.float32)
    b_d_bias = tl.zeros((NP,), tl.float32)
    b_d_shared = tl.zeros((NP, NP), tl.float32)  # [sender, receiver]
    for store in range(part, stores, parts):
        first = tl.full((), store, tl.int64) * nodes
        p_row = (first + j)[:, None] * R + r[None, :]
        b_receiver = tl.load(p_receiver + p_row, mask=valid[:, None] & ranks, other=0.0)
        b_d_receiver = tl.zeros((NP, RP), tl.float32)
        for i in range(nodes):
            row = first + i
            place = row * nodes + j
            b_edges = features_of(p_edges, row, nodes, F, FP, NP)
            b_grad = tl.zeros((NP,), tl.float32)
            if FROM_LOG_BF:
                b_grad += tl.load(p_grad_log_bf + place, mask=valid, other=0.0)
            if FROM_INFORMED:
                b_grad += tl.load(p_grad_informed + 2 * place + 1, mask=valid, other=0.0)
            if FROM_LOG_BF or FROM_INFORMED:
                b_grad = tl.where(j != i, b_grad, 0.0)
                b_d_bias += b_grad
                b_d_evidence += tl.sum(b_edges * b_grad[:, None], 0)
            b_d_sender = tl.zeros((RP,), tl.float32)
            if FROM_MEAN:
                b_mean = tl.load(p_mean + place, mask=valid, other=0.0)
                b_grad = tl.load(p_grad_mean + place, mask=valid, other=0.0)
                b_grad = tl.where((b_mean > -_MAX_MEAN) & (b_mean < _MAX_MEAN), b_grad, 0.0)
                b_d_shift += tl.sum(b_edges * b_grad[:, None], 0)
                b_d_sender = tl.sum(b_receiver * b_grad[:, None], 0)
                b_sender = tl.load(p_sender + row * R + r, mask=r < R, other=0.0)
                b_d_receiver += b_grad[:, None] * b_sender[None, :]
            tl.store(p_d_sender + row * R + r, b_d_sender, mask=r < R)
            if FROM_LOG_SD:
                b_log_sd = tl.load(p_log_sd + place, mask=valid, other=0.0)
                b_grad = tl.load(p_grad_log_sd + place, mask=valid, other=0.0)
                free = (b_log_sd > _MIN_LOG_SD) & (b_log_sd < _MAX_LOG_SD)
                b_grad = tl.where(free, b_grad, 0.0)
                b_d_spread += tl.sum(b_edges * b_grad[:, None], 0)
                b_d_shared += tl.where(j[:, None] == i, b_grad[None, :], 0.0)
        tl.store(p_d_receiver + p_row, b_d_receiver, mask=valid[:, None] & ranks)
    p_sums += part.to(tl.int64) * (3 * F + 1 + nodes * nodes)
    tl.store(p_sums + f, b_d_evidence, mask=f < F)
    tl.store(p_sums + F, tl.sum(b_d_bias, 0))
    tl.store(p_sums + F + 1 + f, b_d_shift, mask=f < F)
    tl.store(p_sums + 2 * F + 1 + f, b_d_spread, mask=f < F)
    p_square = p_sums + 3 * F + 1 + j[:, None] * nodes + j[None, :]
    tl.store(p_square, b_d_shared, mask=valid[:, None] & valid[None, :])
