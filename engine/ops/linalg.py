"""Symmetric positive definite matrices: inverse, Cholesky factor, its inverse, diagonal blocks."""

from __future__ import annotations

import torch
from torch import Tensor

from causalmmm.engine.ops.export_switch import exports_whole


@exports_whole
def spd_inverse(matrix: Tensor) -> Tensor:
    """Inverse of [..., M, M]."""
    if matrix.is_cuda:  # cholesky_inverse on a GPU handles the matrices of a batch one by one
        white = _whitening(matrix)
        return white.mT @ white
    return torch.cholesky_inverse(_cholesky(matrix))


@exports_whole
def cholesky(matrix: Tensor) -> Tensor:
    """Lower triangular factor of [..., M, M]."""
    return _cholesky(matrix)


@exports_whole
def whitening(matrix: Tensor) -> Tensor:
    """Lower triangular W of [..., M, M] with ``W matrix W' = I``; ``W'W`` is the inverse.

    Costs half as much as the inverse and often replaces it: x' matrix^-1 x = |W x|^2.
    """
    return _whitening(matrix)


# What follows works on a factor that nothing else reads: the Cholesky factor of a matrix or, in an
# exported graph, where triangular systems cannot be solved, the inverse of that.


@exports_whole
def factor(matrix: Tensor) -> Tensor:
    """A factor of [..., M, M] for the functions below."""
    return _cholesky(matrix)


@exports_whole
def solve_factor(root: Tensor, right: Tensor) -> Tensor:
    """L^-1 right [..., M, K], for the matrix L L'."""
    solved: Tensor = torch.linalg.solve_triangular(root, right, upper=False)
    return solved


@exports_whole
def solve_factor_transposed(root: Tensor, right: Tensor) -> Tensor:
    """L'^-1 right [..., M, K]: of the covariance (L L')^-1 where right has that of the identity."""
    solved: Tensor = torch.linalg.solve_triangular(root.mT, right, upper=True)
    return solved


@exports_whole
def solve_matrix(root: Tensor, right: Tensor) -> Tensor:
    """(L L')^-1 right [..., M, K]."""
    return torch.cholesky_solve(right, root)


@exports_whole
def inverse_of(root: Tensor) -> Tensor:
    """(L L')^-1 [..., M, M]."""
    return torch.cholesky_inverse(root)


@exports_whole
def log_determinant(root: Tensor) -> Tensor:
    """[...]: log |L L'|."""
    return 2 * root.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def ridged(gram: Tensor, ridge: float) -> Tensor:
    """gram + ridge I of [..., M, M]."""
    return gram + ridge * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)


def diagonal_blocks(matrix: Tensor, count: int) -> Tensor:
    """The ``count`` diagonal blocks [..., count, M, M] of [..., count M, count M]."""
    size = matrix.shape[-1] // count
    inside = torch.arange(size, device=matrix.device)
    row = torch.arange(count, device=matrix.device).view(-1, 1, 1) * size + inside.unsqueeze(-1)
    flat_index = row * (count * size) + (row - inside.unsqueeze(-1) + inside)  # [count, M, M]
    return matrix.flatten(-2)[..., flat_index]


def inverse_blocks(white: Tensor, nodes: int) -> Tensor:
    """The diagonal blocks [B, N, M, M] of W'W, W = ``white`` [B, N M, N M]."""
    columns = white.mT.unflatten(1, (nodes, -1))
    return columns @ columns.mT


def _cholesky(matrix: Tensor) -> Tensor:
    if not matrix.is_cuda:
        factor: Tensor = torch.linalg.cholesky(matrix)
        return factor
    # raising would make a GPU synchronise after every factorisation; failures become NaN instead
    factor, failed = torch.linalg.cholesky_ex(matrix)
    return torch.where((failed > 0)[..., None, None], torch.nan, factor)


def _whitening(matrix: Tensor) -> Tensor:
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    white: Tensor = torch.linalg.solve_triangular(_cholesky(matrix), identity, upper=False)
    return white
