"""Calendar operator: every series of a store less its regression on the calendar, on a CPU.

Compiled, vectorised and threaded over stores. Its plain PyTorch form is ``engine.nn.baseline``,
which decides who computes; nothing is decided here.
"""

from __future__ import annotations

from torch import Tensor

from causalmmm.kernels.extension import BUILT, float32_on_cpu

_COMPILED = BUILT
if _COMPILED:
    from causalmmm.kernels.calendar.op import calendar_residuals

__all__ = ["calendar_residuals", "supported"]


def supported(x: Tensor) -> bool:
    """Whether the compiled operator is there and takes such series: float32 on a CPU, without
    gradient."""
    return _COMPILED and float32_on_cpu(x) and not x.requires_grad
