"""Ridge regression of every receiver on all columns of a store, one program a store."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl

from causalmmm.kernels.tiles import solved


@triton.jit(do_not_specialize=["nodes"])
def ridge_regression_kernel(
    p_gram,  # [B, W, W] float32, W = N C columns
    p_cross,  # [B, W, N] float32, products with the receivers
    p_size,  # [B, W] float32, by which columns are divided first; not read without SIZED
    p_weight,  # [B, W, N] float32 out, (G + ridge)^-1 cross
    p_blocks,  # [B, N, C, C] float32 out, the diagonal blocks of (G + ridge)^-1
    ridge,  # prior precision of a coefficient
    nodes,  # N
    C: tl.constexpr,  # columns of a sender
    SIZED: tl.constexpr,
    NP: tl.constexpr,  # N padded to a power of two
    WP: tl.constexpr,  # W padded
):
    """The whole Gram matrix in registers."""
    shop_row = tl.program_id(0).to(tl.int64)
    width = nodes * C
    m, n = tl.arange(0, WP), tl.arange(0, NP)
    used = m < width
    square = used[:, None] & used[None, :]
    p_tile = m[:, None] * width + m[None, :]
    b_gram = tl.load(p_gram + shop_row * width * width + p_tile, mask=square, other=0.0)
    inside = used[:, None] & (n < nodes)[None, :]
    p_tile = shop_row * width * nodes + m[:, None] * nodes + n[None, :]
    b_cross = tl.load(p_cross + p_tile, mask=inside, other=0.0)
    if SIZED:
        b_size = tl.load(p_size + shop_row * width + m, mask=used, other=1.0)
        b_gram = b_gram / (b_size[:, None] * b_size[None, :])
        b_cross = b_cross / b_size[:, None]
    b_gram += tl.where(m[:, None] == m[None, :], tl.where(used, ridge, 1.0)[:, None], 0.0)
    b_inverse, b_weight = solved(b_gram, b_cross, width)
    tl.store(p_weight + p_tile, b_weight, mask=inside)
    begin = m[:, None] // C * C  # of the block in a row
    own = (m[None, :] >= begin) & (m[None, :] < begin + C) & square
    p_block = p_blocks + (shop_row * width + m[:, None]) * C + m[None, :] - begin
    tl.store(p_block, b_inverse, mask=own)
