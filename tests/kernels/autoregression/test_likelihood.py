"""The likelihood of one-step errors: against its formula in float64, and as torch sees it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from causalmmm.kernels.autoregression import ar_nll, reference

_C = pytest.importorskip("causalmmm._C", reason="needs the compiled extension")


def problem(stores: int, nodes: int, steps: int, lags: int) -> list[Tensor]:
    """Float64 arguments: rows in the middle of the window count, some of them for no series."""
    rng = torch.Generator().manual_seed(steps)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    target = torch.zeros(stores, steps, dtype=torch.bool)
    target[:, steps // 3 :] = True
    target[0, -1] = False
    active = (torch.rand(stores, nodes, steps, generator=rng) > 0.2).double()
    return [
        *(normal(stores, nodes, steps), normal(stores, nodes, steps - 1)),
        *(0.3 * normal(stores, nodes, lags), 0.3 * normal(stores, nodes) - 1, target, active),
    ]


@pytest.fixture(params=["portable", "avx2", "avx512"])
def level(request: pytest.FixtureRequest):
    try:
        before = _C.set_cpu_level(request.param)
    except ValueError:
        pytest.skip(f"this processor has no {request.param}")
    yield request.param
    _C.set_cpu_level(before)


def differentiated(function, arguments: list[Tensor]) -> list[Tensor]:
    """The likelihood, then the gradients of a weighted sum of it."""
    tensors = [x.clone().requires_grad_() for x in arguments[:4]]
    nll = function(*tensors, *arguments[4:])
    weight = torch.linspace(-1, 2, nll.numel(), dtype=nll.dtype).view_as(nll)
    return [nll, *torch.autograd.grad((weight * nll).sum(), tensors)]


@pytest.mark.parametrize(
    ("stores", "nodes", "steps", "lags"),
    [(1, 1, 2, 1), (2, 3, 9, 7), (3, 5, 16, 7), (40, 4, 33, 3), (2, 2, 100, 14)],
)
def test_value_and_gradients_are_those_of_the_formula(
    level: str, stores: int, nodes: int, steps: int, lags: int
) -> None:
    exact = problem(stores, nodes, steps, lags)
    near = [x.float() if x.is_floating_point() else x for x in exact]
    expected = differentiated(reference.ar_nll, exact)
    for mine, other in zip(differentiated(ar_nll, near), expected, strict=True):
        torch.testing.assert_close(mine.double(), other, rtol=2e-4, atol=2e-4)


def test_the_formula_is_a_normal_density() -> None:
    residual, message, weights, log_sd, target, active = problem(2, 3, 12, 2)
    total = torch.zeros(2, 3, dtype=torch.float64)
    for t in range(1, 12):
        own = sum(weights[..., p] * residual[..., t - 1 - p] for p in range(2) if t - 1 - p >= 0)
        law = torch.distributions.Normal(message[..., t - 1] + own, log_sd.exp())
        counted = target[:, t, None] * active[..., t]
        total -= law.log_prob(residual[..., t]) * counted
    torch.testing.assert_close(reference.ar_nll(*problem(2, 3, 12, 2)), total)


def test_threads_do_not_change_a_bit() -> None:
    near = [x.float() if x.is_floating_point() else x for x in problem(40, 8, 50, 7)]
    alone, before = differentiated(ar_nll, near), torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        together = differentiated(ar_nll, near)
    finally:
        torch.set_num_threads(before)
    for mine, other in zip(alone, together, strict=True):
        assert torch.equal(mine, other)


def test_the_operators_keep_torchs_rules() -> None:
    near = [x.float() if x.is_floating_point() else x for x in problem(2, 3, 9, 4)]
    inputs = [x.requires_grad_() for x in near[:4]] + near[4:]
    torch.library.opcheck(torch.ops.causalmmm.ar_nll.default, inputs)
    plain = [x.detach() for x in inputs]
    grad = torch.rand_like(plain[3])
    torch.library.opcheck(torch.ops.causalmmm.ar_nll_backward.default, (grad, *plain))
