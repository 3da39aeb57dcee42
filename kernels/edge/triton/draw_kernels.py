"""Elementwise kernels of the sample: from the network's logits to posterior, z and KL, and back.

No host code here: `launch` launches them. They stand apart from the passes, whose loops they would
burden with registers; a row is one edge of [B, sender, receiver], self pairs included, and holds
its K numbers. The noise is that of `philox.py`.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def edge_place(edge, nodes):
    """Of these edges [B, sender, receiver]: row of the store, pair within it, which is a self pair,
    and what stands for the pair in the noise's counter."""
    pairs = nodes * nodes
    shop_row = edge // pairs
    pair = (edge - shop_row * pairs).to(tl.int32)
    sender, receiver = pair // nodes, pair % nodes
    return shop_row, pair, sender == receiver, (sender << 16) + receiver


@triton.jit
def softmax(x):
    """Of each row, and the logarithm of it; -inf stays that, and gives 0."""
    shifted = x - tl.max(x, 1)[:, None]
    odds = tl.exp(shifted)
    total = tl.sum(odds, 1)[:, None]
    return odds / total, shifted - tl.log(total)


@triton.jit
def noisy_softmax(b_logits, p_seed, p_shop_id, p_temperature, shop_row, mask, pair_id, edge_type):
    """softmax((logits + Gumbel noise) / temperature)."""
    shop_id = tl.load(p_shop_id + shop_row, mask=mask, other=0)
    low = (shop_id & 0xFFFFFFFF).to(tl.uint32)
    high = ((shop_id >> 32) & 0xFFFFFFFF).to(tl.uint32)
    bits0, bits1, bits2, bits3 = tl.philox(tl.load(p_seed), low, high, pair_id, pair_id * 0)
    bits = tl.where(edge_type == 0, bits0[:, None], bits1[:, None])
    bits = tl.where(edge_type == 2, bits2[:, None], bits)
    bits = tl.where(edge_type == 3, bits3[:, None], bits)
    uniform = ((bits >> 9).to(tl.float32) + 0.5) * 1.1920928955078125e-07  # 2^-23
    b_z, _ = softmax((b_logits - tl.log(-tl.log(uniform))) / tl.load(p_temperature))
    return b_z


@triton.jit(do_not_specialize=["edges", "nodes", "prior_step"])
def edge_draw_fwd_kernel(
    p_logits,  # [B, N, N, K] float32, the network's logits; out, those of the posterior
    p_prior,  # [N, N, K] or [B, N, N, K] float32, log prior of the edge types
    p_temperature,  # [] float32; this and the next two are not read without NOISE
    p_seed,  # [] int64
    p_shop_id,  # [B] int64, global ids of the stores, which key the noise
    p_z,  # [B, N, N, K] float32 out, sampled weights of the edge types
    p_kl,  # [B, N, N] float32 out, divergence of each edge from the prior
    edges,  # B N N
    nodes,  # N
    prior_step,  # edges from one store's prior to the next: N N, or 0 if they share one
    K: tl.constexpr,  # edge types
    KP: tl.constexpr,  # edge types padded to a power of two
    NOISE: tl.constexpr,  # draw Gumbel noise
    HARD: tl.constexpr,  # one-hot z
    BM: tl.constexpr,  # edges of a program
):
    """Posterior logits, z and KL; of self pairs z = (1, 0, ..), logits and KL 0."""
    edge = tl.program_id(0).to(tl.int64) * BM + tl.arange(0, BM)
    mask = edge < edges
    edge_type = tl.arange(0, KP)[None, :]
    shop_row, pair, self_pair, pair_id = edge_place(edge, nodes)
    valid = (mask & ~self_pair)[:, None] & (edge_type < K)
    p_edge = edge[:, None] * K + edge_type
    b_net = tl.load(p_logits + p_edge, mask=valid, other=0.0)
    p_row = p_prior + (shop_row * prior_step + pair)[:, None] * K + edge_type
    b_prior = tl.load(p_row, mask=valid, other=-float("inf"))
    b_prior = tl.where(valid | (edge_type > 0), b_prior, 0.0)  # self pairs are of type 0
    allowed = b_prior > -float("inf")
    b_prior = tl.where(allowed, b_prior, 0.0)
    b_logits = tl.where(allowed, b_net + b_prior, -float("inf"))
    b_q, log_q = softmax(b_logits)
    b_kl = tl.sum(b_q * tl.where(allowed, log_q - b_prior, 0.0), 1)
    b_z = b_q
    if NOISE:
        b_z = noisy_softmax(
            b_logits, p_seed, p_shop_id, p_temperature, shop_row, mask, pair_id, edge_type
        )
    if HARD:
        best = tl.min(tl.where(b_z == tl.max(b_z, 1)[:, None], edge_type, KP), 1)
        b_z = (edge_type == best[:, None]).to(tl.float32)
    written = mask[:, None] & (edge_type < K)
    tl.store(p_z + p_edge, b_z, mask=written)
    tl.store(p_logits + p_edge, tl.where(self_pair[:, None], 0.0, b_logits), mask=written)
    tl.store(p_kl + edge, tl.where(self_pair, 0.0, b_kl), mask=mask)


@triton.jit(do_not_specialize=["edges", "nodes", "prior_step"])
def edge_draw_bwd_kernel(
    p_grad_z,  # [B, N, N, K] float32, gradient of z; not read without FROM_Z
    p_grad_logits,  # [B, N, N, K] float32, that of the logits; not read without FROM_LOGITS
    p_grad_kl,  # [B] float32, that of each store's KL; not read without FROM_KL
    p_z,  # [B, N, N, K] float32
    p_logits,  # [B, N, N, K] float32
    p_prior,  # as for `edge_draw_fwd_kernel`; this to the ids of the stores
    p_temperature,
    p_seed,
    p_shop_id,
    p_d_logits,  # [B, N, N, K] float32 out, gradient of the network's logits, 0 on self pairs
    p_d_prior,  # [B, N, N, K] float32 out, that of each store's log prior; only with PRIOR_GRAD
    edges,  # B N N
    nodes,  # N
    prior_step,  # edges from one store's prior to the next: N N, or 0 if they share one
    K: tl.constexpr,  # edge types
    KP: tl.constexpr,  # edge types padded to a power of two
    NOISE: tl.constexpr,  # z was drawn with noise
    HARD: tl.constexpr,  # z is one-hot; its gradient is that of the soft sample, drawn again
    FROM_Z: tl.constexpr,
    FROM_LOGITS: tl.constexpr,
    FROM_KL: tl.constexpr,
    PRIOR_GRAD: tl.constexpr,
    BM: tl.constexpr,  # edges of a program
):
    """From the gradients of z, logits and KL to those of the network's logits and of the prior."""
    edge = tl.program_id(0).to(tl.int64) * BM + tl.arange(0, BM)
    mask = edge < edges
    edge_type = tl.arange(0, KP)[None, :]
    shop_row, pair, self_pair, pair_id = edge_place(edge, nodes)
    written = mask[:, None] & (edge_type < K)
    valid = written & ~self_pair[:, None]
    p_edge = edge[:, None] * K + edge_type
    b_logits = tl.load(p_logits + p_edge, mask=valid, other=-float("inf"))
    b_logits = tl.where(valid | (edge_type > 0), b_logits, 0.0)
    allowed = b_logits > -float("inf")
    b_q, log_q = softmax(b_logits)
    b_d_logits = tl.zeros((BM, KP), tl.float32)
    b_d_kl = tl.zeros((BM, KP), tl.float32)
    if FROM_LOGITS:
        b_d_logits += tl.load(p_grad_logits + p_edge, mask=valid, other=0.0)
    if FROM_KL:
        p_row = p_prior + (shop_row * prior_step + pair)[:, None] * K + edge_type
        b_prior = tl.load(p_row, mask=valid & allowed, other=0.0)
        log_ratio = tl.where(allowed, log_q - b_prior, 0.0)
        b_d_kl = b_q * tl.load(p_grad_kl + shop_row, mask=mask, other=0.0)[:, None]
        b_d_logits += b_d_kl * (log_ratio - tl.sum(b_q * log_ratio, 1)[:, None])
    if FROM_Z:
        if HARD and NOISE:
            b_z = noisy_softmax(
                b_logits, p_seed, p_shop_id, p_temperature, shop_row, mask, pair_id, edge_type
            )
        elif HARD:
            b_z = b_q
        else:
            b_z = tl.load(p_z + p_edge, mask=valid, other=0.0)
        b_grad = tl.load(p_grad_z + p_edge, mask=valid, other=0.0)
        b_grad = b_z * (b_grad - tl.sum(b_z * b_grad, 1)[:, None])
        if NOISE:
            b_grad = b_grad / tl.load(p_temperature)
        b_d_logits += b_grad
    b_d_logits = tl.where(allowed & valid, b_d_logits, 0.0)
    tl.store(p_d_logits + p_edge, b_d_logits, mask=written)
    if PRIOR_GRAD:
        b_d_prior = tl.where(valid, b_d_logits - b_d_kl, 0.0)
        tl.store(p_d_prior + p_edge, b_d_prior, mask=written)
