"""Fused forward kernels of the edge operators: a tile of receivers walks over their senders.

Node tensors [B, N, H] are read as rows (store, node), public edge tensors are [B, sender, receiver,
..]. No edge tensor of width H is written. `fused` launches them.
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
    p_sender,
    p_receiver,
    p_w2,
    p_b2,
    p_features,
    p_wf,
    p_out,
    rows,
    nodes,
    H: tl.constexpr,
    F: tl.constexpr,
    FP: tl.constexpr,
    BM: tl.constexpr,
    PRECISION: tl.constexpr,
    EMULATE: tl.constexpr,
):
    """Rows are receivers (store, node). Step d meets each with the sender d places further on."""
    DTYPE: tl.constexpr = p_sender.dtype.element_ty
    base = tl.program_id(0) * BM
    row = tl.arange(0, BM)
    mask = base + row < rows
    receiver = (base + row) % nodes
    own = base.to(tl.int64) * H
    b_r = load_rows(p_receiver + own, row, mask, H)
    b_w2t = load_transposed(p_w2, H, H, H)
    b_b2 = tl.load(p_b2 + tl.arange(0, H)).to(tl.float32)[None, :]
    if FP > 0:
        b_wft = load_transposed(p_wf, H, FP, F)
    edges = p_features + base.to(tl.int64) * nodes * F
    b_sum = tl.zeros((BM, H), tl.float32)
    for step in range(1, nodes):
        shift = tl.where(receiver + step < nodes, step, step - nodes)
        b_x = b_r + load_rows(p_sender + own, row + shift, mask, H)
        if FP > 0:
            edge = (row + shift) * nodes + receiver  # in [B, sender, receiver], from row `base`
            b_x = add_features(b_x, edges, edge, mask, b_wft, F, FP, DTYPE, PRECISION, EMULATE)
        b_x = elu(mma(elu(b_x), b_w2t, DTYPE, PRECISION, EMULATE) + b_b2)
        b_e, _, _ = normalise(b_x, H)
        b_sum += b_e
    write_rows(p_out + own, row, mask, b_sum / (nodes - 1), H)


@triton.jit(do_not_specialize=["rows", "nodes", "prior_step"])
def edge_sample_fwd_kernel(
    p_sender1,
    p_receiver1,
    p_w2,
    p_b2,
    p_features,
    p_wf,
    p_sender2,
    p_receiver2,
    p_w3,
    p_w4,
    p_b4,
    p_wo,
    p_bo,
    p_prior,
    p_temperature,
    p_seed,
    p_store,
    p_z,
    p_logits,
    p_kl,
    rows,
    nodes,
    prior_step,
    H: tl.constexpr,
    F: tl.constexpr,
    FP: tl.constexpr,
    K: tl.constexpr,
    KP: tl.constexpr,
    BM: tl.constexpr,
    NOISE: tl.constexpr,
    HARD: tl.constexpr,
    PRECISION: tl.constexpr,
    EMULATE: tl.constexpr,
):
    """As `edge_mean_fwd_kernel`, then the second pass and the sample; KL is summed per receiver."""
    DTYPE: tl.constexpr = p_sender1.dtype.element_ty
    base = tl.program_id(0) * BM
    row = tl.arange(0, BM)
    mask = base + row < rows
    receiver = (base + row) % nodes
    own = base.to(tl.int64) * H
    edge_base = base.to(tl.int64) * nodes
    b_w2t, b_w3t = load_transposed(p_w2, H, H, H), load_transposed(p_w3, H, H, H)
    b_w4t = load_transposed(p_w4, H, H, H)
    h = tl.arange(0, H)
    b_b2 = tl.load(p_b2 + h).to(tl.float32)[None, :]
    b_b4 = tl.load(p_b4 + h).to(tl.float32)[None, :]
    if FP > 0:
        b_wft = load_transposed(p_wf, H, FP, F)
    temperature = tl.load(p_temperature)
    kind = tl.arange(0, KP)[None, :]
    store_row = (base + row) // nodes
    seed, store = 0, store_row
    if NOISE:
        seed = tl.load(p_seed)
        store = tl.load(p_store + store_row, mask=mask, other=0)
    b_total = tl.zeros((BM,), tl.float32)
    for step in range(1, nodes):
        shift = tl.where(receiver + step < nodes, step, step - nodes)
        edge = (row + shift) * nodes + receiver
        b_x = load_rows(p_receiver1 + own, row, mask, H)
        b_x += load_rows(p_sender1 + own, row + shift, mask, H)
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
        b_x += load_rows(p_receiver2 + own, row, mask, H)
        b_x += load_rows(p_sender2 + own, row + shift, mask, H)
        b_x = elu(mma(elu(b_x), b_w4t, DTYPE, PRECISION, EMULATE) + b_b4)
        b_y, _, _ = normalise(b_x, H)
        b_scores = project(b_y, p_wo, p_bo, H, K, KP)
        inside = mask[:, None] & (kind < K)
        in_prior = store_row.to(tl.int64) * prior_step + (receiver + shift) * nodes + receiver
        b_prior = tl.load(p_prior + in_prior[:, None] * K + kind, mask=inside, other=-float("inf"))
        b_prior = tl.where(mask[:, None] | (kind > 0), b_prior, 0.0)
        b_z, b_logits, b_kl = sample_edge(
            b_scores,
            b_prior,
            seed,
            store,
            ((receiver + shift) << 16) + receiver,
            temperature,
            KP,
            NOISE,
            HARD,
        )
        b_total += b_kl
        out = edge[:, None] * K + kind
        tl.store(p_z + edge_base * K + out, b_z, mask=inside)
        tl.store(p_logits + edge_base * K + out, b_logits, mask=inside)
    tl.store(p_kl + base + row, b_total, mask=mask)
