"""Evidence operators: window statistics, response statistics and their mean field, on a CPU.

One compiled operator each, vectorised and threaded over stores, without gradient. Their plain
PyTorch forms are in ``engine.evidence``, which decides who computes; nothing is decided here.
"""

from __future__ import annotations

from torch import Tensor

from causalmmm.kernels.extension import BUILT, float32_on_cpu

_COMPILED = BUILT
if _COMPILED:
    from causalmmm.kernels.evidence.op import coordinate_ascent, response_terms, window_statistics

__all__ = ["coordinate_ascent", "response_terms", "supported", "window_statistics"]


def supported(x: Tensor) -> bool:
    """Whether the compiled operators are there and take tensors like ``x``: float32 on a CPU."""
    return _COMPILED and float32_on_cpu(x)
