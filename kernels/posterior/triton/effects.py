"""Sampled log effects and the divergence of their posterior, one program a store."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl

from causalmmm.kernels.tiles import sigmoid


@triton.jit
def edge_probability(p_logits, place, edges):
    """Probability of "causal" [NP, NP]; 0 where no edge can be."""
    b_none = tl.load(p_logits + 2 * place, mask=edges, other=0.0)
    b_causal = tl.load(p_logits + 2 * place + 1, mask=edges, other=0.0)
    return tl.where(edges, sigmoid(b_causal - b_none), 0.0)


@triton.jit(do_not_specialize=["nodes"])
def sampled_effects_kernel(
    p_mean,  # [B, N, N] float32
    p_log_sd,  # [B, N, N] float32
    p_noise,  # [B, N, N] float32, standard normal
    p_logits,  # [B, N, N, 2] float32, of the edges
    p_effect,  # [B, N, N] float32 out
    p_kl,  # [B] float32 out
    prior_sd,
    nodes,  # N
    NP: tl.constexpr,  # N padded to a power of two
):
    """effect = mean + sd noise; a pair's divergence counts by the probability of its edge."""
    shop_row = tl.program_id(0).to(tl.int64)
    i, j = tl.arange(0, NP)[:, None], tl.arange(0, NP)[None, :]
    inside = (i < nodes) & (j < nodes)
    place = (shop_row * nodes + i) * nodes + j
    b_mean = tl.load(p_mean + place, mask=inside, other=0.0)
    b_log_sd = tl.load(p_log_sd + place, mask=inside, other=0.0)
    b_noise = tl.load(p_noise + place, mask=inside, other=0.0)
    tl.store(p_effect + place, b_mean + tl.exp(b_log_sd) * b_noise, mask=inside)
    b_ratio = b_log_sd - tl.log(prior_sd)
    b_share = b_mean / prior_sd
    b_kl = 0.5 * (tl.exp(2 * b_ratio) + b_share * b_share - 1) - b_ratio
    b_kl *= edge_probability(p_logits, place, inside & (i != j))
    tl.store(p_kl + shop_row, tl.sum(tl.sum(b_kl, 1), 0))


@triton.jit(do_not_specialize=["nodes"])
def sampled_effects_bwd_kernel(
    p_mean,  # [B, N, N] float32
    p_log_sd,  # [B, N, N] float32
    p_noise,  # [B, N, N] float32
    p_logits,  # [B, N, N, 2] float32
    p_grad_effect,  # [B, N, N] float32; not read without FROM_EFFECT
    p_grad_kl,  # [B] float32; not read without FROM_KL
    p_d_mean,  # [B, N, N] float32 out
    p_d_log_sd,  # [B, N, N] float32 out
    p_d_logits,  # [B, N, N, 2] float32 out
    prior_sd,
    nodes,  # N
    NP: tl.constexpr,  # N padded to a power of two
    FROM_EFFECT: tl.constexpr,
    FROM_KL: tl.constexpr,
):
    """Gradients of :func:`sampled_effects_kernel`."""
    shop_row = tl.program_id(0).to(tl.int64)
    i, j = tl.arange(0, NP)[:, None], tl.arange(0, NP)[None, :]
    inside = (i < nodes) & (j < nodes)
    place = (shop_row * nodes + i) * nodes + j
    b_mean = tl.load(p_mean + place, mask=inside, other=0.0)
    b_log_sd = tl.load(p_log_sd + place, mask=inside, other=0.0)
    b_d_mean = tl.zeros((NP, NP), tl.float32)
    b_d_log_sd = tl.zeros((NP, NP), tl.float32)
    b_d_logit = tl.zeros((NP, NP), tl.float32)
    if FROM_EFFECT:
        b_grad = tl.load(p_grad_effect + place, mask=inside, other=0.0)
        b_d_mean += b_grad
        b_d_log_sd += b_grad * tl.exp(b_log_sd) * tl.load(p_noise + place, mask=inside, other=0.0)
    if FROM_KL:
        grad_kl = tl.load(p_grad_kl + shop_row)
        b_probability = edge_probability(p_logits, place, inside & (i != j))
        b_ratio = b_log_sd - tl.log(prior_sd)
        b_share = b_mean / prior_sd
        b_square = tl.exp(2 * b_ratio)
        b_kl = 0.5 * (b_square + b_share * b_share - 1) - b_ratio
        b_d_mean += grad_kl * b_probability * b_share / prior_sd
        b_d_log_sd += grad_kl * b_probability * (b_square - 1)
        b_d_logit += grad_kl * b_kl * b_probability * (1 - b_probability)
    tl.store(p_d_mean + place, b_d_mean, mask=inside)
    tl.store(p_d_log_sd + place, b_d_log_sd, mask=inside)
    tl.store(p_d_logits + 2 * place, -b_d_logit, mask=inside)
    tl.store(p_d_logits + 2 * place + 1, b_d_logit, mask=inside)
