"""Prior of the edges by a mixture of prototypes; formulas in ``csrc/posterior/posterior.h``."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl

from causalmmm.kernels.tiles import sigmoid, softplus


@triton.jit
def log_weights(p_mixture, PROTOTYPES: tl.constexpr, PP: tl.constexpr):
    """[PP] log softmax of the mixture; -inf in the padding."""
    p = tl.arange(0, PP)
    b_mixture = tl.load(p_mixture + p, mask=p < PROTOTYPES, other=-float("inf"))
    b_shifted = b_mixture - tl.max(b_mixture, 0)
    return b_shifted - tl.log(tl.sum(tl.exp(b_shifted), 0))


@triton.jit
def bounded(p_odds, prototype, pair, inside, bound, nodes):
    """Log odds [NP, NP] of a prototype, bounded."""
    b_odds = tl.load(p_odds + prototype * nodes * nodes + pair, mask=inside, other=0.0)
    return tl.minimum(tl.maximum(b_odds, -bound), bound)


@triton.jit
def is_fixed(p_fixed, pair, inside):
    """Of which pairs [NP, NP] the prior is given, and its two numbers."""
    b_none = tl.load(p_fixed + 2 * pair, mask=inside, other=0.0)
    b_causal = tl.load(p_fixed + 2 * pair + 1, mask=inside, other=0.0)
    infinite = (tl.abs(b_none) == float("inf")) | (tl.abs(b_causal) == float("inf"))
    return infinite, b_none, b_causal


@triton.jit(do_not_specialize=["nodes"])
def mixture_prior_kernel(
    p_odds,  # [P, N, N] float32, log odds of the prototypes
    p_mixture,  # [P] float32
    p_factor,  # [B, N, N] float32, log Bayes factors
    p_fixed,  # [N, N, 2] float32, log prior that is taken where it is infinite
    p_prior,  # [B, N, N, 2] float32 out
    p_kl,  # [B] float32 out
    p_share,  # [B, P] float32 out, log of the prototypes' weights
    bound,  # of the log odds
    nodes,  # N
    PROTOTYPES: tl.constexpr,  # P
    PP: tl.constexpr,  # P padded to a power of two
    NP: tl.constexpr,  # N padded
):
    """One program a store."""
    shop_row = tl.program_id(0).to(tl.int64)
    i, j, p = tl.arange(0, NP)[:, None], tl.arange(0, NP)[None, :], tl.arange(0, PP)
    inside = (i < nodes) & (j < nodes)
    pair = i * nodes + j
    edges = inside & (i != j)
    b_factor = tl.load(p_factor + shop_row * nodes * nodes + pair, mask=inside, other=0.0)
    b_weight = log_weights(p_mixture, PROTOTYPES, PP)
    b_gain = tl.zeros((PP,), tl.float32)
    for k in range(PROTOTYPES):
        b_odds = bounded(p_odds, k, pair, inside, bound, nodes)
        b_change = tl.where(edges, softplus(b_odds + b_factor) - softplus(b_odds), 0.0)
        b_gain = tl.where(p == k, tl.sum(tl.sum(b_change, 1), 0), b_gain)
    b_score = b_weight + b_gain
    b_score -= tl.max(b_score, 0)
    b_log_share = b_score - tl.log(tl.sum(tl.exp(b_score), 0))
    b_share = tl.exp(b_log_share)
    b_none = tl.zeros((NP, NP), tl.float32)
    b_causal = tl.zeros((NP, NP), tl.float32)
    for k in range(PROTOTYPES):
        share = tl.sum(tl.where(p == k, b_share, 0.0), 0)
        b_odds = bounded(p_odds, k, pair, inside, bound, nodes)
        b_none -= share * softplus(b_odds)
        b_causal -= share * softplus(-b_odds)
    fixed, b_fixed_none, b_fixed_causal = is_fixed(p_fixed, pair, inside)
    p_pair = p_prior + 2 * (shop_row * nodes * nodes + pair)
    tl.store(p_pair, tl.where(fixed, b_fixed_none, b_none), mask=inside)
    tl.store(p_pair + 1, tl.where(fixed, b_fixed_causal, b_causal), mask=inside)
    valid = p < PROTOTYPES
    b_kl = tl.where(valid, b_share * (b_log_share - b_weight), 0.0)
    tl.store(p_kl + shop_row, tl.sum(b_kl, 0))
    tl.store(p_share + shop_row * PROTOTYPES + p, b_log_share, mask=valid)


@triton.jit(do_not_specialize=["nodes"])
def mixture_score_bwd_kernel(
    p_grad_prior,  # [B, N, N, 2] float32; not read without FROM_PRIOR
    p_grad_kl,  # [B] float32; not read without FROM_KL
    p_share,  # [B, P] float32, log of the prototypes' weights
    p_odds,  # [P, N, N] float32
    p_mixture,  # [P] float32
    p_fixed,  # [N, N, 2] float32
    p_d_score,  # [B, P] float32 out, gradient of the unnormalised log weights
    p_d_mixture,  # [B, P] float32 out, gradient of the mixture, store by store
    bound,
    nodes,  # N
    PROTOTYPES: tl.constexpr,  # P
    PP: tl.constexpr,  # P padded to a power of two
    NP: tl.constexpr,  # N padded
    FROM_PRIOR: tl.constexpr,
    FROM_KL: tl.constexpr,
):
    """One program a store."""
    shop_row = tl.program_id(0).to(tl.int64)
    i, j, p = tl.arange(0, NP)[:, None], tl.arange(0, NP)[None, :], tl.arange(0, PP)
    inside = (i < nodes) & (j < nodes)
    pair = i * nodes + j
    valid = p < PROTOTYPES
    b_weight = log_weights(p_mixture, PROTOTYPES, PP)
    p_log_share = p_share + shop_row * PROTOTYPES + p
    b_log_share = tl.load(p_log_share, mask=valid, other=-float("inf"))
    b_share = tl.exp(b_log_share)
    b_d_share = tl.zeros((PP,), tl.float32)
    if FROM_PRIOR:
        fixed, _, _ = is_fixed(p_fixed, pair, inside)
        learned = inside & ~fixed
        p_pair = p_grad_prior + 2 * (shop_row * nodes * nodes + pair)
        b_none = tl.load(p_pair, mask=learned, other=0.0)
        b_causal = tl.load(p_pair + 1, mask=learned, other=0.0)
        for k in range(PROTOTYPES):
            b_odds = bounded(p_odds, k, pair, inside, bound, nodes)
            b_change = b_none * softplus(b_odds) + b_causal * softplus(-b_odds)
            b_d_share = tl.where(p == k, -tl.sum(tl.sum(b_change, 1), 0), b_d_share)
    grad_kl = 0.0
    if FROM_KL:
        grad_kl = tl.load(p_grad_kl + shop_row)
        b_d_share += tl.where(valid, grad_kl * (b_log_share - b_weight), 0.0)
    b_d_score = b_share * (b_d_share - tl.sum(b_share * b_d_share, 0))
    tl.store(p_d_score + shop_row * PROTOTYPES + p, b_d_score, mask=valid)
    b_d_mixture = b_d_score + grad_kl * (tl.exp(b_weight) - b_share)
    tl.store(p_d_mixture + shop_row * PROTOTYPES + p, b_d_mixture, mask=valid)


@triton.jit(do_not_specialize=["stores", "nodes", "parts"])
def mixture_odds_bwd_kernel(
    p_grad_prior,  # [B, N, N, 2] float32; not read without FROM_PRIOR
    p_d_score,  # [B, P] float32
    p_share,  # [B, P] float32, log of the prototypes' weights
    p_odds,  # [P, N, N] float32
    p_factor,  # [B, N, N] float32
    p_fixed,  # [N, N, 2] float32
    p_d_odds,  # [parts, P, N, N] float32 out
    bound,
    stores,  # B
    nodes,  # N
    parts,  # over which the stores are spread
    PROTOTYPES: tl.constexpr,  # P
    NP: tl.constexpr,  # N padded to a power of two
    FROM_PRIOR: tl.constexpr,
):
    """One program a prototype and part of the stores."""
    part, k = tl.program_id(0), tl.program_id(1)
    i, j = tl.arange(0, NP)[:, None], tl.arange(0, NP)[None, :]
    inside = (i < nodes) & (j < nodes)
    pair = i * nodes + j
    fixed, _, _ = is_fixed(p_fixed, pair, inside)
    learned = inside & ~fixed
    b_raw = tl.load(p_odds + k * nodes * nodes + pair, mask=inside, other=0.0)
    b_odds = tl.minimum(tl.maximum(b_raw, -bound), bound)
    b_probability = sigmoid(b_odds)
    b_d_odds = tl.zeros((NP, NP), tl.float32)
    for store in range(part, stores, parts):
        shop_row = tl.full((), store, tl.int64)
        d_score = tl.load(p_d_score + shop_row * PROTOTYPES + k)
        b_factor = tl.load(p_factor + shop_row * nodes * nodes + pair, mask=inside, other=0.0)
        b_change = sigmoid(b_odds + b_factor) - b_probability
        b_d_odds += tl.where(i != j, d_score * b_change, 0.0)
        if FROM_PRIOR:
            share = tl.exp(tl.load(p_share + shop_row * PROTOTYPES + k))
            p_pair = p_grad_prior + 2 * (shop_row * nodes * nodes + pair)
            b_none = tl.load(p_pair, mask=learned, other=0.0)
            b_causal = tl.load(p_pair + 1, mask=learned, other=0.0)
            b_d_odds += share * (b_causal - b_probability * (b_none + b_causal))
    b_d_odds = tl.where(tl.abs(b_raw) <= bound, b_d_odds, 0.0)
    p_out = p_d_odds + (part.to(tl.int64) * PROTOTYPES + k) * nodes * nodes + pair
    tl.store(p_out, b_d_odds, mask=inside)
