"""Carry-over and saturation: values, gradients, state, broadcasting and refusals.

The oracle is the definition, one step at a time in float64. It shares nothing with the operator but
the rule that a stock below the smallest normal number of the dtype counts as zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from torch import Tensor

from causalmmm.kernels import adstock_hill
from causalmmm.kernels.response import backend, reference

try:
    from causalmmm import _C
except ImportError:
    _C = None  # type: ignore[assignment]

needs_extension = pytest.mark.skipif(_C is None, reason="the extension is not built")

Operator = Callable[..., tuple[Tensor, Tensor]]


def _levels() -> list[str]:
    """The instruction sets that this processor can run."""
    if _C is None:
        return []
    order = ["portable", "avx2", "avx512"]
    return order[: order.index(_C.build_info()["cpu_level"]) + 1]


@contextmanager
def _on(level: str) -> Iterator[Operator]:
    if level == "reference":
        yield reference.adstock_hill
        return
    before = _C.set_cpu_level(level)
    try:
        yield adstock_hill
    finally:
        _C.set_cpu_level(before)


@pytest.fixture(params=[*_levels(), "reference"])
def operator(request: pytest.FixtureRequest) -> Iterator[Operator]:
    """The public function on every instruction set of this processor, and the reference."""
    with _on(request.param) as chosen:
        yield chosen


def oracle(
    x: Tensor, decay: Tensor, slope: Tensor, half: Tensor, initial: Tensor | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Response, final stock and all stocks."""
    tiny = np.finfo(float if x.dtype == torch.float64 else np.float32).tiny
    steps = x.shape[-1]
    leading = [v.shape[:-1] for v in (x, decay, slope, half)]
    leading += [] if initial is None else [initial.shape]
    rows = torch.broadcast_shapes(*leading)

    def spread(v: Tensor) -> np.ndarray:
        return v.detach().double().expand(*rows, v.shape[-1]).expand(*rows, steps).numpy()

    xs, ds, ss, ks = spread(x), spread(decay), spread(slope), spread(half)
    stock = np.zeros(rows) if initial is None else initial.detach().double().expand(rows).numpy()
    stocks, response = np.zeros((*rows, steps)), np.zeros((*rows, steps))
    for t in range(steps):
        stock = stocks[..., t] = ds[..., t] * stock + (1 - ds[..., t]) * xs[..., t]
        absent = np.abs(stock) < tiny
        ratio = np.log(np.where(absent, 1.0, np.abs(stock))) - np.log(ks[..., t])
        with np.errstate(over="ignore"):
            size = 1 / (1 + np.exp(-ss[..., t] * ratio))
        response[..., t] = np.where(absent, 0.0, np.sign(stock) * size)
    return response, stock, stocks


def panel(
    steps: int, *, moving: bool = False, dtype: torch.dtype = torch.float32, stores: int = 40
) -> tuple[Tensor, ...]:
    """Inputs as the model passes them: stores, 5 nodes, 3 components."""
    g = torch.Generator().manual_seed(steps)
    time = steps if moving else 1
    x = torch.rand(stores, 5, 1, steps, generator=g, dtype=torch.float64) * 4 - 0.5
    x[torch.rand(x.shape, generator=g) < 0.3] = 0.0
    decay = torch.rand(5, 3, time, generator=g, dtype=torch.float64) * 0.95
    slope = torch.rand(stores, 5, 1, time, generator=g, dtype=torch.float64) * 2.5 + 0.7
    half = torch.rand(stores, 5, 1, time, generator=g, dtype=torch.float64) + 0.3
    initial = torch.rand(stores, 5, 3, generator=g, dtype=torch.float64)
    return tuple(v.to(dtype) for v in (x, decay, slope, half, initial))


def gradients(operator: Operator, inputs: tuple[Tensor, ...], seed: int = 0) -> list[Tensor]:
    """Of a fixed random weighting of both outputs, with respect to all inputs."""
    leaves = [v.detach().requires_grad_() for v in inputs]
    outputs = operator(*leaves)
    g = torch.Generator().manual_seed(seed)
    weights = [torch.randn(v.shape, generator=g, dtype=torch.float64).to(v) for v in outputs]
    return list(torch.autograd.grad(outputs, leaves, weights))


def relative(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


# --- values ---------------------------------------------------------------------------------------


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
@pytest.mark.parametrize("level", _levels())
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
    with _on(level) as operator:
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
        for found, wanted in zip(grads, true, strict=True):
            assert (found.isfinite() | (wanted.abs() > 0.99 * largest)).all()


@needs_extension
@pytest.mark.parametrize("level", _levels())
@pytest.mark.parametrize("moving", [False, True], ids=["constant", "moving"])
def test_errors_are_at_most_twice_those_of_eager_pytorch(level: str, moving: bool) -> None:
    inputs = panel(100, moving=moving)
    exact_inputs = tuple(v.double() for v in inputs)
    exact = [
        *reference.adstock_hill(*exact_inputs),
        *gradients(reference.adstock_hill, exact_inputs),
    ]
    eager = [*reference.adstock_hill(*inputs), *gradients(reference.adstock_hill, inputs)]
    with _on(level) as operator:
        ours = [*operator(*inputs), *gradients(operator, inputs)]
    for mine, theirs, truth in zip(ours, eager, exact, strict=True):
        assert relative(mine, truth) <= 2 * relative(theirs, truth) + 1e-7


# --- gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("moving", [False, True], ids=["constant", "moving"])
def test_gradients_in_float64_pass_gradcheck(operator: Operator, moving: bool) -> None:
    # away from zero, where the response has a kink for slopes below one
    x, *rest = panel(7, moving=moving, dtype=torch.float64, stores=2)
    inputs = [v.requires_grad_() for v in (x.abs() + 0.2, *rest)]
    assert torch.autograd.gradcheck(operator, inputs)


@needs_extension
@pytest.mark.parametrize("level", _levels())
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
    with _on(level) as operator:
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


# --- broadcasting and memory ----------------------------------------------------------------------


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


# --- as a PyTorch operator ------------------------------------------------------------------------


@needs_extension
@pytest.mark.parametrize("moving", [False, True], ids=["constant", "moving"])
def test_the_operators_keep_torchs_rules(moving: bool) -> None:
    x, decay, slope, half, initial = panel(6, moving=moving, stores=3)
    for state in (None, initial):
        inputs = [
            v if v is None else v.clone().requires_grad_() for v in (x, decay, slope, half, state)
        ]
        torch.library.opcheck(torch.ops.causalmmm.adstock_hill.default, inputs)
        response, final = adstock_hill(*inputs)
        plain = [v if v is None else v.detach() for v in inputs]
        torch.library.opcheck(
            torch.ops.causalmmm.adstock_hill_backward.default,
            (
                torch.rand_like(response),
                torch.rand_like(final),
                *plain,
                [True, True, False, True, state is not None],
            ),
        )


@needs_extension
def test_compiles_as_one_graph_with_the_same_result_and_gradients() -> None:
    inputs = panel(24, stores=4)
    compiled = torch.compile(adstock_hill, fullgraph=True)
    for mine, theirs in zip(compiled(*inputs), adstock_hill(*inputs), strict=True):
        torch.testing.assert_close(mine, theirs)
    for mine, theirs in zip(
        gradients(compiled, inputs), gradients(adstock_hill, inputs), strict=True
    ):
        torch.testing.assert_close(mine, theirs)


@needs_extension
def test_the_extension_is_used_where_it_can_be() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        assert backend(torch.empty(1, dtype=dtype)) == "compiled"
    assert backend(torch.empty(1, dtype=torch.float16)) == "reference"
    if not _C.build_info()["cuda"]:
        assert backend(torch.empty(1, device="meta")) == "reference"


# --- refusals -------------------------------------------------------------------------------------


def _ones(**other: Tensor) -> dict[str, Tensor]:
    names = ("x", "decay", "slope", "half_saturation")
    sizes = ((2, 5), (2, 1), (2, 1), (2, 1))
    return {n: torch.full(s, 0.5) for n, s in zip(names, sizes, strict=True)} | other


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"x": torch.ones(2, 0)}, ValueError, "at least one time step"),
        ({"x": torch.tensor(1.0)}, ValueError, "at least one time step"),
        ({"x": torch.ones(2, 5, dtype=torch.int64)}, TypeError, "x must be floating point"),
        ({"decay": torch.ones(2, 4)}, ValueError, "last axis of decay must be 1 or 5"),
        ({"slope": torch.tensor(1.0)}, ValueError, "last axis of slope"),
        ({"half_saturation": torch.ones(2, 3)}, ValueError, "last axis of half_saturation"),
        ({"decay": torch.ones(3, 1)}, ValueError, "do not broadcast"),
        ({"initial": torch.ones(3)}, ValueError, "do not broadcast"),
        ({"initial": torch.ones(2, device="meta")}, ValueError, "initial is on meta, but x is on"),
    ],
)
def test_a_wrong_argument_is_named(
    wrong: dict[str, Tensor], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        adstock_hill(**_ones(**wrong))


@needs_extension
def test_the_bare_operator_names_a_wrong_dtype() -> None:
    x, decay, slope, half = _ones().values()
    with pytest.raises(TypeError, match=r"slope must be torch\.float32 for torch\.float32 x"):
        torch.ops.causalmmm.adstock_hill(x, decay, slope.double(), half, None)


@needs_extension
def test_importing_the_operators_twice_is_refused() -> None:
    import importlib.util

    from causalmmm.kernels.response import op

    second = importlib.util.spec_from_file_location("second_copy", op.__file__)
    assert second is not None
    assert second.loader is not None
    with pytest.raises(ImportError, match="already registered"):
        second.loader.exec_module(importlib.util.module_from_spec(second))


@needs_extension
def test_an_instruction_set_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="no cpu level 'mmx'"):
        _C.set_cpu_level("mmx")
    if "avx512" not in _levels():
        with pytest.raises(ValueError, match="'avx512' is not available"):
            _C.set_cpu_level("avx512")


@needs_extension
@pytest.mark.skipif(_C is not None and _C.build_info()["cuda"], reason="built with CUDA")
def test_a_build_without_cuda_says_so() -> None:
    with pytest.raises(_C.CudaError, match="built without CUDA kernels; reinstall"):
        _C.response_forward_cuda()
