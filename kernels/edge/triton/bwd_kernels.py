"""Fused backward kernels of the edge operators: tiles of whole stores, from gradient to gradient.

No host code here: `launch` launches them. What holds for both:

- A group is G whole stores with G N <= NP nodes. Its edges are contiguous in memory, [G, sender,
  receiver], self pairs included, and pass through in tiles of BM rows.
- An edge meets its nodes in products with `b_ends` [BM, 2 NP]: ones in the columns of its sender
  (below NP) and of its receiver (from NP on), zeros elsewhere and in the rows of self pairs.
  b_ends @ nodes adds the two node states up, grad.T @ b_ends adds edges up at their nodes. So
  sums over senders and receivers never leave the multiprocessor, and nothing is gathered.
- A program takes the same groups whatever the device, sums gradients of weights over all of them,
  and writes one partial sum. There are no atomics, and every sum has a fixed order.
- Memory sees the state of each edge and its gradient, and nothing else of width H.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl

from causalmmm.kernels.edge.triton.tiles import (
    column_sums,
    elu,
    elu_slope,
    load_features,
    load_rows,
    load_transposed,
    mma,
    moments,
    normalise_backward,
    write_rows,
)


@triton.jit
def end_rows(p_sender, p_receiver, count, H: tl.constexpr, NP: tl.constexpr):
    """Where the states [2 NP, H] of a group's senders and receivers stand, and which exist."""
    column = tl.arange(0, 2 * NP)
    node = column % NP
    p_node = tl.where(column < NP, p_sender + node * H, p_receiver + node * H)
    return p_node[:, None] + tl.arange(0, H)[None, :], (node < count)[:, None]


@triton.jit(do_not_specialize=["stores", "step", "groups"])
def edge_second_bwd_kernel(
    p_ends,  # [G N N, 2 NP], see above
    p_states,  # [B, N, N, H], e of the first pass
    p_sender,  # [B, N, H], sender's part of the second pass's first layer
    p_receiver,  # [B, N, H], the receiver's, with the bias
    p_w3,  # [H, H] (out, in), the edge state's part
    p_w4,  # [H, H] (out, in), second layer
    p_b4,  # [H]
    p_wo,  # [K, H], output layer
    p_grad_out,  # [B, N, N, K] float32, gradient of the logits
    p_d_states,  # [B, N, N, H] out, gradient of e
    p_d_sender,  # [B, N, H] out
    p_d_receiver,  # [B, N, H] out
    p_w3_sums,  # [parts, H, H] float32 out, here and below a part's sum of the gradient
    p_w4_sums,  # [parts, H, H] float32 out
    p_b4_sums,  # [parts, H] float32 out
    p_wo_sums,  # [parts, 16, H] float32 out, of which K rows count
    stores,  # B
    step,  # G, stores of a group
    groups,  # that one part takes, in a row
    H: tl.constexpr,  # hidden width
    N: tl.constexpr,  # nodes of a store
    NP: tl.constexpr,  # nodes of a group, padded
    K: tl.constexpr,  # edge types
    BM: tl.constexpr,  # edges of a tile
    PRECISION: tl.constexpr,  # `input_precision` of products
    EMULATE: tl.constexpr,  # under the interpreter
):
    """Second pass backwards, from the gradient of the logits to those of e and of all arguments."""
    DTYPE: tl.constexpr = p_states.dtype.element_ty
    part = tl.program_id(0)
    h, types = tl.arange(0, H), tl.arange(0, 16)
    square = h[:, None] * H + h
    b_w3, b_w4 = tl.load(p_w3 + square), tl.load(p_w4 + square)
    b_b4 = tl.load(p_b4 + h).to(tl.float32)[None, :]
    p_row = p_wo + types[:, None] * H + h[None, :]
    b_wo = tl.load(p_row, mask=types[:, None] < K, other=0.0).to(tl.float32)
    b_wo = (b_wo - (tl.sum(b_wo, 1) / H)[:, None]).to(DTYPE)  # LayerNorm hears no mean
    b_w4_sum = tl.zeros((H, H), tl.float32)
    b_b4_sum, b_wo_sum = tl.zeros((H, 16), tl.float32), tl.zeros((H, 16), tl.float32)
    b_w3_sum = tl.zeros((H, H), tl.float32)
    for group in range(part * groups, tl.minimum((part + 1) * groups, tl.cdiv(stores, step))):
        base = group * step.to(tl.int64) * N  # first node
        count = tl.minimum(step, stores - group * step) * N
        p_nodes, exists = end_rows(p_sender + base * H, p_receiver + base * H, count, H, NP)
        b_nodes = tl.load(p_nodes, mask=exists, other=0.0)
        b_d_nodes = tl.zeros((H, 2 * NP), tl.float32)
        for first in range(0, count * N, BM):
            row = first + tl.arange(0, BM)
            mask = row < count * N
            p_row_ends = p_ends + row[:, None] * (2 * NP) + tl.arange(0, 2 * NP)[None, :]
            b_ends = tl.load(p_row_ends, mask=mask[:, None], other=0.0)
            b_e = load_rows(p_states + base * N * H, row, mask, H).to(DTYPE)
            b_x = mma(b_e, tl.trans(b_w3), DTYPE, PRECISION, EMULATE)
            b_x += mma(b_ends, b_nodes, DTYPE, PRECISION, EMULATE)
            b_inner = elu(b_x).to(DTYPE)
            b_x = elu(mma(b_inner, tl.trans(b_w4), DTYPE, PRECISION, EMULATE) + b_b4)
            mean, rstd = moments(b_x, H)
            p_out = p_grad_out + base * N * K + row[:, None] * K + types[None, :]
            valid = mask[:, None] & (types < K)[None, :]
            b_grad_out = tl.load(p_out, mask=valid, other=0.0).to(DTYPE)
            b_y = ((b_x - mean[:, None]) * rstd[:, None]).to(DTYPE)
            b_wo_sum += mma(tl.trans(b_y), b_grad_out, DTYPE, PRECISION, EMULATE)
            b_grad = mma(b_grad_out, b_wo, DTYPE, PRECISION, EMULATE)  # of y, but for its mean
            tilt = tl.sum(b_grad * b_x, 1) / H * rstd * rstd * rstd
            b_grad = rstd[:, None] * b_grad + (tilt * mean)[:, None] - tilt[:, None] * b_x
            b_grad = (b_grad * elu_slope(b_x)).to(DTYPE)
            b_w4_sum += mma(tl.trans(b_grad), b_inner, DTYPE, PRECISION, EMULATE)
            b_b4_sum += column_sums(b_grad, DTYPE, PRECISION, EMULATE)
            b_slope = elu_slope(b_inner.to(tl.float32))
            b_grad = (mma(b_grad, b_w4, DTYPE, PRECISION, EMULATE) * b_slope).to(DTYPE)
            b_w3_sum += mma(tl.trans(b_grad), b_e, DTYPE, PRECISION, EMULATE)
            b_d_nodes += mma(tl.trans(b_grad), b_ends, DTYPE, PRECISION, EMULATE)
            b_grad = mma(b_grad, b_w3, DTYPE, PRECISION, EMULATE)
            write_rows(p_d_states + base * N * H, row, mask, b_grad, H)
        p_nodes, _ = end_rows(p_d_sender + base * H, p_d_receiver + base * H, count, H, NP)
        tl.store(p_nodes, tl.trans(b_d_nodes).to(DTYPE), mask=exists)
    tl.store(p_w4_sums + part * H * H + square, b_w4_sum)
    tl.store(p_b4_sums + part * H + h, tl.sum(b_b4_sum, 1) / 16)
    tl.store(p_wo_sums + part * 16 * H + types[None, :] * H + h[:, None], b_wo_sum)
    tl.store(p_w3_sums + part * H * H + square, b_w3_sum)


@triton.jit(do_not_specialize=["stores", "step", "groups"])
def edge_first_bwd_kernel(
    p_ends,  # [G N N, 2 NP], see above
    p_states,  # [B, N, N, H], e
    p_moments,  # [B, N, N, 2] float32, mean of LayerNorm's input and 1 / its standard deviation
    p_sender,  # [B, N, H], sender's part of the first layer's input
    p_receiver,  # [B, N, H], the receiver's, with the bias
    p_w2,  # [H, H] (out, in), second layer
    p_features,  # [B, N, N, F], edge features; not read where FP is 0
    p_wf,  # [H, F], their part of the first layer; likewise
    p_grad_mean,  # [B, N, H], gradient of the mean over senders; not read without FROM_MEAN
    p_grad_states,  # [B, N, N, H], gradient of e; not read without FROM_STATES
    p_d_sender,  # [B, N, H] out
    p_d_receiver,  # [B, N, H] out
    p_d_features,  # [B, N, N, F] out; not written without FEATURES_GRAD
    p_w2_sums,  # [parts, H, H] float32 out, here and below a part's sum of the gradient
    p_b2_sums,  # [parts, H] float32 out
    p_wf_sums,  # [parts, H, FP] float32 out
    stores,  # B
    step,  # G, stores of a group
    groups,  # that one part takes, in a row
    H: tl.constexpr,  # hidden width
    N: tl.constexpr,  # nodes of a store
    NP: tl.constexpr,  # nodes of a group, padded
    F: tl.constexpr,  # features
    FP: tl.constexpr,  # features padded for a product; 0 without features
    FROM_MEAN: tl.constexpr,  # the mean of e has a gradient
    FROM_STATES: tl.constexpr,  # e has one of its own
    FEATURES_GRAD: tl.constexpr,
    BM: tl.constexpr,  # edges of a tile
    PRECISION: tl.constexpr,  # `input_precision` of products
    EMULATE: tl.constexpr,  # under the interpreter
):
    """First pass backwards, from the gradients of e and of its mean to those of all arguments."""
    DTYPE: tl.constexpr = p_states.dtype.element_ty
    part = tl.program_id(0)
    h = tl.arange(0, H)
    square = h[:, None] * H + h
    b_w2 = tl.load(p_w2 + square)
    if FP > 0:
        f = tl.arange(0, FP)
        b_wft = load_transposed(p_wf, H, FP, F)
        b_wf_sum = tl.zeros((H, FP), tl.float32)
    b_w2_sum, b_b2_sum = tl.zeros((H, H), tl.float32), tl.zeros((H, 16), tl.float32)
    for group in range(part * groups, tl.minimum((part + 1) * groups, tl.cdiv(stores, step))):
        base = group * step.to(tl.int64) * N  # first node
        count = tl.minimum(step, stores - group * step) * N
        p_nodes, exists = end_rows(p_sender + base * H, p_receiver + base * H, count, H, NP)
        b_nodes = tl.load(p_nodes, mask=exists, other=0.0)
        if FROM_MEAN:
            node = tl.arange(0, 2 * NP)
            is_receiver = (node >= NP) & (node < NP + count)
            b_grad_mean = load_rows(p_grad_mean + base * H, node - NP, is_receiver, H).to(DTYPE)
        b_d_nodes = tl.zeros((H, 2 * NP), tl.float32)
        for first in range(0, count * N, BM):
            row = first + tl.arange(0, BM)
            mask = row < count * N
            p_row_ends = p_ends + row[:, None] * (2 * NP) + tl.arange(0, 2 * NP)[None, :]
            b_ends = tl.load(p_row_ends, mask=mask[:, None], other=0.0)
            b_e = load_rows(p_states + base * N * H, row, mask, H)
            p_row = p_moments + base * N * 2 + row * 2
            mean = tl.load(p_row, mask=mask, other=0.0)
            rstd = tl.load(p_row + 1, mask=mask, other=0.0)
            b_grad = tl.zeros((BM, H), tl.float32)
            if FROM_MEAN:
                b_grad += mma(b_ends, b_grad_mean, DTYPE, PRECISION, EMULATE) / (N - 1)
            if FROM_STATES:
                b_grad += load_rows(p_grad_states + base * N * H, row, mask, H)
            std = 1.0 / tl.where(rstd > 0.0, rstd, 1.0)
            b_grad = normalise_backward(b_grad, b_e, rstd, H)
            b_grad = (b_grad * elu_slope(b_e * std[:, None] + mean[:, None])).to(DTYPE)
            b_x = mma(b_ends, b_nodes, DTYPE, PRECISION, EMULATE)
            if FP > 0:
                is_pair = mask & (row % (N * N) % (N + 1) != 0)
                b_f = load_features(p_features + base * N * F, row, is_pair, F, FP)
                b_x += mma(b_f, b_wft, DTYPE, PRECISION, EMULATE)
            b_inner = elu(b_x).to(DTYPE)
            b_w2_sum += mma(tl.trans(b_grad), b_inner, DTYPE, PRECISION, EMULATE)
            b_b2_sum += column_sums(b_grad, DTYPE, PRECISION, EMULATE)
            b_slope = elu_slope(b_inner.to(tl.float32))
            b_grad = (mma(b_grad, b_w2, DTYPE, PRECISION, EMULATE) * b_slope).to(DTYPE)
            b_d_nodes += mma(tl.trans(b_grad), b_ends, DTYPE, PRECISION, EMULATE)
            if FP > 0:
                b_wf_sum += mma(tl.trans(b_grad), b_f, DTYPE, PRECISION, EMULATE)
            if FEATURES_GRAD:
                b_d_f = mma(b_grad, tl.trans(b_wft), DTYPE, PRECISION, EMULATE).to(DTYPE)
                p_d_f = p_d_features + base * N * F + row[:, None] * F + f[None, :]
                tl.store(p_d_f, b_d_f, mask=mask[:, None] & (f < F)[None, :])
        p_nodes, _ = end_rows(p_d_sender + base * H, p_d_receiver + base * H, count, H, NP)
        tl.store(p_nodes, tl.trans(b_d_nodes).to(DTYPE), mask=exists)
    tl.store(p_w2_sums + part * H * H + square, b_w2_sum)
    tl.store(p_b2_sums + part * H + h, tl.sum(b_b2_sum, 1) / 16)
    if FP > 0:
        tl.store(p_wf_sums + part * H * FP + h[:, None] * FP + f, b_wf_sum)
