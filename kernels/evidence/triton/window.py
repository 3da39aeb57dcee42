"""Statistics of one window: correlations of all lags, then what a ridge VAR makes of them."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl

from causalmmm.kernels.tiles import at_least, clipped, log1p, solved_each


@triton.jit(do_not_specialize=["nodes", "steps"])
def window_moments_kernel(
    p_residual,  # [B, N, T] float32, series as senders
    p_received,  # [B, N, T] float32, series as receivers
    p_active,  # [B, N, T] float32, 0 or 1
    p_context,  # [B, T] uint8, context rows
    p_nodes,  # [B, N, L + 5] float32 out, but for the noise
    p_spread,  # [B, N] float32 out, of the receivers
    p_rows,  # [B, N] float32 out, on which it was measured
    p_scale,  # [B, N] float32 out, by which series are divided
    flat,  # spread below which a series counts as constant
    clip,  # bound of standardised values
    nodes,  # N
    steps,  # T
    L: tl.constexpr,  # lags
    NP: tl.constexpr,  # N padded to a power of two
    TP: tl.constexpr,  # T padded
):
    """Moments of every series on the context rows, one program a store."""
    shop_row = tl.program_id(0).to(tl.int64)
    n, t = tl.arange(0, NP), tl.arange(0, TP)
    valid = n < nodes
    b_context = tl.load(p_context + shop_row * steps + t, mask=t < steps, other=0) != 0
    count = tl.maximum(tl.sum(b_context.to(tl.float32), 0), 2.0)
    place = (shop_row * nodes + n[:, None]) * steps + t[None, :]
    inside = valid[:, None] & b_context[None, :]
    b_series = tl.load(p_residual + place, mask=inside, other=0.0)
    b_spread = tl.sqrt(tl.sum(b_series * b_series, 1) / count)
    b_scale = at_least(b_spread, flat)
    b_series = clipped(b_series / b_scale[:, None], clip)
    b_square = b_series * b_series
    b_third = tl.sum(b_square * b_series, 1) / count
    b_fourth = tl.sum(b_square * b_square, 1) / count
    b_rows = tl.maximum(tl.sum(tl.load(p_active + place, mask=inside, other=0.0), 1), 2.0)
    b_received = tl.load(p_received + place, mask=inside, other=0.0)
    b_received = tl.sqrt(tl.sum(b_received * b_received, 1) / b_rows)
    row = shop_row * nodes + n
    tl.store(p_spread + row, b_received, mask=valid)
    tl.store(p_rows + row, b_rows, mask=valid)
    tl.store(p_scale + row, b_scale, mask=valid)
    p_node = p_nodes + row * (L + 5) + L
    tl.store(p_node, clipped(b_third, 4.0) / 2, mask=valid)
    tl.store(p_node + 1, log1p(b_fourth), mask=valid)
    tl.store(p_node + 3, tl.log(at_least(b_spread, 1e-4)) + 1.5, mask=valid)


@triton.jit(do_not_specialize=["nodes", "steps"])
def window_gram_kernel(
    p_residual,  # [B, N, T] float32, series as senders
    p_received,  # [B, N, T] float32, series as receivers
    p_active,  # [B, N, T] float32, 0 or 1
    p_context,  # [B, T] uint8, context rows
    p_scale,  # [B, N] float32, by which series are divided
    p_gram,  # [B, N L, N L] float32 out, of all lags; row i L + l is lag L - l of series i
    p_cross,  # [B, N L, N] float32 out, products with the receivers
    p_same,  # [B, N, N] float32 out, products of the receivers
    p_counts,  # [B, 2, N] float32 out: rows on which a receiver is active, and rows that are used
    clip,  # bound of standardised values
    nodes,  # N
    steps,  # T
    L: tl.constexpr,  # lags
    NP: tl.constexpr,  # N padded to a power of two
    TP: tl.constexpr,  # T padded
    WP: tl.constexpr,  # N L padded
    BR: tl.constexpr,  # rows of the Gram matrix of a program
):
    """Products of standardised series on the rows that have L predecessors."""
    shop_row, first = tl.program_id(0).to(tl.int64), tl.program_id(1) * BR
    p_context += shop_row * steps
    p_residual += shop_row * nodes * steps
    p_received += shop_row * nodes * steps
    p_active += shop_row * nodes * steps
    n, t, m = tl.arange(0, NP), tl.arange(0, TP), tl.arange(0, WP)
    own = first + tl.arange(0, BR)
    valid, used_row, own_row = n < nodes, m < nodes * L, own < nodes * L
    b_context = tl.load(p_context + t, mask=t < steps, other=0) != 0
    begin = tl.min(tl.where(b_context, t, steps), 0)
    b_scale = tl.load(p_scale + shop_row * nodes + n, mask=valid, other=1.0)
    b_scale_m = tl.load(p_scale + shop_row * nodes + m // L, mask=used_row, other=1.0)
    b_own_scale = tl.load(p_scale + shop_row * nodes + own // L, mask=own_row, other=1.0)
    p_past = p_residual + m // L * steps + m % L
    p_own = p_residual + own // L * steps + own % L
    b_gram = tl.zeros((BR, WP), tl.float32)
    b_cross = tl.zeros((BR, NP), tl.float32)
    b_same = tl.zeros((NP, NP), tl.float32)
    b_counted = tl.zeros((NP,), tl.float32)
    used_rows = 0.0
    for row in range(steps - L):
        used = ((tl.load(p_context + row + L) != 0) & (row >= begin)).to(tl.float32)
        b_past = tl.load(p_past + row, mask=used_row, other=0.0)
        b_past = clipped(b_past / b_scale_m, clip)
        b_own = tl.load(p_own + row, mask=own_row, other=0.0)
        b_own = clipped(b_own / b_own_scale, clip)
        p_now = n * steps + row + L
        b_now = used * tl.load(p_active + p_now, mask=valid, other=0.0)
        b_counted += b_now
        b_now *= clipped(tl.load(p_received + p_now, mask=valid, other=0.0) / b_scale, clip)
        b_gram += b_own[:, None] * (b_past * used)[None, :]
        b_cross += b_own[:, None] * b_now[None, :]
        b_same += b_now[:, None] * b_now[None, :]
        used_rows += used
    width = nodes * L
    p_tile = p_gram + shop_row * width * width + own[:, None] * width + m[None, :]
    tl.store(p_tile, b_gram, mask=own_row[:, None] & used_row[None, :])
    p_tile = p_cross + shop_row * width * nodes + own[:, None] * nodes + n[None, :]
    tl.store(p_tile, b_cross, mask=own_row[:, None] & valid[None, :])
    valid &= first == 0  # the first program of a store writes what belongs to no row
    p_tile = p_same + shop_row * nodes * nodes + n[:, None] * nodes + n[None, :]
    tl.store(p_tile, b_same, mask=valid[:, None] & (n < nodes)[None, :])
    p_count = p_counts + shop_row * 2 * nodes + n
    tl.store(p_count, tl.maximum(b_counted, 2.0), mask=valid)
    tl.store(p_count + nodes, b_counted * 0.0 + tl.maximum(used_rows, 2.0), mask=valid)


@triton.jit(do_not_specialize=["nodes"])
def window_features_kernel(
    p_cross,  # [B, N L, N] float32, of `window_gram_kernel`, as the next two
    p_same,  # [B, N, N] float32
    p_counts,  # [B, 2, N] float32
    p_weight,  # [B, N L, N] float32, coefficients of the regression
    p_blocks,  # [B, N, L, L] float32, their covariances, sender by sender
    p_edges,  # [B, N, N, 2 L + 5] float32 out
    p_nodes,  # [B, N, L + 5] float32 out, correlations with own lags, and the noise
    ridge,  # prior precision of a coefficient
    clip,  # bound of features before they are halved
    nodes,  # N
    L: tl.constexpr,  # lags
    LP: tl.constexpr,  # lags padded to a power of two
    NP: tl.constexpr,  # N padded
):
    """Features of pairs and series, one program a store; tiles are [sender, lag, receiver]."""
    F: tl.constexpr = 2 * L + 5
    G: tl.constexpr = L + 5
    shop_row = tl.program_id(0).to(tl.int64)
    i, lag, j = tl.arange(0, NP), tl.arange(0, LP), tl.arange(0, NP)
    valid = i < nodes
    of_lag = valid[:, None, None] & (lag < L)[None, :, None] & (j < nodes)[None, None, :]
    row = i[:, None, None] * L + lag[None, :, None]
    p_tile = (shop_row * nodes * L + row) * nodes + j[None, None, :]
    b_weight = tl.load(p_weight + p_tile, mask=of_lag, other=0.0)
    b_cross = tl.load(p_cross + p_tile, mask=of_lag, other=0.0)
    square = valid[:, None, None] & (lag < L)[None, :, None] & (lag < L)[None, None, :]
    diagonal = lag[None, :, None] == lag[None, None, :]
    p_tile = (shop_row * nodes * L + row) * L + lag[None, None, :]
    b_blocks = tl.load(p_blocks + p_tile, mask=square, other=0.0)
    b_variance = tl.sum(tl.where(diagonal, b_blocks, 0.0), 2)  # [NP, LP]
    b_blocks += tl.where(diagonal & ~square, 1.0, 0.0)
    pair = i[:, None] * nodes + j[None, :]
    pairs = valid[:, None] & (j < nodes)[None, :]
    b_same = tl.load(p_same + shop_row * nodes * nodes + pair, mask=pairs, other=0.0)
    p_count = p_counts + shop_row * 2 * nodes
    b_active_rows = tl.load(p_count + j, mask=j < nodes, other=2.0)
    used_rows = tl.load(p_count + nodes)

    # noise of the regressions, and evidence of a pair's coefficients together
    freedom = nodes * L - ridge * tl.sum(tl.sum(b_variance, 1), 0)
    b_squares = tl.sum(tl.where(i[:, None] == j[None, :], b_same, 0.0), 0)
    b_squares = at_least(b_squares - tl.sum(tl.sum(b_weight * b_cross, 1), 0), 1e-6)
    b_noise = b_squares / tl.maximum(b_active_rows - freedom, 0.2 * b_active_rows)  # [NP]
    b_group = tl.sum(b_weight * solved_each(b_blocks, b_weight, L), 1) / b_noise[None, :]
    b_group = tl.sqrt(at_least(b_group, 0.0)) - tl.sqrt(L * 1.0)

    root = tl.sqrt(used_rows)
    size = tl.log(used_rows / 100.0)
    p_edges += shop_row * nodes * nodes * F
    p_edge = p_edges + (i[:, None, None] * nodes + j[None, None, :]) * F + lag[None, :, None]
    b_deviation = tl.sqrt(b_variance[:, :, None] * b_noise[None, None, :])
    b_ratio = b_weight / tl.where(of_lag, b_deviation, 1.0)
    tl.store(p_edge, clipped(b_ratio, clip) / 2, mask=of_lag)
    tl.store(p_edge + L, clipped(b_cross / root, clip) / 2, mask=of_lag)
    p_pair = p_edges + pair * F + 2 * L
    tl.store(p_pair, clipped(b_same / root, clip) / 2, mask=pairs)
    tl.store(p_pair + 1, clipped(b_group, clip) / 2, mask=pairs)
    p_back = p_edges + (j[None, :] * nodes + i[:, None]) * F + 2 * L
    tl.store(p_back + 2, clipped(b_group, clip) / 2, mask=pairs)
    b_total = tl.sum(b_weight, 1) * (root / tl.sqrt(L * 1.0))
    tl.store(p_pair + 3, clipped(b_total, clip) / 2, mask=pairs)
    tl.store(p_pair + 4, tl.zeros((NP, NP), tl.float32) + clipped(size, clip) / 2, mask=pairs)
    p_nodes += shop_row * nodes * G
    own = i[:, None, None] == j[None, None, :]
    b_own = tl.sum(tl.where(own, b_cross, 0.0), 2) / used_rows  # [NP, LP]
    of_node = valid[:, None] & (lag < L)[None, :]
    tl.store(p_nodes + i[:, None] * G + lag[None, :], b_own, mask=of_node)
    tl.store(p_nodes + j * G + L + 2, tl.sqrt(b_noise), mask=j < nodes)
    tl.store(p_nodes + i * G + L + 4, tl.zeros((NP,), tl.float32) + size, mask=valid)
