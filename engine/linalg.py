"""Symmetric positive definite matrices: inverse, Cholesky factor, solution.

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
    return torch.cholesky_inverse(torch.linalg.cholesky(matrix))


def cholesky(matrix: Tensor) -> Tensor:
    """Lower triangular factor of [..., M, M]."""
    return exported_cholesky(matrix) if torch.compiler.is_exporting() else _cholesky(matrix)


def spd_solve(matrix: Tensor, right: Tensor) -> Tensor:
    """``matrix^-1 right`` of [..., M, M] and [..., M, R]."""
    if torch.compiler.is_exporting():
        return exported_solve(matrix, right)
    return torch.linalg.solve(matrix, right)


@torch.library.custom_op("causalmmm::spd_inverse", mutates_args=())
def exported_inverse(matrix: Tensor) -> Tensor:
    return torch.cholesky_inverse(torch.linalg.cholesky(matrix))


@torch.library.custom_op("causalmmm::cholesky", mutates_args=())
def exported_cholesky(matrix: Tensor) -> Tensor:
    return _cholesky(matrix)


@torch.library.custom_op("causalmmm::spd_solve", mutates_args=())
def exported_solve(matrix: Tensor, right: Tensor) -> Tensor:
    return torch.linalg.solve(matrix, right)


def _cholesky(matrix: Tensor) -> Tensor:
    factor: Tensor = torch.linalg.cholesky(matrix)
    return factor


exported_inverse.register_fake(torch.empty_like)
exported_cholesky.register_fake(torch.empty_like)
exported_solve.register_fake(lambda matrix, right: torch.empty_like(right))
