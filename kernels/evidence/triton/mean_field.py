"""Mean field of spike-and-slab regressions: all receivers of a store in one program."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl

from causalmmm.kernels.tiles import log1p, sigmoid


@triton.jit(do_not_specialize=["nodes", "sweeps"])
def mean_field_kernel(
    p_xty,  # [B, N, N] float32, sender first
    p_overlap,  # [B, N, N, N] float32: sender, other sender, receiver
    p_log_odds,  # [B, N, N] float32
    p_factor,  # [B, N, N] float32 out, log Bayes factors
    p_mean,  # [B, N, N] float32 out, E[z a]
    precision,  # of the slab
    nodes,  # N
    sweeps,  # over all senders
    NP: tl.constexpr,  # N padded to a power of two
):
    """Coordinate ascent; a tile holds the posterior means, senders by receivers."""
    first_row = tl.program_id(0).to(tl.int64) * nodes
    sender, receiver = tl.arange(0, NP)[:, None], tl.arange(0, NP)[None, :]
    inside = (sender < nodes) & (receiver < nodes)
    valid = receiver < nodes  # of the rows [1, NP] below
    b_mean = tl.zeros((NP, NP), tl.float32)
    for _ in range(sweeps):
        for i in range(nodes):
            p_row = (first_row + i) * nodes + receiver
            p_tile = (first_row + i) * nodes * nodes + sender * nodes + receiver
            b_overlap = tl.load(p_overlap + p_tile, mask=inside, other=0.0)
            b_own = tl.sum(tl.where(sender == i, b_overlap, 0.0), 0)[None, :]
            b_others = tl.sum(tl.where(sender == i, 0.0, b_overlap * b_mean), 0)[None, :]
            b_left = tl.load(p_xty + p_row, mask=valid, other=0.0) + precision - b_others
            b_new = b_left / (b_own + precision)
            b_factor = 0.5 * b_left * b_new - 0.5 * (log1p(b_own / precision) + precision)
            b_odds = tl.load(p_log_odds + p_row, mask=valid, other=0.0)
            b_mean = tl.where(sender == i, sigmoid(b_factor + b_odds) * b_new, b_mean)
            tl.store(p_factor + p_row, b_factor, mask=valid)
    tl.store(p_mean + first_row * nodes + sender * nodes + receiver, b_mean, mask=inside)
