"""Kernels of one layer each, for the backward pass and for widths too large to fuse.

No host code here: `layers` launches them, on one chunk of B stores at a time. Edge tensors have
Q = B N N rows (store, sender, receiver), self pairs included: those of width H are scratch, or the
states that are kept.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl

from causalmmm.kernels.edge.triton.tiles import (
    elu,
    elu_slope,
    load_features,
    load_rows,
    load_transposed,
    mma,
    moments,
    normalise,
    normalise_backward,
    product,
    project,
    write_rows,
)


@triton.jit
def edge_rows(base, edges, nodes, BM: tl.constexpr):
    """Of a tile: its edges, their mask, and the rows of node tensors that hold their receivers and
    senders."""
    row = base + tl.arange(0, BM)
    mask = row < edges
    sender_row = row // nodes
    receiver_row = sender_row - sender_row % nodes + row % nodes
    return row, mask, receiver_row, sender_row


@triton.jit
def first_inner(
    p_sender,
    p_receiver,
    p_features,
    p_wf,
    receiver_row,
    sender_row,
    mask,
    nodes,
    first_column,
    H: tl.constexpr,
    BK: tl.constexpr,
    F: tl.constexpr,
    FP: tl.constexpr,
    DTYPE: tl.constexpr,
    PRECISION: tl.constexpr,
    EMULATE: tl.constexpr,
):
    """BK columns, from first_column on, of the first pass's elu(sender + receiver + Wf f),
    recomputed."""
    column = first_column + tl.arange(0, BK)
    row = sender_row * nodes + receiver_row % nodes
    valid = mask[:, None]
    b_x = tl.load(p_receiver + receiver_row[:, None] * H + column, mask=valid, other=0.0)
    b_x = b_x.to(tl.float32)
    b_x += tl.load(p_sender + sender_row[:, None] * H + column, mask=valid, other=0.0)
    if FP > 0:
        b_wft = load_transposed(p_wf + first_column * F, BK, FP, F)
        is_pair = mask & (receiver_row != sender_row)
        b_f = load_features(p_features, row, is_pair, F, FP)
        b_x += mma(b_f, b_wft, DTYPE, PRECISION, EMULATE)
    return elu(b_x)


@triton.jit(do_not_specialize=["edges", "nodes"])
def edge_state_kernel(
    p_sender,  # [B, N, H], sender's part of the first pass's first layer
    p_receiver,  # [B, N, H], the receiver's, with the bias
    p_w2,  # [H, H] (out, in), second layer
    p_b2,  # [H]
    p_features,  # [B, N, N, F] (sender, receiver), edge features; not read where FP is 0
    p_wf,  # [H, F], their part of the first layer; likewise
    p_states,  # [Q, H] out, e
    p_moments,  # [Q, 2] float32 out, mean of LayerNorm's input and 1 / its standard deviation
    edges,  # Q, rows of scratch
    nodes,  # N
    H: tl.constexpr,  # hidden width
    F: tl.constexpr,  # features
    FP: tl.constexpr,  # features padded for a product; 0 without features
    BM: tl.constexpr,  # edges of a tile
    BK: tl.constexpr,  # of the inner dimension of a product at a time
    PRECISION: tl.constexpr,  # `input_precision` of products
    EMULATE: tl.constexpr,  # under the interpreter
):
    """The first pass: e and the moments of its LayerNorm."""
    DTYPE: tl.constexpr = p_sender.dtype.element_ty
    row, mask, receiver_row, sender_row = edge_rows(tl.program_id(0) * BM, edges, nodes, BM)
    h = tl.arange(0, H)
    b_x = tl.zeros((BM, H), tl.float32)
    for first_column in range(0, H, BK):
        b_inner = first_inner(
            p_sender,
            p_receiver,
            p_features,
            p_wf,
            receiver_row,
            sender_row,
            mask,
            nodes,
            first_column,
            H,
            BK,
            F,
            FP,
            DTYPE,
            PRECISION,
            EMULATE,
        )
        b_w2t = tl.load(p_w2 + h[None, :] * H + first_column + tl.arange(0, BK)[:, None])
        b_x += mma(b_inner, b_w2t, DTYPE, PRECISION, EMULATE)
    b_x = elu(b_x + tl.load(p_b2 + h).to(tl.float32)[None, :])
    b_e, mean, rstd = normalise(b_x, H)
    tl.store(p_moments + row * 2, mean, mask=mask)
    tl.store(p_moments + row * 2 + 1, rstd, mask=mask)
    write_rows(p_states, row, mask, b_e, H)


@triton.jit(do_not_specialize=["edges", "nodes"])
def edge_inner_fwd_kernel(
    p_sender,  # [B, N, H], sender's part of the second pass's first layer
    p_receiver,  # [B, N, H], the receiver's, with the bias
    p_w3,  # [H, H] (out, in), the edge state's part
    p_states,  # [Q, H], e
    p_inner,  # [Q, H] out
    edges,  # Q, rows of scratch
    nodes,  # N
    H: tl.constexpr,  # hidden width
    BM: tl.constexpr,  # edges of a tile
    BK: tl.constexpr,  # of the inner dimension of a product at a time
    PRECISION: tl.constexpr,  # `input_precision` of products
    EMULATE: tl.constexpr,  # under the interpreter
):
    """First layer of the second pass: elu(sender + receiver + W3 e) into scratch."""
    DTYPE: tl.constexpr = p_sender.dtype.element_ty
    row, mask, receiver_row, sender_row = edge_rows(tl.program_id(0) * BM, edges, nodes, BM)
    b_x = product(p_states, row, mask, p_w3, H, BK, True, DTYPE, PRECISION, EMULATE)
    b_x += load_rows(p_receiver, receiver_row, mask, H) + load_rows(p_sender, sender_row, mask, H)
    write_rows(p_inner, row, mask, elu(b_x), H)


@triton.jit(do_not_specialize=["edges", "nodes"])
def edge_outer_fwd_kernel(
    p_inner,  # [Q, H], the second pass's first layer
    p_w4,  # [H, H] (out, in), its second layer
    p_b4,  # [H]
    p_wo,  # [K, H], output layer
    p_bo,  # [K]
    p_logits,  # [Q, K] float32 out, the network's, without prior
    edges,  # Q, rows of scratch
    nodes,  # N
    H: tl.constexpr,  # hidden width
    K: tl.constexpr,  # edge types
    KP: tl.constexpr,  # edge types padded to a power of two
    BM: tl.constexpr,  # edges of a tile
    BK: tl.constexpr,  # of the inner dimension of a product at a time
    PRECISION: tl.constexpr,  # `input_precision` of products
    EMULATE: tl.constexpr,  # under the interpreter
):
    """From the second pass's first layer to the network's logits."""
    DTYPE: tl.constexpr = p_inner.dtype.element_ty
    row, mask, _, _ = edge_rows(tl.program_id(0) * BM, edges, nodes, BM)
    edge_type, h = tl.arange(0, KP)[None, :], tl.arange(0, H)
    b_x = product(p_inner, row, mask, p_w4, H, BK, True, DTYPE, PRECISION, EMULATE)
    b_x = elu(b_x + tl.load(p_b4 + h).to(tl.float32)[None, :])
    mean, rstd = moments(b_x, H)
    b_logits = project(b_x, mean, rstd, p_wo, p_bo, H, K, KP)
    p_edge = p_logits + row[:, None] * K + edge_type
    tl.store(p_edge, b_logits, mask=mask[:, None] & (edge_type < K))


@triton.jit(do_not_specialize=["edges", "nodes"])
def edge_outer_bwd_kernel(
    p_inner,  # [Q, H], the second pass's first layer
    p_w4,  # [H, H] (out, in), its second layer
    p_b4,  # [H]
    p_wo,  # [K, H], output layer
    p_grad_out,  # [Q, K] float32, gradient of the logits, 0 on self pairs
    p_grad,  # [Q, H] out, gradient of the last elu's input
    p_last,  # [Q, H] out, the last state
    edges,  # Q, rows of scratch
    nodes,  # N
    H: tl.constexpr,  # hidden width
    K: tl.constexpr,  # edge types
    BM: tl.constexpr,  # edges of a tile
    BK: tl.constexpr,  # of the inner dimension of a product at a time
    PRECISION: tl.constexpr,  # `input_precision` of products
    EMULATE: tl.constexpr,  # under the interpreter
):
    """From the gradient of the logits to that of the last elu's input; the last state, again."""
    DTYPE: tl.constexpr = p_inner.dtype.element_ty
    row, mask, _, _ = edge_rows(tl.program_id(0) * BM, edges, nodes, BM)
    h = tl.arange(0, H)
    b_x = product(p_inner, row, mask, p_w4, H, BK, True, DTYPE, PRECISION, EMULATE)
    b_x = elu(b_x + tl.load(p_b4 + h).to(tl.float32)[None, :])
    b_y, _, rstd = normalise(b_x, H)
    write_rows(p_last, row, mask, b_y, H)
    b_grad = tl.zeros((BM, H), tl.float32)
    for k in tl.static_range(K):
        grad_out = tl.load(p_grad_out + row * K + k, mask=mask, other=0.0)
        b_grad += grad_out[:, None] * tl.load(p_wo + k * H + h).to(tl.float32)[None, :]
    b_grad = normalise_backward(b_grad, b_y, rstd, H) * elu_slope(b_x)
    write_rows(p_grad, row, mask, b_grad, H)


@triton.jit(do_not_specialize=["edges", "nodes"])
def edge_norm_bwd_kernel(
    p_states,  # [Q, H], e
    p_moments,  # [Q, 2] float32, mean of LayerNorm's input and 1 / its standard deviation
    p_grad_mean,  # [B, N, H], gradient of the mean over senders; not read without FROM_MEAN
    p_grad_states,  # [Q, H], gradient of e; not read without FROM_STATES
    p_grad,  # [Q, H] out, gradient of the input of the first pass's last elu
    edges,  # Q
    nodes,  # N
    H: tl.constexpr,  # hidden width
    FROM_MEAN: tl.constexpr,  # the mean of e has a gradient
    FROM_STATES: tl.constexpr,  # e has one of its own
    BM: tl.constexpr,  # edges of a tile
    PRECISION: tl.constexpr,  # unused, as is the next: every launch is given them
    EMULATE: tl.constexpr,
):
    """The first pass's LayerNorm and last elu backwards."""
    row, mask, receiver_row, sender_row = edge_rows(tl.program_id(0) * BM, edges, nodes, BM)
    is_pair = mask & (receiver_row != sender_row)
    b_grad = tl.zeros((BM, H), tl.float32)
    if FROM_MEAN:
        b_grad += load_rows(p_grad_mean, receiver_row, is_pair, H) / (nodes - 1)
    if FROM_STATES:
        b_grad += load_rows(p_grad_states, row, is_pair, H)
    b_e = load_rows(p_states, row, is_pair, H)
    mean = tl.load(p_moments + row * 2, mask=is_pair, other=0.0)
    rstd = tl.load(p_moments + row * 2 + 1, mask=is_pair, other=1.0)
    b_grad = normalise_backward(b_grad, b_e, rstd, H)
    b_grad *= elu_slope(b_e * (1.0 / rstd)[:, None] + mean[:, None])
    write_rows(p_grad, row, mask, b_grad, H)


@triton.jit(do_not_specialize=["edges", "nodes"])
def edge_layer_bwd_kernel(
    p_grad_out,  # [Q, H], gradient of the layer's result, before its nonlinearity
    p_w,  # [H, H] (out, in), the layer's weight
    p_value,  # [Q, H], the layer's input; out for KIND "first"
    p_sender,  # [B, N, H], as for `edge_state_kernel`; this and the next three for KIND "first"
    p_receiver,  # [B, N, H]
    p_features,  # [B, N, N, F] (sender, receiver); not read where FP is 0
    p_wf,  # [H, F]; likewise
    p_grad_in,  # [Q, H] out, gradient of what the elu that gave `value` was applied to
    edges,  # Q, rows of scratch
    nodes,  # N
    H: tl.constexpr,  # hidden width
    F: tl.constexpr,  # features
    FP: tl.constexpr,  # features padded for a product; 0 without features
    BM: tl.constexpr,  # edges of a tile
    BK: tl.constexpr,  # of the inner dimension of a product at a time
    KIND: tl.constexpr,
    PRECISION: tl.constexpr,  # `input_precision` of products
    EMULATE: tl.constexpr,  # under the interpreter
):
    """One layer backwards: grad_out @ W, then through the elu that made the layer's input.

    KIND "inner": an elu whose value is in scratch. "states": none, the input is e. "first": the
    first layer's elu, recomputed and written to `value`.
    """
    DTYPE: tl.constexpr = p_grad_out.dtype.element_ty
    row, mask, receiver_row, sender_row = edge_rows(tl.program_id(0) * BM, edges, nodes, BM)
    b_grad = product(p_grad_out, row, mask, p_w, H, BK, False, DTYPE, PRECISION, EMULATE)
    if KIND == "inner":
        b_grad *= elu_slope(load_rows(p_value, row, mask, H))
    elif KIND == "first":
        b_inner = first_inner(
            p_sender,
            p_receiver,
            p_features,
            p_wf,
            receiver_row,
            sender_row,
            mask,
            nodes,
            0,
            H,
            H,
            F,
            FP,
            DTYPE,
            PRECISION,
            EMULATE,
        )
        write_rows(p_value, row, mask, b_inner, H)
        b_grad *= elu_slope(b_inner)
    write_rows(p_grad_in, row, mask, b_grad, H)


@triton.jit(do_not_specialize=["edges", "tiles"])
def edge_weight_bwd_kernel(
    p_grad,  # [Q, H], gradient of the layer's result, before its nonlinearity
    p_input,  # [Q, G], the layer's input
    p_weight_sums,  # [parts, H, G] float32 out
    p_bias_sums,  # [parts, H] float32 out
    edges,  # Q, rows of scratch
    tiles,  # of BM edges, that one part sums over
    H: tl.constexpr,  # width of the layer's result
    G: tl.constexpr,  # width of its input
    BH: tl.constexpr,  # block of H
    BG: tl.constexpr,  # block of G
    BM: tl.constexpr,  # edges of a tile
    PRECISION: tl.constexpr,  # `input_precision` of products
    EMULATE: tl.constexpr,  # under the interpreter
):
    """Sums over edges of grad input.T [H, G] and of grad [H]: one partial sum for each part of the
    edges, added up afterwards in a fixed order."""
    DTYPE: tl.constexpr = p_grad.dtype.element_ty
    part = tl.program_id(0)
    h = tl.program_id(1) * BH + tl.arange(0, BH)
    g = tl.program_id(2) * BG + tl.arange(0, BG)
    b_weight = tl.zeros((BH, BG), tl.float32)
    b_bias = tl.zeros((BH,), tl.float32)
    for tile in range(part * tiles, (part + 1) * tiles):
        row = tile * BM + tl.arange(0, BM)
        mask = (row < edges)[:, None]
        b_grad = tl.load(p_grad + row[:, None] * H + h, mask=mask, other=0.0)
        b_input = tl.load(p_input + row[:, None] * G + g, mask=mask, other=0.0)
        b_weight += mma(tl.trans(b_grad), b_input, DTYPE, PRECISION, EMULATE)
        b_bias += tl.sum(b_grad.to(tl.float32), 0)
    tl.store(p_weight_sums + part * H * G + h[:, None] * G + g, b_weight)
    tl.store(p_bias_sums + part * H + h, b_bias)
