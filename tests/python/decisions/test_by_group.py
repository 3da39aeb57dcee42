"""Sums over groups of stores against the same sum in one piece, values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from causalmmm.decisions.by_group import Part, summed

DRAWS, STORES = 4, 7


def part_of(weight: Tensor) -> Part:
    return lambda money: (weight.unsqueeze(-1) * money.square().sum(1)).sum(-1).sin()


@pytest.mark.parametrize("threads", [1, 2])
def test_values_and_gradients_are_those_of_one_piece(threads: int) -> None:
    rng = torch.Generator().manual_seed(0)
    money = torch.rand(STORES, 3, 5, generator=rng, dtype=torch.float64)
    weight = torch.rand(DRAWS, STORES, generator=rng, dtype=torch.float64)
    rows = [torch.tensor([1, 4, 6]), torch.tensor([0]), torch.tensor([5, 3, 2])]
    parts = [part_of(weight[:, some]) for some in rows]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        once = money.clone().requires_grad_()
        found = summed(parts, rows, once)
        (slope,) = torch.autograd.grad(found.quantile(0.3), once)
        with torch.no_grad():
            assert torch.equal(summed(parts, rows, once), found)
    finally:
        torch.set_num_threads(before)
    whole = money.clone().requires_grad_()
    expected = part_of(weight)(whole).sum(1)
    (expected_slope,) = torch.autograd.grad(expected.quantile(0.3), whole)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(slope, expected_slope)
