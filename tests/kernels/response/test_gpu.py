"""Carry-over and saturation on a GPU: the CPU's results, the same bits every time, streams."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from causalmmm.kernels import adstock_hill
from causalmmm.kernels.response import backend, reference

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.skipif(
        torch.cuda.is_available() and backend(torch.empty(1, device="cuda")) != "compiled",
        reason="the extension is built without CUDA kernels",
    ),
]

STEPS = [1, 3, 7, 100, 128, 129, 300, 512, 700, 1024, 1500]


def panel(steps: int, moving: bool, stores: int = 300) -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(steps)
    time = steps if moving else 1
    x = torch.rand(stores, 5, 1, steps, generator=g) * 4 - 0.5
    x[torch.rand(x.shape, generator=g) < 0.3] = 0.0
    decay = torch.rand(5, 3, time, generator=g) * 0.95
    slope = torch.rand(stores, 5, 1, time, generator=g) * 2.5 + 0.7
    half = torch.rand(stores, 5, 1, time, generator=g) + 0.3
    return x, decay, slope, half, torch.rand(stores, 5, 3, generator=g)


def both(operator: object, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """Outputs and the gradients of a fixed weighting of them."""
    leaves = [v.detach().clone().requires_grad_() for v in inputs]
    outputs = operator(*leaves)  # type: ignore[operator]
    weights = [
        torch.linspace(-1, 1, v.numel(), device=v.device).reshape(v.shape).to(v.dtype)
        for v in outputs
    ]
    return [*(v.detach() for v in outputs), *torch.autograd.grad(outputs, leaves, weights)]


def relative(a: Tensor, b: Tensor) -> float:
    a, b = a.double().cpu(), b.double().cpu()
    return float((a - b).norm() / b.norm())


def rounded(inputs: tuple[Tensor, ...], seed: int) -> tuple[Tensor, ...]:
    """In float64, every value half a float32 rounding up or down."""
    g = torch.Generator().manual_seed(seed)
    sign = [torch.randint(0, 2, v.shape, generator=g) * 2 - 1 for v in inputs]
    return tuple(v.double() * (1 + s * 2.0**-24) for v, s in zip(inputs, sign, strict=True))


@pytest.mark.parametrize("moving", [False, True], ids=["constant", "moving"])
@pytest.mark.parametrize("steps", STEPS)
def test_errors_are_at_most_twice_those_of_eager_pytorch(steps: int, moving: bool) -> None:
    x, *rest = panel(steps, moving)
    inputs = (x.abs() + 0.2, *rest)  # away from zero, where the response has a kink
    exact = both(reference.adstock_hill, tuple(v.double() for v in inputs))
    on_gpu = tuple(v.cuda() for v in inputs)
    eager = both(reference.adstock_hill, on_gpu)
    for mine, theirs, truth in zip(both(adstock_hill, on_gpu), eager, exact, strict=True):
        assert relative(mine, truth) <= 2 * relative(theirs, truth) + 2e-7


@pytest.mark.parametrize("moving", [False, True], ids=["constant", "moving"])
@pytest.mark.parametrize("steps", STEPS)
def test_errors_are_those_of_rounding_or_of_eager_pytorch(steps: int, moving: bool) -> None:
    """Where a stock crosses zero the slope of the response is endless, and what rounding the inputs
    changes in one such step can outweigh all others."""
    inputs = panel(steps, moving)
    exact = both(reference.adstock_hill, tuple(v.double() for v in inputs))
    nearby = [both(reference.adstock_hill, rounded(inputs, seed)) for seed in range(4)]
    on_gpu = tuple(v.cuda() for v in inputs)
    eager = both(reference.adstock_hill, on_gpu)
    results = zip(both(adstock_hill, on_gpu), exact, eager, *nearby, strict=True)
    for mine, truth, *others in results:
        allowed = max(relative(other, truth) for other in others)
        assert relative(mine, truth) <= 2 * allowed + 2e-7


@pytest.mark.parametrize("steps", STEPS)
def test_bfloat16_is_the_rounded_float32_result(steps: int) -> None:
    x, *rest = (v.cuda() for v in panel(steps, False))
    response, final = adstock_hill(x.bfloat16(), *rest)
    wide, wide_final = adstock_hill(x.bfloat16().float(), *rest)
    assert relative(response, wide) < 3e-3
    torch.testing.assert_close(final, wide_final)


def test_every_run_gives_the_same_bits() -> None:
    inputs = tuple(v.cuda() for v in panel(512, True))
    first = both(adstock_hill, inputs)
    for _ in range(5):
        again = both(adstock_hill, inputs)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_rows_shared_by_many_are_summed_in_groups() -> None:
    x, decay, slope, half, _ = (v.cuda() for v in panel(100, False, stores=2000))
    ours = both(lambda *v: adstock_hill(*v)[:1], (x, decay, slope, half))
    plain = both(lambda *v: reference.adstock_hill(*v)[:1], (x, decay, slope, half))
    for mine, theirs in zip(ours, plain, strict=True):
        assert relative(mine, theirs) < 1e-4


def test_a_missing_value_spoils_its_row_and_no_other() -> None:
    x = torch.rand(6, 50, device="cuda")
    x[2, 20] = float("nan")
    ones = torch.ones(6, 1, device="cuda")
    response, _ = adstock_hill(x, ones * 0.5, ones, ones)
    assert response.isnan().any(-1).tolist() == [row == 2 for row in range(6)]


def test_runs_on_the_current_stream() -> None:
    inputs = tuple(v.cuda() for v in panel(100, False))
    expected = adstock_hill(*inputs)[0]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        x = inputs[0] * 1.0
        response, _ = adstock_hill(x, *inputs[1:])
    stream.synchronize()
    assert torch.equal(response, expected)


def test_is_captured_in_a_cuda_graph() -> None:
    inputs = tuple(v.cuda() for v in panel(100, False))
    adstock_hill(*inputs)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        response, _ = adstock_hill(*inputs)
    inputs[0].mul_(2.0)
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(response, adstock_hill(*inputs)[0])


def test_the_operators_keep_torchs_rules() -> None:
    inputs = [v.cuda().requires_grad_() for v in panel(6, False, stores=3)]
    torch.library.opcheck(torch.ops.causalmmm.adstock_hill.default, inputs)


def test_mixed_devices_are_refused_by_name() -> None:
    x, decay, slope, half, _ = panel(5, False)
    with pytest.raises(ValueError, match="decay is on cpu, but x is on cuda"):
        adstock_hill(x.cuda(), decay, slope.cuda(), half.cuda())
