"""Terms of the evidence under the decoder's responses: Gram matrix, overlaps, and statistics."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl

from causalmmm.kernels.tiles import at_least, clipped, log1p, solved_each


@triton.jit(do_not_specialize=["nodes", "steps"])
def response_gram_kernel(
    p_residual,  # [B, N, T] float32
    p_ar_weights,  # [N, P] float32, lag 1 first
    p_responses,  # [B, N D, T - 1] float32
    p_solver,  # [B, Q, T] float32
    p_basis,  # [B, T, Q] float32
    p_log_noise,  # [B, N] float32
    p_active,  # [B, N, T] float32, 0 or 1
    p_context,  # [B, T] uint8, context rows
    p_gram,  # [B, N D, N D] float32 out
    p_cross,  # [B, N D, N] float32 out
    p_share,  # [B, N] float32 out
    p_size,  # [B, N D] float32 out, root mean square of the centred responses
    clip,  # bound of standardised values
    nodes,  # N
    steps,  # T
    P: tl.constexpr,  # autoregressive lags
    PP: tl.constexpr,  # padded to a power of two, as are
    D: tl.constexpr,  # components
    Q: tl.constexpr,  # terms of the calendar
    QP: tl.constexpr,
    NP: tl.constexpr,
    TP: tl.constexpr,
    WP: tl.constexpr,  # N D
    BR: tl.constexpr,  # rows of the Gram matrix of a program
):
    """Products of centred responses, and with the receivers' errors."""
    shop_row, first = tl.program_id(0).to(tl.int64), tl.program_id(1) * BR
    width = nodes * D
    p_context += shop_row * steps
    p_residual += shop_row * nodes * steps
    p_active += shop_row * nodes * steps
    p_responses += shop_row * width * (steps - 1)
    p_solver += shop_row * Q * steps
    p_basis += shop_row * Q * steps
    n, m, q, t = tl.arange(0, NP), tl.arange(0, WP), tl.arange(0, QP), tl.arange(0, TP)
    own = first + tl.arange(0, BR)
    valid, used_row, own_row, term = n < nodes, m < width, own < width, q < Q
    b_context = tl.load(p_context + t, mask=t < steps, other=0) != 0
    begin = tl.min(tl.where(b_context, t, steps), 0)

    # the calendar of every response
    b_level = tl.zeros((WP, QP), tl.float32)
    b_own_level = tl.zeros((BR, QP), tl.float32)
    p_response, p_own = p_responses + m * (steps - 1), p_responses + own * (steps - 1)
    for row in range(steps - 1):
        used = ((tl.load(p_context + row + 1) != 0) & (row >= begin)).to(tl.float32)
        b_response = tl.load(p_response + row, mask=used_row, other=0.0)
        b_own = tl.load(p_own + row, mask=own_row, other=0.0)
        b_solver = used * tl.load(p_solver + q * steps + row + 1, mask=term, other=0.0)
        b_level += b_response[:, None] * b_solver[None, :]
        b_own_level += b_own[:, None] * b_solver[None, :]

    # products of what it leaves
    b_log_noise = tl.load(p_log_noise + shop_row * nodes + n, mask=valid, other=0.0)
    b_unit = tl.exp(-b_log_noise)
    lag = tl.arange(0, PP)[:, None]
    lagged = (lag < P) & valid[None, :]
    b_ar = tl.load(p_ar_weights + n[None, :] * P + lag, mask=lagged, other=0.0)  # [PP, NP]
    b_gram = tl.zeros((BR, WP), tl.float32)
    b_cross = tl.zeros((BR, NP), tl.float32)
    b_square = tl.zeros((BR,), tl.float32)
    b_counted = tl.zeros((NP,), tl.float32)
    used_rows = 0.0
    for row in range(steps - 1):
        used = ((tl.load(p_context + row + 1) != 0) & (row >= begin)).to(tl.float32)
        b_basis = tl.load(p_basis + (row + 1) * Q + q, mask=term, other=0.0)
        b_flat = tl.load(p_response + row, mask=used_row, other=0.0)
        b_flat = (b_flat - tl.sum(b_level * b_basis[None, :], 1)) * used
        b_own = tl.load(p_own + row, mask=own_row, other=0.0)
        b_own = (b_own - tl.sum(b_own_level * b_basis[None, :], 1)) * used
        p_past = p_residual + n[None, :] * steps + row - lag
        b_past = tl.load(p_past, mask=lagged & (lag <= row), other=0.0)
        p_now = n * steps + row + 1
        b_error = tl.load(p_residual + p_now, mask=valid, other=0.0) - tl.sum(b_ar * b_past, 0)
        b_now = used * tl.load(p_active + p_now, mask=valid, other=0.0)
        b_counted += b_now
        b_now *= clipped(b_error * b_unit, clip)
        b_gram += b_own[:, None] * b_flat[None, :]
        b_cross += b_own[:, None] * b_now[None, :]
        b_square += b_own * b_own
        used_rows += used
    p_tile = p_gram + shop_row * width * width + own[:, None] * width + m[None, :]
    tl.store(p_tile, b_gram, mask=own_row[:, None] & used_row[None, :])
    p_tile = p_cross + shop_row * width * nodes + own[:, None] * nodes + n[None, :]
    tl.store(p_tile, b_cross, mask=own_row[:, None] & valid[None, :])
    b_share = b_counted / tl.maximum(used_rows, 1.0)  # active rows represent all rows
    tl.store(p_share + shop_row * nodes + n, b_share, mask=valid & (first == 0))
    b_size = tl.sqrt(at_least(b_square / tl.maximum(used_rows, 2.0), 1e-6))
    tl.store(p_size + shop_row * width + own, b_size, mask=own_row)


@triton.jit(do_not_specialize=["nodes"])
def response_overlap_kernel(
    p_gram,  # [B, N D, N D] float32
    p_beta,  # [N, N, D] float32
    p_log_noise,  # [B, N] float32
    p_share,  # [B, N] float32
    p_overlap,  # [B, N, N, N] float32 out: sender, other sender, receiver
    nodes,  # N
    D: tl.constexpr,  # components
    NP: tl.constexpr,  # N padded to a power of two
):
    """Products of the effects of one sender and all others on all receivers, in nats."""
    row = tl.program_id(0).to(tl.int64)  # of [B, N]
    shop_row = row // nodes
    sender = (row - shop_row * nodes).to(tl.int32)
    other, receiver = tl.arange(0, NP)[:, None], tl.arange(0, NP)[None, :]
    inside = (other < nodes) & (receiver < nodes)
    p_row = p_gram + row * D * nodes * D + other * D  # sender's first row of the matrix
    b_products = tl.zeros((NP, NP), tl.float32)
    for d in range(D):
        p_own = p_beta + (sender * nodes + receiver) * D + d
        b_own = tl.load(p_own, mask=receiver < nodes, other=0.0)  # [1, NP]
        for e in range(D):
            b_gram = tl.load(p_row + d * nodes * D + e, mask=other < nodes, other=0.0)  # [NP, 1]
            p_other = p_beta + (other * nodes + receiver) * D + e
            b_products += b_own * b_gram * tl.load(p_other, mask=inside, other=0.0)
    p_noise = shop_row * nodes + receiver
    b_noise = tl.load(p_log_noise + p_noise, mask=receiver < nodes, other=0.0)
    b_share = tl.load(p_share + p_noise, mask=receiver < nodes, other=0.0)
    b_products *= tl.exp(-2 * b_noise) * b_share
    tl.store(p_overlap + (row * nodes + other) * nodes + receiver, b_products, mask=inside)


@triton.jit
def signed_log(x):
    """sign(x) log(1 + |x|)."""
    b_log = log1p(tl.abs(x))
    return tl.where(x < 0, -b_log, b_log)


@triton.jit
def times_blocks(p_blocks, b_right, row, mask, D: tl.constexpr):
    """Blocks [N, D, D] times right [N, D, C]; `row` [N, D] are rows of the blocks in memory."""
    component = tl.arange(0, b_right.shape[1])[None, :, None]
    b_out = tl.zeros(b_right.shape, tl.float32)
    for d in range(D):
        b_column = tl.load(p_blocks + row + d, mask=mask, other=0.0)
        b_line = tl.sum(tl.where(component == d, b_right, 0.0), 1)
        b_out += b_column[:, :, None] * b_line[:, None, :]
    return b_out


@triton.jit(do_not_specialize=["nodes"])
def response_statistics_kernel(
    p_gram,  # [B, N D, N D] float32
    p_cross,  # [B, N D, N] float32
    p_size,  # [B, N D] float32, by which the regression divided its columns
    p_weight,  # [B, N D, N] float32, coefficients of the regression
    p_blocks,  # [B, N, D, D] float32, their covariances, sender by sender
    p_beta,  # [N, N, D] float32
    p_log_noise,  # [B, N] float32
    p_share,  # [B, N] float32
    p_statistics,  # [B, N, N, 5] float32 out
    p_xty,  # [B, N, N] float32 out
    p_xtx_diag,  # [B, N, N] float32 out
    ridge,  # prior precision of a coefficient
    nodes,  # N
    D: tl.constexpr,  # components
    DP: tl.constexpr,  # components padded to a power of two
    NP: tl.constexpr,  # N padded
):
    """Statistics of pairs, one program a store; tiles are [sender, component, receiver]."""
    shop_row = tl.program_id(0).to(tl.int64)
    width = nodes * D
    i, d, j = tl.arange(0, NP), tl.arange(0, DP), tl.arange(0, NP)
    of_row = (i < nodes)[:, None] & (d < D)[None, :]
    row = i[:, None] * D + d[None, :]  # of the Gram matrix
    inside = of_row[:, :, None] & (j < nodes)[None, None, :]
    p_tile = (shop_row * width + row[:, :, None]) * nodes + j[None, None, :]
    b_size = tl.load(p_size + shop_row * width + row, mask=of_row, other=1.0)[:, :, None]
    b_weight = tl.load(p_weight + p_tile, mask=inside, other=0.0)
    b_cross = tl.load(p_cross + p_tile, mask=inside, other=0.0) / b_size
    b_log_noise = tl.load(p_log_noise + shop_row * nodes + j, mask=j < nodes, other=0.0)
    b_share = tl.load(p_share + shop_row * nodes + j, mask=j < nodes, other=0.0)
    p_effect = p_beta + (i[:, None, None] * nodes + j[None, None, :]) * D + d[None, :, None]
    b_effect = tl.load(p_effect, mask=inside, other=0.0)
    b_effect *= b_size * tl.exp(-b_log_noise)[None, None, :]

    # all components of a sender together
    square = of_row[:, :, None] & (d < D)[None, None, :]
    p_block = p_blocks + (shop_row * width + row[:, :, None]) * D + d[None, None, :]
    b_blocks = tl.load(p_block, mask=square, other=0.0)
    b_blocks += tl.where((d[:, None] == d[None, :])[None, :, :] & ~square, 1.0, 0.0)
    b_group = tl.sum(b_weight * solved_each(b_blocks, b_weight, D), 1)
    b_group = tl.sqrt(at_least(b_group, 0.0)) - tl.sqrt(D * 1.0)

    # the sender's own block of the Gram matrix, whose columns are not divided yet
    of_block = row * width + i[:, None] * D
    p_own = p_gram + shop_row * width * width
    b_own_effect = times_blocks(p_own, b_effect / b_size, of_block, of_row, D) / b_size
    b_own_weight = times_blocks(p_own, b_weight / b_size, of_block, of_row, D) / b_size
    b_xtx = tl.sum(b_effect * b_own_effect, 1) * b_share[None, :]
    b_root = tl.sqrt(at_least(b_xtx, 1e-6))
    b_hit = tl.sum(b_effect * b_cross, 1)
    # (G + cI) w = G'e, so with the other senders' part removed G_i'e is c w_i + G_ii w_i
    b_hit_rest = tl.sum(b_effect * (ridge * b_weight + b_own_weight), 1)
    pairs = (i < nodes)[:, None] & (j < nodes)[None, :]
    p_pair = (shop_row * nodes + i[:, None]) * nodes + j[None, :]
    tl.store(p_xty + p_pair, b_hit, mask=pairs)
    tl.store(p_xtx_diag + p_pair, b_xtx, mask=pairs)
    p_statistics += p_pair * 5
    tl.store(p_statistics, b_group, mask=pairs)
    tl.store(p_statistics + 1, b_hit / b_root, mask=pairs)
    tl.store(p_statistics + 2, signed_log(b_hit - 0.5 * b_xtx), mask=pairs)
    tl.store(p_statistics + 3, b_hit_rest / b_root, mask=pairs)
    tl.store(p_statistics + 4, signed_log(b_hit_rest - 0.5 * b_xtx), mask=pairs)
