"""Device functions on tiles in registers that Triton kernels of several operators share.

No kernel and no launch here. Names: `p_` pointers, `b_` tiles. No atomics, and every sum in a fixed
order: equal inputs give equal bits.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def clipped(x, bound):
    """x between -bound and bound; what is no number stays that."""
    ALL: tl.constexpr = tl.PropagateNan.ALL
    return tl.minimum(tl.maximum(x, -bound, propagate_nan=ALL), bound, propagate_nan=ALL)


@triton.jit
def at_least(x, bound):
    """The larger of x and bound; what is no number stays that."""
    return tl.maximum(x, bound, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def sigmoid(x):
    """Neither exponent overflows."""
    small = tl.exp(-tl.abs(x))
    return tl.where(x >= 0, 1.0, small) / (1.0 + small)


@triton.jit
def softplus(x):
    """log(1 + exp(x))."""
    return tl.maximum(x, 0.0) + log1p(tl.exp(-tl.abs(x)))


@triton.jit
def log1p(x):
    """log(1 + x) for x >= 0, exact to rounding for small x as well (Kahan)."""
    total = 1.0 + x
    return tl.where(total == 1.0, x, tl.log(total) * (x / tl.where(total == 1.0, 1.0, total - 1.0)))


@triton.jit
def solved(b_a, b_right, rows):
    """A^-1 [M, M] and A^-1 right [M, C] for a symmetric positive definite A [M, M].

    `rows` sweeps (Goodnight, 1979), each of which is one pass over the tile; rows of A from there
    on must be those of the identity, and have no inverse.
    """
    place = tl.arange(0, b_a.shape[0])
    row, column = place[:, None], place[None, :]
    for k in range(rows):
        b_line = tl.sum(tl.where(row == k, b_a, 0.0), 0)  # [M], row k and column k
        pivot = 1.0 / tl.sum(tl.where(place == k, b_line, 0.0), 0)
        # with these in place k, one product gives row, column and corner of the sweep as well
        b_side = tl.where(place == k, -1.0, b_line)
        b_share = tl.where(place == k, -pivot, b_line * pivot)
        b_first = tl.sum(tl.where(row == k, b_right, 0.0), 0) * pivot  # [C]
        b_right = tl.where(row == k, 0.0, b_right) - b_side[:, None] * b_first[None, :]
        b_a = tl.where((row == k) | (column == k), 0.0, b_a) - b_side[:, None] * b_share[None, :]
    return -b_a, b_right


@triton.jit
def solved_each(b_a, b_right, rows):
    """A^-1 right [N, M, C] for N symmetric positive definite A [N, M, M], as :func:`solved`."""
    row = tl.arange(0, b_a.shape[1])[None, :, None]
    column = tl.arange(0, b_a.shape[2])[None, None, :]
    for k in range(rows):
        b_line = tl.sum(tl.where(row == k, b_a, 0.0), 1)[:, None, :]  # [N, 1, M], row k
        b_side = tl.sum(tl.where(column == k, b_a, 0.0), 2)[:, :, None]  # [N, M, 1], the same
        b_pivot = 1.0 / tl.sum(tl.where(column == k, b_line, 0.0), 2)[:, :, None]  # [N, 1, 1]
        b_side = tl.where(row == k, -1.0, b_side)
        b_share = tl.where(column == k, -b_pivot, b_line * b_pivot)
        b_first = tl.sum(tl.where(row == k, b_right, 0.0), 1)[:, None, :] * b_pivot  # [N, 1, C]
        b_right = tl.where(row == k, 0.0, b_right) - b_side * b_first
        b_a = tl.where((row == k) | (column == k), 0.0, b_a) - b_side * b_share
    return b_right


@triton.jit
def column_of(b_x, k):
    """Column k [M] of [M, C]."""
    place = tl.arange(0, b_x.shape[1])[None, :]
    return tl.sum(tl.where(place == k, b_x, 0.0), 1)
