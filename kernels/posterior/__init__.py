"""Posterior operators: prior of edges by a mixture of prototypes, and sampled effects, on a CPU.

Compiled, vectorised and threaded over stores. Their plain PyTorch forms are in ``engine.nn``, which
decides who computes; nothing is decided here.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

if find_spec("causalmmm._C") is not None:
    from causalmmm import _C
    from causalmmm.kernels.posterior.op import mixture_prior, sampled_effects

    _COMPILED = hasattr(_C, "prior_forward")  # False for a build older than this source
else:  # a source tree without a build
    _COMPILED = False

__all__ = ["mixture_prior", "sampled_effects", "supported"]


def supported(x: Tensor) -> bool:
    """Whether the compiled operators are there and take tensors like ``x``: float32 on a CPU."""
    return _COMPILED and x.device.type == "cpu" and x.dtype == torch.float32
