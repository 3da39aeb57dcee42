"""Fused forward kernels of the edge operators: a tile of receivers loops over their senders.

No host code here: `launch` launches them. Node tensors [B, N, H] are read as rows (store, node),
edge tensors are [B, sender, receiver, ..]. No edge tensor of width H is written.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl

from causalmmm.kernels.edge.triton.tiles import (
    add_features,
    elu,
    load_rows,
    load_transposed,
    mma,
    normalise,
    project,
    sample_edge,
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
    p_out,  # [B, N, H], mean state of the edges that arrive at each receiver
    rows,  # B N
    nodes,  # N
    H: tl.constexpr,  # hidden width
    F: tl.constexpr,  # features
    FP: tl.constexpr,  # features padded for a product; 0 without features
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
        b_x = b_receiver + load_rows(p_sender + node_base, row + shift, mask, H)
        if FP > 0:
            edge = (row + shift) * nodes + receiver  # in [B, sender, receiver], from row `base`
            b_x = add_features(b_x, p_edges, edge, mask, b_wft, F, FP, DTYPE, PRECISION, EMULATE)
        b_x = elu(mma(elu(b_x), b_w2t, DTYPE, PRECISION, EMULATE) + b_b2)
        b_e, _, _ = normalise(b_x, H)
        b_sum += b_e
    write_rows(p_out + node_base, row, mask, b_sum / (nodes - 1), H)


@triton.jit(do_not_specialize=["rows", "nodes", "prior_step"])
def edge_sample_fwd_kernel(
    p_sender1,  # [B, N, H], sender's part of the first layer's input, first pass
    p_receiver1,  # [B, N, H], the receiver's, with the bias
    p_w2,  # [H, H] (out, in), second layer
    p_b2,  # [H]
    p_features,  # [B, N, N, F] (sender, receiver), edge features; not read where FP is 0
    p_wf,  # [H, F], their part of the first layer; likewise
    p_sender2,  # [B, N, H], the same of the second pass
    p_receiver2,  # [B, N, H]
    p_w3,  # [H, H] (out, in), the edge state's part of the second pass's first layer
    p_w4,  # [H, H] (out, in), its second layer
    p_b4,  # [H]
    p_wo,  # [K, H], output layer
    p_bo,  # [K]
    p_prior,  # [N, N, K] or [B, N, N, K] float32, log prior of the edge types
    p_temperature,  # [] float32
    p_seed,  # [] int64; not read without NOISE
    p_shop_id,  # [B] int64, global ids of the stores, which key the noise; likewise
    p_z,  # [B, N, N, K] float32 out, sampled weights of the edge types
    p_logits,  # [B, N, N, K] float32 out, of the posterior
    p_kl,  # [B, N] float32 out, divergence from the prior, summed over each receiver's senders
    rows,  # B N
    nodes,  # N
    prior_step,  # edges from one store's prior to the next: N N, or 0 if they share one
    H: tl.constexpr,  # hidden width
    F: tl.constexpr,  # features
    FP: tl.constexpr,  # features padded for a product; 0 without features
    K: tl.constexpr,  # edge types
    KP: tl.constexpr,  # edge types padded to a power of two
    BM: tl.constexpr,  # receivers of a tile
    NOISE: tl.constexpr,  # draw Gumbel noise
    HARD: tl.constexpr,  # one-hot z
    PRECISION: tl.constexpr,  # `input_precision` of products
    EMULATE: tl.constexpr,  # under the interpreter
):
    """As `edge_mean_fwd_kernel`, then the second pass and the sample; KL is summed per receiver."""
    DTYPE: tl.constexpr = p_sender1.dtype.element_ty
    base = tl.program_id(0) * BM
    row = tl.arange(0, BM)
    mask = base + row < rows
    receiver = (base + row) % nodes
    node_base = base.to(tl.int64) * H
    edge_base = base.to(tl.int64) * nodes
    b_w2t, b_w3t = load_transposed(p_w2, H, H, H), load_transposed(p_w3, H, H, H)
    b_w4t = load_transposed(p_w4, H, H, H)
    h = tl.arange(0, H)
    b_b2 = tl.load(p_b2 + h).to(tl.float32)[None, :]
    b_b4 = tl.load(p_b4 + h).to(tl.float32)[None, :]
    if FP > 0:
        b_wft = load_transposed(p_wf, H, FP, F)
    temperature = tl.load(p_temperature)
    edge_type = tl.arange(0, KP)[None, :]
    shop_row = (base + row) // nodes
    seed, shop_id = 0, shop_row
    if NOISE:
        seed = tl.load(p_seed)
        shop_id = tl.load(p_shop_id + shop_row, mask=mask, other=0)
    b_kl_sum = tl.zeros((BM,), tl.float32)
    for step in range(1, nodes):
        shift = tl.where(receiver + step < nodes, step, step - nodes)
        edge = (row + shift) * nodes + receiver
        b_x = load_rows(p_receiver1 + node_base, row, mask, H)
        b_x += load_rows(p_sender1 + node_base, row + shift, mask, H)
        if FP > 0:
            b_x = add_features(
                b_x,
                p_features + edge_base * F,
                edge,
                mask,
                b_wft,
                F,
                FP,
                DTYPE,
                PRECISION,
                EMULATE,
            )
        b_x = elu(mma(elu(b_x), b_w2t, DTYPE, PRECISION, EMULATE) + b_b2)
        b_e, _, _ = normalise(b_x, H)
        b_x = mma(b_e, b_w3t, DTYPE, PRECISION, EMULATE)
        b_x += load_rows(p_receiver2 + node_base, row, mask, H)
        b_x += load_rows(p_sender2 + node_base, row + shift, mask, H)
        b_x = elu(mma(elu(b_x), b_w4t, DTYPE, PRECISION, EMULATE) + b_b4)
        b_y, _, _ = normalise(b_x, H)
        b_net_logits = project(b_y, p_wo, p_bo, H, K, KP)
        valid = mask[:, None] & (edge_type < K)
        prior_row = shop_row.to(tl.int64) * prior_step + (receiver + shift) * nodes + receiver
        p_types = p_prior + prior_row[:, None] * K + edge_type
        b_prior = tl.load(p_types, mask=valid, other=-float("inf"))
        b_prior = tl.where(mask[:, None] | (edge_type > 0), b_prior, 0.0)
        b_z, b_logits, b_kl = sample_edge(
            b_net_logits,
            b_prior,
            seed,
            shop_id,
            ((receiver + shift) << 16) + receiver,
            temperature,
            KP,
            NOISE,
            HARD,
        )
        b_kl_sum += b_kl
        out = edge[:, None] * K + edge_type
        tl.store(p_z + edge_base * K + out, b_z, mask=valid)
        tl.store(p_logits + edge_base * K + out, b_logits, mask=valid)
    tl.store(p_kl + base + row, b_kl_sum, mask=mask)
