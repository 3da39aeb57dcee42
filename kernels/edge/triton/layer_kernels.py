"""Layer by layer kernels of the edge operators, for backward and for widths too large to fuse.

Scratch tensors [Q, H] have rows (store, receiver, sender), self pairs included; public edge tensors
are [B, sender, receiver, ..]. `layers` launches them.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl

from causalmmm.kernels.edge.triton.tiles import (
    add_features,
    elu,
    elu_slope,
    load_rows,
    load_transposed,
    mma,
    normalise,
    normalise_backward,
    product,
    project,
    sample_edge,
    write_rows,
)


@triton.jit
def edge_rows(base, edges, nodes, BM: tl.constexpr):
    """Scratch rows of a tile: row, mask, and the node rows of receiver and sender in the chunk."""
    row = base + tl.arange(0, BM)
    mask = row < edges
    node = row // nodes
    sender = node - node % nodes + row % nodes
    return row, mask, node, sender


@triton.jit
def first_inner(
    p_sender,
    p_receiver,
    p_features,
    p_wf,
    node,
    sender,
    mask,
    nodes,
    first,
    H: tl.constexpr,
    BK: tl.constexpr,
    F: tl.constexpr,
    FP: tl.constexpr,
    DTYPE: tl.constexpr,
    PRECISION: tl.constexpr,
    EMULATE: tl.constexpr,
):
    """Columns first..first + BK of the first pass's elu(sender + receiver + Wf f), recomputed."""
    column = first + tl.arange(0, BK)
    inside = mask[:, None]
    b_x = tl.load(p_receiver + node[:, None] * H + column, mask=inside, other=0.0).to(tl.float32)
    b_x += tl.load(p_sender + sender[:, None] * H + column, mask=inside, other=0.0)
    if FP > 0:
        b_wft = load_transposed(p_wf + first * F, BK, FP, F)
        b_x = add_features(
            b_x,
            p_features,
            sender * nodes + node % nodes,
            mask & (node != sender),
            b_wft,
            F,
            FP,
            DTYPE,
            PRECISION,
            EMULATE,
        )
    return elu(b_x)


@triton.jit(do_not_specialize=["edges", "nodes"])
def edge_state_kernel(
    p_sender,
    p_receiver,
    p_w2,
    p_b2,
    p_features,
    p_wf,
    p_above,
    p_state,
    p_mean,
    p_rstd,
    edges,
    nodes,
    H: tl.constexpr,
    F: tl.constexpr,
    FP: tl.constexpr,
    BM: tl.constexpr,
    BK: tl.constexpr,
    BACKWARD: tl.constexpr,
    PRECISION: tl.constexpr,
    EMULATE: tl.constexpr,
):
    """First pass into scratch: e and its statistics, or, given the gradient of the mean, that of
    the input of the last elu."""
    DTYPE: tl.constexpr = p_sender.dtype.element_ty
    row, mask, node, sender = edge_rows(tl.program_id(0) * BM, edges, nodes, BM)
    h = tl.arange(0, H)
    b_x = tl.zeros((BM, H), tl.float32)
    for first in range(0, H, BK):
        b_inner = first_inner(
            p_sender,
            p_receiver,
            p_features,
            p_wf,
            node,
            sender,
            mask,
            nodes,
            first,
            H,
            BK,
            F,
            FP,
            DTYPE,
            PRECISION,
            EMULATE,
        )
        b_w2t = tl.load(p_w2 + h[None, :] * H + first + tl.arange(0, BK)[:, None])
        b_x += mma(b_inner, b_w2t, DTYPE, PRECISION, EMULATE)
    b_x = elu(b_x + tl.load(p_b2 + h).to(tl.float32)[None, :])
    b_e, mean, rstd = normalise(b_x, H)
    if BACKWARD:
        b_grad = load_rows(p_above, node, mask & (node != sender), H) / (nodes - 1)
        b_e = normalise_backward(b_grad, b_e, rstd, H) * elu_slope(b_x)
    else:
        tl.store(p_mean + row, mean, mask=mask)
        tl.store(p_rstd + row, rstd, mask=mask)
    write_rows(p_state, row, mask, b_e, H)


@triton.jit(do_not_specialize=["edges", "nodes"])
def edge_inner_kernel(
    p_sender,
    p_receiver,
    p_w3,
    p_state,
    p_inner,
    edges,
    nodes,
    H: tl.constexpr,
    BM: tl.constexpr,
    BK: tl.constexpr,
    PRECISION: tl.constexpr,
    EMULATE: tl.constexpr,
):
    """elu(sender + receiver + W3 e) of the second pass into scratch."""
    DTYPE: tl.constexpr = p_sender.dtype.element_ty
    row, mask, node, sender = edge_rows(tl.program_id(0) * BM, edges, nodes, BM)
    b_x = product(p_state, row, mask, p_w3, H, BK, True, DTYPE, PRECISION, EMULATE)
    b_x += load_rows(p_receiver, node, mask, H) + load_rows(p_sender, sender, mask, H)
    write_rows(p_inner, row, mask, elu(b_x), H)


@triton.jit(do_not_specialize=["edges", "nodes", "prior_step"])
def edge_outer_kernel(
    p_inner,
    p_w4,
    p_b4,
    p_wo,
    p_bo,
    p_prior,
    p_temperature,
    p_seed,
    p_store,
    p_above,
    p_first,
    p_second,
    p_kl,
    edges,
    nodes,
    prior_step,
    H: tl.constexpr,
    K: tl.constexpr,
    KP: tl.constexpr,
    BM: tl.constexpr,
    BK: tl.constexpr,
    BACKWARD: tl.constexpr,
    NOISE: tl.constexpr,
    HARD: tl.constexpr,
    PRECISION: tl.constexpr,
    EMULATE: tl.constexpr,
):
    """From the second pass's inner layer: z, logits and KL per edge, or, given the gradient of the
    scores, the last state and the gradient of the input of the last elu."""
    DTYPE: tl.constexpr = p_inner.dtype.element_ty
    row, mask, node, sender = edge_rows(tl.program_id(0) * BM, edges, nodes, BM)
    kind, h = tl.arange(0, KP)[None, :], tl.arange(0, H)
    b_x = product(p_inner, row, mask, p_w4, H, BK, True, DTYPE, PRECISION, EMULATE)
    b_x = elu(b_x + tl.load(p_b4 + h).to(tl.float32)[None, :])
    b_y, _, rstd = normalise(b_x, H)
    other = mask & (node != sender)
    inside = other[:, None] & (kind < K)
    receiver = node % nodes
    edge = sender * nodes + receiver
    out = edge[:, None] * K + kind
    if BACKWARD:
        b_grad = tl.zeros((BM, H), tl.float32)
        for k in tl.static_range(KP):
            if k < K:
                grad_out = tl.load(p_above + edge * K + k, mask=other, other=0.0)
                b_w = tl.load(p_wo + k * H + h).to(tl.float32)
                b_grad += grad_out[:, None] * b_w[None, :]
        b_grad = normalise_backward(b_grad, b_y, rstd, H) * elu_slope(b_x)
        write_rows(p_first, row, mask, b_grad, H)
        write_rows(p_second, row, mask, b_y, H)
    else:
        b_scores = project(b_y, p_wo, p_bo, H, K, KP)
        store_row = node // nodes
        in_prior = store_row * prior_step + (sender % nodes) * nodes + receiver
        b_prior = tl.load(p_prior + in_prior[:, None] * K + kind, mask=inside, other=-float("inf"))
        b_prior = tl.where(other[:, None] | (kind > 0), b_prior, 0.0)
        seed, store = 0, store_row
        if NOISE:
            seed = tl.load(p_seed)
            store = tl.load(p_store + store_row, mask=mask, other=0)
        b_z, b_logits, b_kl = sample_edge(
            b_scores,
            b_prior,
            seed,
            store,
            ((sender % nodes) << 16) + receiver,
            tl.load(p_temperature),
            KP,
            NOISE,
            HARD,
        )
        tl.store(p_first + out, b_z, mask=inside)
        tl.store(p_second + out, b_logits, mask=inside)
        tl.store(p_kl + row, tl.where(other, b_kl, 0.0), mask=mask)


@triton.jit(do_not_specialize=["edges", "nodes"])
def edge_stage_kernel(
    p_above,
    p_w,
    p_value,
    p_mean,
    p_rstd,
    p_sender,
    p_receiver,
    p_features,
    p_wf,
    p_below,
    edges,
    nodes,
    H: tl.constexpr,
    F: tl.constexpr,
    FP: tl.constexpr,
    BM: tl.constexpr,
    BK: tl.constexpr,
    KIND: tl.constexpr,
    PRECISION: tl.constexpr,
    EMULATE: tl.constexpr,
):
    """One layer down: (above @ W) through what stood below W.

    KIND "inner": an elu whose value is in scratch. "state": LayerNorm and elu, e and its statistics
    in scratch. "first": the first layer's elu, recomputed and written to `value`.
    """
    DTYPE: tl.constexpr = p_above.dtype.element_ty
    row, mask, node, sender = edge_rows(tl.program_id(0) * BM, edges, nodes, BM)
    b_grad = product(p_above, row, mask, p_w, H, BK, False, DTYPE, PRECISION, EMULATE)
    if KIND == "inner":
        b_grad *= elu_slope(load_rows(p_value, row, mask, H))
    elif KIND == "state":
        b_e = load_rows(p_value, row, mask, H)
        mean = tl.load(p_mean + row, mask=mask, other=0.0)
        rstd = tl.load(p_rstd + row, mask=mask, other=1.0)
        b_grad = normalise_backward(b_grad, b_e, rstd, H)
        b_grad *= elu_slope(b_e / rstd[:, None] + mean[:, None])
    else:
        b_inner = first_inner(
            p_sender,
            p_receiver,
            p_features,
            p_wf,
            node,
            sender,
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
    write_rows(p_below, row, mask, b_grad, H)


@triton.jit(do_not_specialize=["edges", "tiles"])
def weight_grad_kernel(
    p_x,
    p_y,
    p_weight,
    p_bias,
    edges,
    tiles,
    H: tl.constexpr,
    G: tl.constexpr,
    BH: tl.constexpr,
    BG: tl.constexpr,
    BM: tl.constexpr,
    PRECISION: tl.constexpr,
    EMULATE: tl.constexpr,
):
    """Partial sums over edges of x y.T [H, G] and of x [H], each program's own share of tiles."""
    DTYPE: tl.constexpr = p_x.dtype.element_ty
    part = tl.program_id(0)
    h = tl.program_id(1) * BH + tl.arange(0, BH)
    g = tl.program_id(2) * BG + tl.arange(0, BG)
    b_weight = tl.zeros((BH, BG), tl.float32)
    b_bias = tl.zeros((BH,), tl.float32)
    for tile in range(part * tiles, (part + 1) * tiles):
        row = tile * BM + tl.arange(0, BM)
        mask = (row < edges)[:, None]
        b_x = tl.load(p_x + row[:, None] * H + h, mask=mask, other=0.0)
        b_y = tl.load(p_y + row[:, None] * G + g, mask=mask, other=0.0)
        b_weight += mma(tl.trans(b_x), b_y, DTYPE, PRECISION, EMULATE)
        b_bias += tl.sum(b_x.to(tl.float32), 0)
    tl.store(p_weight + part * H * G + h[:, None] * G + g, b_weight)
    tl.store(p_bias + part * H + h, b_bias)
