"""Inverses and factors under their own names are those of linear algebra."""

from __future__ import annotations

import torch

from causalmmm.engine.ops.linalg import cholesky, spd_inverse, whitening


def test_inverse_and_factors_agree_with_their_definitions() -> None:
    torch.manual_seed(0)
    root = torch.randn(3, 9, 9, dtype=torch.float64)
    matrix = root @ root.mT + torch.eye(9, dtype=torch.float64)
    identity = torch.eye(9, dtype=torch.float64).expand(3, 9, 9)
    torch.testing.assert_close(matrix @ spd_inverse(matrix), identity)
    white = whitening(matrix)
    torch.testing.assert_close(white @ matrix @ white.mT, identity)
    assert torch.equal(white, white.tril())
    factor = cholesky(matrix)
    torch.testing.assert_close(factor @ factor.mT, matrix)
    assert torch.equal(factor, factor.tril())
