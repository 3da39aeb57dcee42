"""What the Triton kernels of the edge operators are made of: functions on tiles in registers.

Names: `p_` pointers, `b_` tiles. Sums are float32; operands of matrix products have the inputs'
dtype.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl

EPS = tl.constexpr(1e-5)


@triton.jit
def mma(a, b, DTYPE: tl.constexpr, PRECISION: tl.constexpr, EMULATE: tl.constexpr):
    """a @ b in float32. The interpreter cannot multiply bfloat16: there rounded values widen."""
    a, b = a.to(DTYPE), b.to(DTYPE)
    if EMULATE:
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, input_precision=PRECISION)


@triton.jit
def elu(x):
    return tl.maximum(x, tl.exp(tl.minimum(x, 0.0)) - 1.0)


@triton.jit
def elu_slope(value):
    return tl.minimum(value, 0.0) + 1.0


@triton.jit
def normalise(x, H: tl.constexpr):
    mean = tl.sum(x, 1) / H
    centred = x - mean[:, None]
    rstd = 1.0 / tl.sqrt(tl.sum(centred * centred, 1) / H + EPS)
    return centred * rstd[:, None], mean, rstd


@triton.jit
def normalise_backward(grad, state, rstd, H: tl.constexpr):
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
    """x W, or x W.T, for rows of x and a weight [H, H], BK of the inner dimension at a time."""
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
    """x + f Wf.T with f [rows, F] taken from the given edge rows; 0 where `mask` is false."""
    column = tl.arange(0, FP)
    inside = mask[:, None] & (column < F)[None, :]
    b_f = tl.load(p_features + rows[:, None] * F + column, mask=inside, other=0.0)
    return b_x + mma(b_f, b_wft, DTYPE, PRECISION, EMULATE)


@triton.jit
def sample_edge(
    b_scores,
    b_prior,
    seed,
    store,
    pair,
    temperature,
    KP: tl.constexpr,
    NOISE: tl.constexpr,
    HARD: tl.constexpr,
):
    """z, logits [rows, KP] and KL [rows] from scores and log prior; types beyond K hold -inf."""
    kind = tl.arange(0, KP)[None, :]
    allowed = b_prior > -float("inf")
    b_prior = tl.where(allowed, b_prior, 0.0)
    b_logits = tl.where(allowed, b_scores + b_prior, -float("inf"))
    shifted = b_logits - tl.max(b_logits, 1)[:, None]
    weight = tl.exp(shifted)
    total = tl.sum(weight, 1)[:, None]
    b_q = weight / total
    log_q = tl.where(allowed, shifted, 0.0) - tl.log(total)
    b_kl = tl.sum(tl.where(allowed, b_q * (log_q - b_prior), 0.0), 1)
    b_z = b_q
    if NOISE:
        low = (store & 0xFFFFFFFF).to(tl.uint32)
        high = ((store >> 32) & 0xFFFFFFFF).to(tl.uint32)
        first, second, third, fourth = tl.philox(seed, low, high, pair, pair * 0)
        word = tl.where(kind == 0, first[:, None], second[:, None])
        if KP > 2:
            word = tl.where(kind == 2, third[:, None], word)
            word = tl.where(kind == 3, fourth[:, None], word)
        uniform = ((word >> 9).to(tl.float32) + 0.5) * 1.1920928955078125e-07
        shown = (b_logits - tl.log(-tl.log(uniform))) / temperature
        weight = tl.exp(shown - tl.max(shown, 1)[:, None])
        b_z = weight / tl.sum(weight, 1)[:, None]
    if HARD:
        best = tl.min(tl.where(b_z == tl.max(b_z, 1)[:, None], kind, KP), 1)
        b_z = (kind == best[:, None]).to(tl.float32)
    return b_z, b_logits, b_kl


@triton.jit
def project(b_y, p_wo, p_bo, H: tl.constexpr, K: tl.constexpr, KP: tl.constexpr):
    """Scores [rows, KP] = y Wo.T + bo, row sums instead of a matrix product this narrow."""
    kind, h = tl.arange(0, KP)[None, :], tl.arange(0, H)
    b_scores = tl.zeros((b_y.shape[0], KP), tl.float32)
    for k in tl.static_range(KP):
        if k < K:
            b_w = tl.load(p_wo + k * H + h).to(tl.float32)
            score = tl.sum(b_y * b_w[None, :], 1) + tl.load(p_bo + k).to(tl.float32)
            b_scores = tl.where(kind == k, score[:, None], b_scores)
    return b_scores
