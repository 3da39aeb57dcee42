"""Calendar operator: every series of a store less its regression on the calendar.

Fused: on a CPU compiled, vectorised and threaded over stores, on a GPU by Triton, one program a
store. Its plain PyTorch form is ``engine.nn.baseline``, which decides who computes; nothing is
decided here.
"""

from __future__ import annotations

from torch import Tensor

from causalmmm.kernels.extension import BUILT, takes

if BUILT:
    from causalmmm.kernels.calendar.op import calendar_residuals

__all__ = ["calendar_residuals", "supported"]


def supported(x: Tensor, terms: int) -> bool:
    """Whether the operator is there and takes series like ``x`` [B, N, T], without gradient, and so
    many terms of a calendar."""
    side = max(x.shape[1], 2 * terms)
    return BUILT and not x.requires_grad and takes(x, (side, x.shape[2]))
