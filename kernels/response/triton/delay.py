"""Responses later by their delays, and back; tiles are [component, time]."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["steps", "rows"])
def delayed_kernel(
    p_response,  # [R, D, T] float32
    p_delays,  # [D] int32
    p_later,  # [R, D, rows] float32 out
    steps,  # T
    rows,  # that are kept
    D: tl.constexpr,  # components
    DP: tl.constexpr,  # components padded to a power of two
    TP: tl.constexpr,  # T padded
):
    """One program a series; before its first value a component has that value."""
    d, t = tl.arange(0, DP), tl.arange(0, TP)
    place = tl.program_id(0).to(tl.int64) * D + d
    b_delay = tl.load(p_delays + d, mask=d < D, other=0)
    source = tl.maximum(t[None, :] - b_delay[:, None], 0)
    inside = (d < D)[:, None] & (t < rows)[None, :]
    b_later = tl.load(p_response + place[:, None] * steps + source, mask=inside, other=0.0)
    tl.store(p_later + place[:, None] * rows + t[None, :], b_later, mask=inside)


@triton.jit(do_not_specialize=["steps", "rows"])
def delayed_bwd_kernel(
    p_grad,  # [R, D, rows] float32
    p_delays,  # [D] int32
    p_earlier,  # [R, D, T] float32 out
    steps,  # T
    rows,  # that were kept
    D: tl.constexpr,  # components
    DP: tl.constexpr,  # components padded to a power of two
    TP: tl.constexpr,  # T padded
):
    """One program a series; the first value gathers all rows that had it."""
    d, t = tl.arange(0, DP), tl.arange(0, TP)
    place = tl.program_id(0).to(tl.int64) * D + d
    delay = tl.load(p_delays + d, mask=d < D, other=0)[:, None]
    valid, time = (d < D)[:, None], t[None, :]
    p_row = p_grad + place[:, None] * rows + time
    b_first = tl.load(p_row, mask=valid & (time < rows) & (time <= delay), other=0.0)
    b_first = tl.sum(b_first, 1)[:, None]
    b_grad = tl.load(p_row + delay, mask=valid & (time + delay < rows), other=0.0)
    b_grad = tl.where(time == 0, b_first, b_grad)
    tl.store(p_earlier + place[:, None] * steps + time, b_grad, mask=valid & (time < steps))
