"""Symmetric positive definite matrices: inverse, Cholesky factor, its inverse, diagonal blocks.

Eagerly these are torch's own; in an exported graph they are operators of their own name, because
ONNX has no factorisation (``engine.export.operators`` spells them in standard operators).
"""

from __future__ import annotations

import torch
from torch import Tensor


def spd_inverse(matrix: Tensor) -> Tensor:
    """Inverse of [..., M, M]."""
    if torch.compiler.is_exporting():
        return exported_inverse(matrix)
    return _inverse(matrix)


def cholesky(matrix: Tensor) -> Tensor:
    """Lower triangular factor of [..., M, M]."""
    return exported_cholesky(matrix) if torch.compiler.is_exporting() else _cholesky(matrix)


def whitening(matrix: Tensor) -> Tensor:
    """Lower triangular W of [..., M, M] with ``W matrix W' = I``; ``W'W`` is the inverse.

    Half the way to the inverse, and often all that is needed of it: x' matrix^-1 x = |W x|^2.
    """
    return exported_whitening(matrix) if torch.compiler.is_exporting() else _whitening(matrix)


def ridged(gram: Tensor, ridge: float) -> Tensor:
    """gram + ridge I of [..., M, M]."""
    return gram + ridge * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)


def diagonal_blocks(matrix: Tensor, count: int) -> Tensor:
    """The ``count`` blocks [..., count, M, M] on the diagonal of [..., count M, count M]."""
    size = matrix.shape[-1] // count
    inside = torch.arange(size, device=matrix.device)
    row = torch.arange(count, device=matrix.device).view(-1, 1, 1) * size + inside.unsqueeze(-1)
    place = row * (count * size) + (row - inside.unsqueeze(-1) + inside)
    return matrix.flatten(-2)[..., place]


@torch.library.custom_op("causalmmm::spd_inverse", mutates_args=())
def exported_inverse(matrix: Tensor) -> Tensor:
    return _inverse(matrix)


@torch.library.custom_op("causalmmm::cholesky", mutates_args=())
def exported_cholesky(matrix: Tensor) -> Tensor:
    return _cholesky(matrix)


@torch.library.custom_op("causalmmm::whitening", mutates_args=())
def exported_whitening(matrix: Tensor) -> Tensor:
    return _whitening(matrix)


def _inverse(matrix: Tensor) -> Tensor:
    if matrix.is_cuda:  # there the other way takes one matrix after another
        white = _whitening(matrix)
        return white.mT @ white
    return torch.cholesky_inverse(_cholesky(matrix))


def _cholesky(matrix: Tensor) -> Tensor:
    if not matrix.is_cuda:
        checked: Tensor = torch.linalg.cholesky(matrix)
        return checked
    # the check would make a GPU wait after every factorisation: what has none is missing instead
    factor, failed = torch.linalg.cholesky_ex(matrix)
    return torch.where((failed > 0)[..., None, None], torch.nan, factor)


def _whitening(matrix: Tensor) -> Tensor:
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    root: Tensor = torch.linalg.solve_triangular(_cholesky(matrix), identity, upper=False)
    return root


exported_inverse.register_fake(torch.empty_like)
exported_cholesky.register_fake(torch.empty_like)
exported_whitening.register_fake(torch.empty_like)
