"""Evidence operators: window statistics, response statistics and their mean field, and regressions
under relevance priors.

One fused operator each, without gradient: on a CPU compiled, vectorised and threaded over stores,
on a GPU by Triton, one program a store. The regressions are in float64 and for a CPU only. Their
plain PyTorch forms are in ``engine.evidence`` and ``engine.prior``, which decide who computes;
nothing is decided here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from causalmmm.kernels.extension import BUILT, takes

if BUILT:
    from causalmmm.kernels.evidence.op import coordinate_ascent, response_terms, window_statistics
    from causalmmm.kernels.evidence.relevance import bank_relevance, lag_relevance

__all__ = [
    "bank_relevance",
    "coordinate_ascent",
    "lag_relevance",
    "relevance_supported",
    "response_terms",
    "supported",
    "window_statistics",
]

_MAX_SIDE = 128  # of a regression's Gram matrix in the registers of a program


def supported(x: Tensor, of_node: int = 1) -> bool:
    """Whether the operators are there and take tensors like ``x`` [B, N, ..], of whose N nodes each
    has ``of_node`` columns in a regression."""
    fits = x.shape[1] * of_node <= _MAX_SIDE
    return BUILT and takes(x, x.shape[1:], fits)


def relevance_supported(x: Tensor) -> bool:
    """Whether ``lag_relevance`` and ``bank_relevance`` are there and take tensors like ``x``."""
    return BUILT and x.device.type == "cpu" and x.dtype == torch.float64
