"""Device functions on tiles in registers, from which the edge kernels are put together.

No kernel and no launch here. Names: `p_` pointers, `b_` tiles. Sums are float32; both sides of a
matrix product have the inputs' dtype.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl

EPS = tl.constexpr(1e-5)


@triton.jit
def mma(a, b, DTYPE: tl.constexpr, PRECISION: tl.constexpr, EMULATE: tl.constexpr):
    """a @ b in float32. The interpreter cannot multiply bfloat16: there, rounded values are widened
    first."""
    a, b = a.to(DTYPE), b.to(DTYPE)
    if EMULATE:
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, input_precision=PRECISION)


@triton.jit
def elu(x):
    """In this form the compiler keeps packed conversions, which it loses with a select on x > 0."""
    return tl.maximum(x, tl.exp(tl.minimum(x, 0.0)) - 1.0)


@triton.jit
def elu_slope(value):
    """Derivative of elu, from its value."""
    return tl.minimum(value, 0.0) + 1.0


@triton.jit
def normalise(x, H: tl.constexpr):
    """LayerNorm of x [rows, H] without scale and shift; also mean and 1 / standard deviation."""
    mean = tl.sum(x, 1) / H
    centred = x - mean[:, None]
    rstd = 1.0 / tl.sqrt(tl.sum(centred * centred, 1) / H + EPS)
    return centred * rstd[:, None], mean, rstd


@triton.jit
def normalise_backward(grad, state, rstd, H: tl.constexpr):
    """Gradient [rows, H] of the input of `normalise`, from that of its result `state`."""
    shift = tl.sum(grad, 1) / H
    tilt = tl.sum(grad * state, 1) / H
    return (grad - shift[:, None] - state * tilt[:, None]) * rstd[:, None]


@triton.jit
def load_rows(p_x, rows, mask, H: tl.constexpr):
    """[rows, H] in float32."""
    columns = tl.arange(0, H)
    return tl.load(p_x + rows[:, None] * H + columns, mask=mask[:, None], other=0.0).to(tl.float32)


@triton.jit
def write_rows(p_x, rows, mask, value, H: tl.constexpr):
    """value [rows, H] to memory, in the dtype of the pointer."""
    columns = tl.arange(0, H)
    tl.store(p_x + rows[:, None] * H + columns, value.to(p_x.dtype.element_ty), mask=mask[:, None])


@triton.jit
def load_transposed(p_w, H: tl.constexpr, G: tl.constexpr, COLUMNS: tl.constexpr):
    """W.T [G padded, H] of a weight [H, columns]; zeros in the padding."""
    g, h = tl.arange(0, G), tl.arange(0, H)
    return tl.load(p_w + h[None, :] * COLUMNS + g[:, None], mask=g[:, None] < COLUMNS, other=0.0)


@triton.jit
def product(
    p_x,
    rows,
    mask,
    p_w,
    H: tl.constexpr,
    BK: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    DTYPE: tl.constexpr,
    PRECISION: tl.constexpr,
    EMULATE: tl.constexpr,
):
    """x W, or x W.T, for rows of x [.., H] and W [H, H], BK of the inner dimension at a time."""
    h = tl.arange(0, H)
    b_out = tl.zeros((rows.shape[0], H), tl.float32)
    for first in range(0, H, BK):
        inner = first + tl.arange(0, BK)
        b_x = tl.load(p_x + rows[:, None] * H + inner, mask=mask[:, None], other=0.0)
        if TRANSPOSED:
            b_w = tl.load(p_w + h[None, :] * H + inner[:, None])
        else:
            b_w = tl.load(p_w + inner[:, None] * H + h[None, :])
        b_out += mma(b_x, b_w, DTYPE, PRECISION, EMULATE)
    return b_out


@triton.jit
def add_features(
    b_x,
    p_features,
    rows,
    mask,
    b_wft,
    F: tl.constexpr,
    FP: tl.constexpr,
    DTYPE: tl.constexpr,
    PRECISION: tl.constexpr,
    EMULATE: tl.constexpr,
):
    """x + f Wf.T, where f [rows, F] are these rows of the features, 0 where `mask` is false."""
    column = tl.arange(0, FP)
    valid = mask[:, None] & (column < F)[None, :]
    b_f = tl.load(p_features + rows[:, None] * F + column, mask=valid, other=0.0)
    return b_x + mma(b_f, b_wft, DTYPE, PRECISION, EMULATE)


@triton.jit
def sample_edge(
    b_net_logits,
    b_prior,
    seed,
    shop_id,
    pair,
    temperature,
    KP: tl.constexpr,
    NOISE: tl.constexpr,
    HARD: tl.constexpr,
):
    """z and posterior logits [rows, KP] and KL [rows], from the network's logits and the log prior,
    both [rows, KP]; the prior of types beyond K is -inf."""
    edge_type = tl.arange(0, KP)[None, :]
    allowed = b_prior > -float("inf")
    b_prior = tl.where(allowed, b_prior, 0.0)
    b_logits = tl.where(allowed, b_net_logits + b_prior, -float("inf"))
    shifted = b_logits - tl.max(b_logits, 1)[:, None]
    odds = tl.exp(shifted)
    odds_sum = tl.sum(odds, 1)[:, None]
    b_q = odds / odds_sum
    log_q = tl.where(allowed, shifted, 0.0) - tl.log(odds_sum)
    b_kl = tl.sum(tl.where(allowed, b_q * (log_q - b_prior), 0.0), 1)
    b_z = b_q
    if NOISE:
        low = (shop_id & 0xFFFFFFFF).to(tl.uint32)
        high = ((shop_id >> 32) & 0xFFFFFFFF).to(tl.uint32)
        bits0, bits1, bits2, bits3 = tl.philox(seed, low, high, pair, pair * 0)
        bits = tl.where(edge_type == 0, bits0[:, None], bits1[:, None])
        if KP > 2:
            bits = tl.where(edge_type == 2, bits2[:, None], bits)
            bits = tl.where(edge_type == 3, bits3[:, None], bits)
        uniform = ((bits >> 9).to(tl.float32) + 0.5) * 1.1920928955078125e-07
        noisy_logits = (b_logits - tl.log(-tl.log(uniform))) / temperature
        odds = tl.exp(noisy_logits - tl.max(noisy_logits, 1)[:, None])
        b_z = odds / tl.sum(odds, 1)[:, None]
    if HARD:
        best = tl.min(tl.where(b_z == tl.max(b_z, 1)[:, None], edge_type, KP), 1)
        b_z = (edge_type == best[:, None]).to(tl.float32)
    return b_z, b_logits, b_kl


@triton.jit
def project(b_y, p_wo, p_bo, H: tl.constexpr, K: tl.constexpr, KP: tl.constexpr):
    """The network's logits [rows, KP] = y Wo.T + bo: row sums, for so narrow a product."""
    edge_type, h = tl.arange(0, KP)[None, :], tl.arange(0, H)
    b_net_logits = tl.zeros((b_y.shape[0], KP), tl.float32)
    for k in tl.static_range(KP):
        if k < K:
            b_w = tl.load(p_wo + k * H + h).to(tl.float32)
            logit = tl.sum(b_y * b_w[None, :], 1) + tl.load(p_bo + k).to(tl.float32)
            b_net_logits = tl.where(edge_type == k, logit[:, None], b_net_logits)
    return b_net_logits
