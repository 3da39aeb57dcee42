"""Device functions on tiles in registers, from which the edge kernels are put together.

No kernel and no launch here. Names: `p_` pointers, `b_` tiles. Sums are float32; both sides of a
matrix product have the inputs' dtype.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl

EPS = tl.constexpr(1e-5)
LOG2_E = tl.constexpr(1.4426950408889634)


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
    """Five instructions: `exp2`, unlike `exp`, takes no care of denormal numbers, and without a
    select on x > 0 the compiler keeps packed conversions."""
    return tl.maximum(x, tl.exp2(tl.minimum(x * LOG2_E, 0.0)) - 1.0)


@triton.jit
def elu_slope(value):
    """Derivative of elu, from its value."""
    return tl.minimum(value, 0.0) + 1.0


@triton.jit
def moments(x, H: tl.constexpr):
    """Mean of each row of x [rows, H] and 1 / its standard deviation, as LayerNorm takes them."""
    mean = tl.sum(x, 1) / H
    variance = tl.sum(x * x, 1) / H - mean * mean
    return mean, tl.rsqrt(tl.maximum(variance, 0.0) + EPS)


@triton.jit
def normalise(x, H: tl.constexpr):
    """LayerNorm of x [rows, H] without scale and shift; also mean and 1 / standard deviation."""
    mean, rstd = moments(x, H)
    return x * rstd[:, None] - (mean * rstd)[:, None], mean, rstd


@triton.jit
def normalise_backward(grad, state, rstd, H: tl.constexpr):
    """Gradient [rows, H] of the input of `normalise`, from that of its result `state`."""
    shift = tl.sum(grad, 1) / H * rstd
    tilt = tl.sum(grad * state, 1) / H * rstd
    return grad * rstd[:, None] - (state * tilt[:, None] + shift[:, None])


@triton.jit
def column_sums(b_x, DTYPE: tl.constexpr, PRECISION: tl.constexpr, EMULATE: tl.constexpr):
    """Sums over the rows of x [rows, H], as [H, 16] with equal columns: a narrow product, where
    adding up across threads would take several instructions for each number."""
    ones = tl.full((b_x.shape[0], 16), 1.0, tl.float32)
    return mma(tl.trans(b_x), ones, DTYPE, PRECISION, EMULATE)


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
def load_features(p_features, rows, mask, F: tl.constexpr, FP: tl.constexpr):
    """These rows of the features [.., F] as [rows, FP], 0 where `mask` is false."""
    column = tl.arange(0, FP)
    valid = mask[:, None] & (column < F)[None, :]
    return tl.load(p_features + rows[:, None] * F + column, mask=valid, other=0.0)


@triton.jit
def project(b_x, mean, rstd, p_wo, p_bo, H: tl.constexpr, K: tl.constexpr, KP: tl.constexpr):
    """The network's logits [rows, KP] = LN(x) Wo.T + bo, by row sums for so narrow a product, and
    from x itself: LN(x) w = (x w - mean sum(w)) / std."""
    edge_type, h = tl.arange(0, KP)[None, :], tl.arange(0, H)
    b_logits = tl.zeros((b_x.shape[0], KP), tl.float32)
    for k in tl.static_range(KP):
        if k < K:
            b_w = tl.load(p_wo + k * H + h).to(tl.float32)
            dot = tl.sum(b_x * b_w[None, :], 1) - mean * tl.sum(b_w, 0)
            logit = dot * rstd + tl.load(p_bo + k).to(tl.float32)
            b_logits = tl.where(edge_type == k, logit[:, None], b_logits)
    return b_logits
