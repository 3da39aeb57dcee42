"""Posterior operators: prior of edges by a mixture of prototypes, and sampled effects.

Fused: on a CPU compiled, vectorised and threaded over stores, on a GPU by Triton, one program a
store. Their plain PyTorch forms are in ``engine.nn``, which decides who computes; nothing is
decided here.
"""

from __future__ import annotations

from torch import Tensor

from causalmmm.kernels.extension import BUILT, takes

if BUILT:
    from causalmmm.kernels.posterior.op import mixture_prior, sampled_effects

__all__ = ["mixture_prior", "sampled_effects", "supported"]


def supported(x: Tensor) -> bool:
    """Whether the operators are there and take tensors like ``x`` [B, N, N]."""
    return BUILT and takes(x, x.shape[1:])
