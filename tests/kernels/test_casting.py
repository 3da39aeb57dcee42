"""Casts of many tensors at once: values and gradients of casts one by one, in one operator."""

from __future__ import annotations

import torch
from bench.system.training import Launches

from causalmmm.kernels.casting import cast


def leaves() -> list[torch.Tensor]:
    """One of them has gaps, as a transposed weight has."""
    rng = torch.Generator().manual_seed(0)
    shapes = (3, 5), (5,), (2, 3, 4)
    made = [torch.randn(shape, generator=rng) for shape in shapes]
    return [made[0].T.requires_grad_(), *(x.requires_grad_() for x in made[1:])]


def test_values_and_gradients_are_those_of_casts_one_by_one() -> None:
    together, single = leaves(), leaves()
    narrow = cast(together, torch.bfloat16)
    expected = [x.to(torch.bfloat16) for x in single]
    for mine, other in zip(narrow, expected, strict=True):
        assert torch.equal(mine, other)
        assert mine.dtype == torch.bfloat16
    (narrow[0].square().sum() + narrow[2].sum()).backward()  # the second has no part in it
    (expected[0].square().sum() + expected[2].sum()).backward()
    assert together[1].grad is None
    for k in (0, 2):
        assert together[k].grad.dtype == torch.float32
        assert torch.equal(together[k].grad, single[k].grad)


def test_tensors_of_that_dtype_stay_as_they_are() -> None:
    given = leaves()
    assert all(mine is other for mine, other in zip(cast(given, torch.float32), given, strict=True))


def test_each_way_is_one_operator() -> None:
    given = leaves()
    with Launches() as forward:
        narrow = cast(given, torch.bfloat16)
    grads = [torch.ones_like(x) for x in narrow]
    with Launches() as backward:
        torch.autograd.grad(narrow, given, grads)
    assert forward.counts.total() == backward.counts.total() == 1
