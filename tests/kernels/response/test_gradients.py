"""Gradients of the response operator against finite differences and the reference."""

from __future__ import annotations

import pytest
import torch
from response_problems import (
    Operator,
    gradients,
    levels,
    needs_extension,
    on_level,
    panel,
    relative,
)

from causalmmm.kernels.response import reference


@pytest.mark.parametrize("moving", [False, True], ids=["constant", "moving"])
def test_gradients_in_float64_pass_gradcheck(operator: Operator, moving: bool) -> None:
    # away from zero, where the response has a kink for slopes below one
    x, *rest = panel(7, moving=moving, dtype=torch.float64, stores=2)
    inputs = [v.requires_grad_() for v in (x.abs() + 0.2, *rest)]
    assert torch.autograd.gradcheck(operator, inputs)


@needs_extension
@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize("steps", [1, 5, 8, 33, 100])
@pytest.mark.parametrize(
    "moving", [(), (1,), (2,), (3,), (1, 2, 3)], ids=["none", "decay", "slope", "half", "all"]
)
def test_gradients_agree_with_the_reference(
    level: str, steps: int, moving: tuple[int, ...]
) -> None:
    wide, narrow = panel(steps, moving=True, stores=80), panel(steps, stores=80)
    inputs = tuple(wide[k] if k in moving else narrow[k] for k in range(5))
    expected = gradients(reference.adstock_hill, tuple(v.double() for v in inputs))
    with on_level(level) as operator:
        computed = gradients(operator, inputs)
    for mine, truth, value in zip(computed, expected, inputs, strict=True):
        assert mine.shape == value.shape
        assert relative(mine, truth) < 1e-4


def test_no_stock_no_gradient(operator: Operator) -> None:
    x = torch.zeros(1, 12, requires_grad=True)
    params = [torch.tensor([[v]], requires_grad=True) for v in (0.5, 0.3, 1.0)]
    response, _ = operator(x, *params)
    for grad in torch.autograd.grad(response.sum(), [x, *params]):
        assert not grad.any()


def test_gradients_only_of_what_asks_for_them(operator: Operator) -> None:
    x, decay, slope, half, initial = panel(20)
    decay.requires_grad_()
    response, _ = operator(x, decay, slope, half, initial)
    response.sum().backward()
    assert decay.grad is not None
    assert decay.grad.shape == decay.shape
    assert x.grad is None
