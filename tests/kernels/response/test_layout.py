"""Broadcasting, strides, threads: where the response operator reads and writes."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from response_problems import (
    Operator,
    gradients,
    needs_extension,
    panel,
)

from causalmmm.kernels import adstock_hill
from causalmmm.kernels.response import reference


@needs_extension
@pytest.mark.parametrize("min_groups", [1, 64])
@settings(max_examples=60, deadline=None)
@given(data=st.data(), steps=st.integers(1, 20))
def test_any_broadcast_and_any_strides_give_what_copies_give(
    min_groups: int, data: st.DataObject, steps: int
) -> None:
    from causalmmm.kernels.response import layout

    full = [data.draw(st.integers(1, 3)) for _ in range(data.draw(st.integers(0, 4)))]
    torch.manual_seed(0)
    inputs = []
    for position in range(5):
        shape = [size if data.draw(st.booleans()) else 1 for size in full]
        if data.draw(st.booleans()):
            shape = shape[data.draw(st.integers(0, len(shape))) :]
        time = [] if position == 4 else [steps if position == 0 or data.draw(st.booleans()) else 1]
        wide = torch.rand([2 * size for size in [*shape, *time]], dtype=torch.float64) * 0.8 + 0.1
        value = wide[tuple(slice(None, None, 2) for _ in wide.shape)]
        if value.ndim > 1 and data.draw(st.booleans()):
            value = value.mT.contiguous().mT
        inputs.append(value)
    rows = torch.broadcast_shapes(*(v.shape[:-1] for v in inputs[:4]), inputs[4].shape)
    copies = [
        v.expand((*rows, *([v.shape[-1]] if k < 4 else []))).contiguous()
        for k, v in enumerate(inputs)
    ]
    for mine, theirs in zip(adstock_hill(*inputs), adstock_hill(*copies), strict=True):
        assert torch.equal(mine, theirs)
    of_copies = gradients(adstock_hill, tuple(copies))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(layout.MIN_GROUPS, "cpu", min_groups)  # 1: rows that share x form groups
        ours = gradients(adstock_hill, tuple(inputs))
    for grad, value, wide in zip(ours, inputs, of_copies, strict=True):
        torch.testing.assert_close(grad, wide.sum_to_size(value.shape))


@needs_extension
def test_gradients_of_a_shared_row_are_summed_over_all_rows_that_read_it() -> None:
    x = torch.rand(100, 1, 30, dtype=torch.float64)  # enough rows to be visited in groups
    decay, slope, half = (torch.rand(4, 1, dtype=torch.float64) * 0.8 + 0.1 for _ in range(3))
    moving_half = torch.rand(100, 1, 30, dtype=torch.float64) + 0.2
    for inputs in ((x, decay, slope, half), (x, decay, slope, moving_half)):
        for mine, theirs in zip(
            gradients(adstock_hill, inputs), gradients(reference.adstock_hill, inputs), strict=True
        ):
            torch.testing.assert_close(mine, theirs)


@needs_extension
def test_bfloat16_gradients_are_summed_before_they_are_rounded() -> None:
    x, *rest = panel(60)
    x = x.bfloat16()
    mine = gradients(lambda *v: adstock_hill(*v)[1:], (x, *rest))
    wide = gradients(lambda *v: adstock_hill(*v)[1:], (x.float(), *rest))
    assert mine[0].dtype == torch.bfloat16
    assert torch.equal(mine[0], wide[0].bfloat16())


@needs_extension
def test_more_axes_than_the_extension_counts_are_handled() -> None:
    shape = (2, 1, 2, 1, 2, 1, 2, 1)
    other = (1, 2, 1, 2, 1, 2, 1, 2)
    x = torch.rand(*shape, 5)
    decay, slope, half = (torch.rand(*other, 1) * 0.5 + 0.2 for _ in range(3))
    torch.testing.assert_close(
        adstock_hill(x, decay, slope, half), reference.adstock_hill(x, decay, slope, half)
    )


def test_no_rows_give_empty_outputs(operator: Operator) -> None:
    x = torch.rand(0, 3, 10, requires_grad=True)
    params = [torch.rand(3, 1) for _ in range(3)]
    response, final = operator(x, *params)
    assert response.shape == (0, 3, 10)
    assert final.shape == (0, 3)
    response.sum().backward()
    assert x.grad is not None


@needs_extension
@pytest.mark.parametrize("threads", [2, 3])
def test_bits_do_not_depend_on_the_number_of_threads_or_the_run(threads: int) -> None:
    inputs = panel(100, stores=300)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = [*adstock_hill(*inputs), *gradients(adstock_hill, inputs)]
        torch.set_num_threads(threads)
        for _ in range(3):
            again = [*adstock_hill(*inputs), *gradients(adstock_hill, inputs)]
            assert all(torch.equal(a, b) for a, b in zip(alone, again, strict=True))
    finally:
        torch.set_num_threads(before)


@needs_extension
def test_rows_do_not_influence_each_other() -> None:
    x, decay, slope, half, initial = panel(33)
    whole, _ = adstock_hill(x, decay, slope, half, initial)
    alone, _ = adstock_hill(x[7:8], decay, slope[7:8], half[7:8], initial[7:8])
    assert torch.equal(whole[7:8], alone)
