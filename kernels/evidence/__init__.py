"""Evidence operators: window statistics, response statistics and their mean field, on a CPU.

One compiled operator each, vectorised and threaded over stores, without gradient. Their plain
PyTorch forms are in ``engine.evidence``, which decides who computes; nothing is decided here.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

if find_spec("causalmmm._C") is not None:
    from causalmmm import _C
    from causalmmm.kernels.evidence.op import coordinate_ascent, response_terms, window_statistics

    _COMPILED = hasattr(_C, "CALENDAR_RUN")  # False for a build older than this source
else:  # a source tree without a build
    _COMPILED = False

__all__ = ["coordinate_ascent", "response_terms", "supported", "window_statistics"]


def supported(x: Tensor) -> bool:
    """Whether the compiled operators are there and take tensors like ``x``: float32 on a CPU."""
    return _COMPILED and x.device.type == "cpu" and x.dtype == torch.float32
