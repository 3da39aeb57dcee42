"""Posterior operators: prior of edges by a mixture of prototypes, and sampled effects, on a CPU.

Compiled, vectorised and threaded over stores. Their plain PyTorch forms are in ``engine.nn``, which
decides who computes; nothing is decided here.
"""

from __future__ import annotations

from torch import Tensor

from causalmmm.kernels.extension import BUILT, float32_on_cpu

_COMPILED = BUILT
if _COMPILED:
    from causalmmm.kernels.posterior.op import mixture_prior, sampled_effects

__all__ = ["mixture_prior", "sampled_effects", "supported"]


def supported(x: Tensor) -> bool:
    """Whether the compiled operators are there and take tensors like ``x``: float32 on a CPU."""
    return _COMPILED and float32_on_cpu(x)
