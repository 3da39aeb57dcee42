"""Calendar operator: every series of a store less its regression on the calendar, on a CPU.

Compiled, vectorised and threaded over stores. Its plain PyTorch form is ``engine.nn.baseline``,
which decides who computes; nothing is decided here.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

if find_spec("causalmmm._C") is not None:
    from causalmmm import _C
    from causalmmm.kernels.calendar.op import calendar_residuals

    _COMPILED = hasattr(_C, "calendar_forward")  # False for a build older than this source
else:  # a source tree without a build
    _COMPILED = False

__all__ = ["calendar_residuals", "supported"]


def supported(x: Tensor) -> bool:
    """Whether the compiled operator is there and takes such series: float32 on a CPU, without
    gradient."""
    return (
        _COMPILED
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and not x.requires_grad
    )
