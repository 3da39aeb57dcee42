"""Carry-over and saturation: responses and stocks against the definition."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from response_problems import (
    Operator,
    gradients,
    levels,
    needs_extension,
    on_level,
    oracle,
    panel,
    relative,
)

from causalmmm.kernels.response import reference


@pytest.mark.parametrize("moving", [False, True], ids=["constant", "moving"])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 8, 9, 16, 31, 100])
def test_response_and_final_stock_follow_the_definition(
    operator: Operator, steps: int, moving: bool
) -> None:
    inputs = panel(steps, moving=moving)
    response, final = operator(*inputs)
    expected_response, expected_final, _ = oracle(*inputs)
    assert response.shape == (40, 5, 3, steps)
    assert final.shape == (40, 5, 3)
    np.testing.assert_allclose(response.numpy(), expected_response, atol=4e-6)
    np.testing.assert_allclose(final.numpy(), expected_final, rtol=2e-6, atol=1e-6)


def test_float64_agrees_to_the_last_digits(operator: Operator) -> None:
    inputs = panel(50, moving=True, dtype=torch.float64)
    np.testing.assert_allclose(operator(*inputs)[0].numpy(), oracle(*inputs)[0], atol=1e-12)


def test_bfloat16_is_computed_in_float32(operator: Operator) -> None:
    x, *rest = panel(60)
    x = x.bfloat16()
    response, final = operator(x, *rest)
    wide, wide_final = operator(x.float(), *rest)
    assert response.dtype == torch.bfloat16
    assert final.dtype == torch.float32
    assert torch.equal(response, wide.bfloat16())
    assert torch.equal(final, wide_final)


def test_constant_spend_at_half_saturation_gives_half_the_response(operator: Operator) -> None:
    level = torch.full((1, 20), 3.0)
    decay, slope, half = (torch.tensor([[v]]) for v in (0.8, 2.5, 3.0))
    response, final = operator(level, decay, slope, half, torch.tensor([3.0]))
    torch.testing.assert_close(response, torch.full((1, 20), 0.5))
    torch.testing.assert_close(final, torch.tensor([3.0]))


def test_response_is_odd_in_exposure(operator: Operator) -> None:
    x, *rest, initial = panel(40)
    assert torch.equal(operator(-x, *rest, -initial)[0], -operator(x, *rest, initial)[0])


def test_no_decay_means_no_memory(operator: Operator) -> None:
    x = torch.tensor([[5.0, 0.0, 0.0, 1.0]])
    one = torch.ones(1, 1)
    response, final = operator(x, torch.zeros(1, 1), one, one)
    torch.testing.assert_close(response, x / (1 + x))
    assert final.item() == 1.0


def test_long_series_in_pieces_give_the_same_as_in_one(operator: Operator) -> None:
    x, decay, slope, half, initial = panel(64)
    whole, end = operator(x, decay, slope, half, initial)
    state, pieces = initial, []
    for piece in x.split([1, 16, 40, 7], dim=-1):
        response, state = operator(piece, decay, slope, half, state)
        pieces.append(response)
    torch.testing.assert_close(torch.cat(pieces, -1), whole, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(state, end, atol=1e-6, rtol=1e-5)


def test_a_missing_value_spoils_its_row_from_there_on_and_no_other(operator: Operator) -> None:
    x = torch.rand(6, 50)
    x[2, 20] = float("nan")
    ones = torch.ones(6, 1)
    response, final = operator(x, ones * 0.5, ones, ones)
    assert response.isnan().any(-1).tolist() == [row == 2 for row in range(6)]
    assert response[2].isnan()[20:].all()
    assert final.isnan().tolist() == [row == 2 for row in range(6)]


def test_infinite_exposure_saturates(operator: Operator) -> None:
    x = torch.tensor([[1.0, float("inf"), 1.0]])
    response, final = operator(x, *(torch.tensor([[v]]) for v in (0.5, 1.0, 1.0)))
    torch.testing.assert_close(response, torch.tensor([[1 / 3, 1.0, 1.0]]))
    assert final.item() == float("inf")


def test_subnormal_stocks_count_as_zero(operator: Operator) -> None:
    x = torch.tensor([[1e-39, -1e-40, 0.0, 0.0]], requires_grad=True)
    ones = torch.ones(1, 1)
    response, _ = operator(x, ones * 0.5, ones * 0.05, ones)
    (grad,) = torch.autograd.grad(response.sum(), x)
    assert response.tolist() == [[0.0] * 4]
    assert grad.tolist() == [[0.0] * 4]


@needs_extension
@pytest.mark.parametrize("level", levels())
@settings(max_examples=60, deadline=None)
@given(
    x=st.lists(
        st.sampled_from([0.0, 1e-45, 1e-38, 1e-20, 1.0, 1e20, 1e35]) | st.floats(0, 100, width=32),
        min_size=1,
        max_size=40,
    ),
    decay=st.sampled_from([0.0, 1e-6, 0.9999]) | st.floats(0, 0.9990234375, width=32),
    slope=st.sampled_from([0.05, 50.0]) | st.floats(0.0625, 50, width=32),
    half=st.sampled_from([1e-25, 1e25]) | st.floats(0.0009765625, 1000, width=32),
    initial=st.sampled_from([0.0, 1e-38, 1e35]) | st.floats(0, 100, width=32),
)
@example(x=[0.0] * 9, decay=0.9999, slope=50.0, half=1.0, initial=0.0)
@example(x=[1e35] * 9, decay=0.9999, slope=50.0, half=1e-25, initial=1e35)
@example(x=[2.2e-16], decay=0.0, slope=0.05, half=1e-25, initial=1e35)  # d decay is some 1e49
@example(x=[0.0] * 7, decay=1e-6, slope=50.0, half=1e25, initial=1e35)  # decay^7 is subnormal
def test_extreme_parameters_stay_finite_and_right(
    level: str, x: list[float], decay: float, slope: float, half: float, initial: float
) -> None:
    row, start = torch.tensor([x], requires_grad=True), torch.tensor([initial], requires_grad=True)
    params = [torch.tensor([[v]], requires_grad=True) for v in (decay, slope, half)]
    with on_level(level) as operator:
        response, final = operator(row, *params, start)
        grads = torch.autograd.grad(response.sum() + final.sum(), [row, *params, start])
    exact = [v.detach().double().requires_grad_() for v in (row, *params, start)]
    true = torch.autograd.grad(sum(v.sum() for v in reference.adstock_hill(*exact)), exact)

    expected, expected_final, stocks = oracle(row, *params, start)
    # Near the smallest number a stock may count as zero or not, and so may what is left of a larger
    # one; elsewhere the logarithm of the ratio is known to some 3e-7 of its parts, and the slope
    # multiplies that.
    lost = float(torch.finfo(torch.float32).tiny) * (sum(x) + initial)
    settled = stocks[0] > 1e-30 + 1e7 * lost
    parts = 2 + np.abs(np.log(np.maximum(stocks[0], 1e-30))) + abs(np.log(half))
    error = np.abs(response.detach().numpy()[0] - expected[0])
    assert (error <= 1e-6 + slope * 3e-7 * parts)[settled].all()
    assert ((response >= 0) & (response <= 1)).all()
    assert abs(final.item() - expected_final[0]) <= 3e-6 * expected_final[0] + 1e-36 + lost
    largest = torch.finfo(torch.float32).max
    if (settled | (stocks[0] <= 1e-30)).all():  # else gradients are those at another stock
        for computed, wanted in zip(grads, true, strict=True):
            assert (computed.isfinite() | (wanted.abs() > 0.99 * largest)).all()


@needs_extension
@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize("moving", [False, True], ids=["constant", "moving"])
def test_errors_are_at_most_twice_those_of_eager_pytorch(level: str, moving: bool) -> None:
    inputs = panel(100, moving=moving)
    exact_inputs = tuple(v.double() for v in inputs)
    exact = [
        *reference.adstock_hill(*exact_inputs),
        *gradients(reference.adstock_hill, exact_inputs),
    ]
    eager = [*reference.adstock_hill(*inputs), *gradients(reference.adstock_hill, inputs)]
    with on_level(level) as operator:
        ours = [*operator(*inputs), *gradients(operator, inputs)]
    for mine, theirs, truth in zip(ours, eager, exact, strict=True):
        assert relative(mine, truth) <= 2 * relative(theirs, truth) + 1e-7
