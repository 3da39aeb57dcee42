"""Fused forward kernels of the edge operators: a tile of receivers loops over their senders.

No host code here: `launch` launches them. What holds for both:

- Rows of a tile are receivers (store, node); in step d each meets the sender that is d nodes
  further on in its store, so that N - 1 steps see every pair once, and self pairs never. A row
  belongs to one store, and a store whose values are not finite spoils no other.
- Node tensors [B, N, H] are read as rows, edge tensors are [B, sender, receiver, ..].
- Weights stay on chip for the whole loop, which writes e where it is kept, and nothing else of
  width H.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl

from causalmmm.kernels.edge.triton.tiles import (
    elu,
    load_features,
    load_rows,
    load_transposed,
    mma,
    moments,
    project,
    write_rows,
)


@triton.jit(do_not_specialize=["rows", "nodes"])
def edge_mean_fwd_kernel(
    p_sender,  # [B, N, H], sender's part of the first layer's input
    p_receiver,  # [B, N, H], the receiver's, with the bias
    p_w2,  # [H, H] (out, in), second layer
    p_b2,  # [H]
    p_features,  # [B, N, N, F] (sender, receiver), edge features; not read where FP is 0
    p_wf,  # [H, F], their part of the first layer; likewise
    p_mean,  # [B, N, H] out, mean over senders of e
    p_states,  # [B, N, N, H] out, e; not written without KEEP, nor for self pairs
    p_moments,  # [B, N, N, 2] float32 out, mean of LayerNorm's input, 1 / its deviation; likewise
    rows,  # B N
    nodes,  # N
    H: tl.constexpr,  # hidden width
    F: tl.constexpr,  # features
    FP: tl.constexpr,  # features padded for a product; 0 without features
    KEEP: tl.constexpr,  # write e and its moments
    BM: tl.constexpr,  # receivers of a tile
    PRECISION: tl.constexpr,  # `input_precision` of products
    EMULATE: tl.constexpr,  # under the interpreter
):
    """Mean over senders. Rows are receivers (store, node); in step d each meets the sender that is
    d nodes further on in its store."""
    DTYPE: tl.constexpr = p_sender.dtype.element_ty
    base = tl.program_id(0) * BM
    row = tl.arange(0, BM)
    mask = base + row < rows
    receiver = (base + row) % nodes
    node_base = base.to(tl.int64) * H
    b_receiver = load_rows(p_receiver + node_base, row, mask, H)
    b_w2t = load_transposed(p_w2, H, H, H)
    b_b2 = tl.load(p_b2 + tl.arange(0, H)).to(tl.float32)[None, :]
    if FP > 0:
        b_wft = load_transposed(p_wf, H, FP, F)
    p_edges = p_features + base.to(tl.int64) * nodes * F
    b_sum = tl.zeros((BM, H), tl.float32)
    for step in range(1, nodes):
        shift = tl.where(receiver + step < nodes, step, step - nodes)
        edge = (row + shift) * nodes + receiver  # in [B, sender, receiver], from row `base`
        b_x = b_receiver + load_rows(p_sender + node_base, row + shift, mask, H)
        if FP > 0:
            b_f = load_features(p_edges, edge, mask, F, FP)
            b_x += mma(b_f, b_wft, DTYPE, PRECISION, EMULATE)
        b_x = elu(mma(elu(b_x), b_w2t, DTYPE, PRECISION, EMULATE) + b_b2)
        mean, rstd = moments(b_x, H)
        b_e = b_x * rstd[:, None] - (mean * rstd)[:, None]
        b_sum += b_e
        if KEEP:
            write_rows(p_states + node_base * nodes, edge, mask, b_e, H)
            p_row = p_moments + base.to(tl.int64) * nodes * 2 + edge * 2
            tl.store(p_row, mean, mask=mask)
            tl.store(p_row + 1, rstd, mask=mask)
    write_rows(p_mean + node_base, row, mask, b_sum / (nodes - 1), H)


@triton.jit(do_not_specialize=["rows", "nodes"])
def edge_logits_fwd_kernel(
    p_states,  # [B, N, N, H], e; not read unless KEPT
    p_sender1,  # [B, N, H], as for `edge_mean_fwd_kernel`; this to wf are not read where KEPT
    p_receiver1,  # [B, N, H]
    p_w2,  # [H, H] (out, in)
    p_b2,  # [H]
    p_features,  # [B, N, N, F]
    p_wf,  # [H, F]
    p_sender2,  # [B, N, H], sender's part of the second pass's first layer
    p_receiver2,  # [B, N, H], the receiver's, with the bias
    p_w3,  # [H, H] (out, in), the edge state's part
    p_w4,  # [H, H] (out, in), second layer
    p_b4,  # [H]
    p_wo,  # [K, H], output layer
    p_bo,  # [K]
    p_logits,  # [B, N, N, K] float32 out, the network's, without prior; not for self pairs
    rows,  # B N
    nodes,  # N
    H: tl.constexpr,  # hidden width
    F: tl.constexpr,  # features
    FP: tl.constexpr,  # features padded for a product; 0 without features
    K: tl.constexpr,  # edge types
    KP: tl.constexpr,  # edge types padded to a power of two
    KEPT: tl.constexpr,  # read e, do not compute it
    BM: tl.constexpr,  # receivers of a tile
    PRECISION: tl.constexpr,  # `input_precision` of products
    EMULATE: tl.constexpr,  # under the interpreter
):
    """The network's logits of every edge: the second pass, from e where it was kept."""
    DTYPE: tl.constexpr = p_sender2.dtype.element_ty
    base = tl.program_id(0) * BM
    row, h = tl.arange(0, BM), tl.arange(0, H)
    mask = base + row < rows
    receiver = (base + row) % nodes
    node_base = base.to(tl.int64) * H
    edge_base = base.to(tl.int64) * nodes
    b_w3t, b_w4t = load_transposed(p_w3, H, H, H), load_transposed(p_w4, H, H, H)
    b_b4 = tl.load(p_b4 + h).to(tl.float32)[None, :]
    if not KEPT:
        b_w2t = load_transposed(p_w2, H, H, H)
        b_b2 = tl.load(p_b2 + h).to(tl.float32)[None, :]
        if FP > 0:
            b_wft = load_transposed(p_wf, H, FP, F)
    edge_type = tl.arange(0, KP)[None, :]
    for step in range(1, nodes):
        shift = tl.where(receiver + step < nodes, step, step - nodes)
        edge = (row + shift) * nodes + receiver
        if KEPT:
            b_e = load_rows(p_states + edge_base * H, edge, mask, H)
        else:
            b_x = load_rows(p_receiver1 + node_base, row, mask, H)
            b_x += load_rows(p_sender1 + node_base, row + shift, mask, H)
            if FP > 0:
                b_f = load_features(p_features + edge_base * F, edge, mask, F, FP)
                b_x += mma(b_f, b_wft, DTYPE, PRECISION, EMULATE)
            b_x = elu(mma(elu(b_x), b_w2t, DTYPE, PRECISION, EMULATE) + b_b2)
            mean, rstd = moments(b_x, H)
            b_e = b_x * rstd[:, None] - (mean * rstd)[:, None]
        b_x = mma(b_e, b_w3t, DTYPE, PRECISION, EMULATE)
        b_x += load_rows(p_receiver2 + node_base, row, mask, H)
        b_x += load_rows(p_sender2 + node_base, row + shift, mask, H)
        b_x = elu(mma(elu(b_x), b_w4t, DTYPE, PRECISION, EMULATE) + b_b4)
        mean, rstd = moments(b_x, H)
        b_logits = project(b_x, mean, rstd, p_wo, p_bo, H, K, KP)
        p_edge = p_logits + edge_base * K + edge[:, None] * K + edge_type
        tl.store(p_edge, b_logits, mask=mask[:, None] & (edge_type < K))
