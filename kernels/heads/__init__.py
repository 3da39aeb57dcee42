"""Heads of the encoder on pairs of series: from features of every pair to its edge and its effect.

On a GPU one Triton kernel each way; elsewhere, and for sizes that those do not take, the plain form
in ``engine.nn.encoder``, which decides who computes.
"""

from __future__ import annotations

from torch import Tensor

from causalmmm.kernels.extension import by_triton, takes
from causalmmm.kernels.heads.op import pair_heads

__all__ = ["pair_heads", "supported"]


def supported(edges: Tensor) -> bool:
    """Whether the operator takes features like ``edges`` [B, N, N, F]."""
    _, nodes, _, features = edges.shape
    return by_triton(edges) and takes(edges, (nodes, max(nodes, features)))
