"""The likelihood of one-step errors: against its formula in float64, and as torch sees it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, library

from causalmmm.kernels.likelihood import reference, response_nll

pytest.importorskip("causalmmm._C", reason="needs the compiled extension")

DIFFERENTIABLE = (0, 1, 2, 3, 4, 5, 7, 8)  # all but the basis and the masks


def problem(
    stores: int, nodes: int, steps: int, lags: int, components: int = 2, terms: int = 3
) -> list[Tensor]:
    """Float64 arguments: padding, a hidden block, and rows that count for no series."""
    rng = torch.Generator().manual_seed(steps)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    target = torch.zeros(stores, steps, dtype=torch.bool)
    target[:, steps // 3 :] = True
    context = ~target
    if steps > 8:
        context[0, :2] = False  # padding: the history begins at its third row
    target[0, -1] = False
    active = (torch.rand(stores, nodes, steps, generator=rng) > 0.2).double()
    return [
        *(normal(stores, nodes, steps), normal(stores, nodes, components, steps - 1)),
        *(torch.rand(stores, nodes, nodes, generator=rng, dtype=torch.float64),),
        *(0.3 * normal(stores, nodes, nodes), normal(nodes, nodes, components)),
        *(0.2 * normal(stores, terms, steps), normal(stores, steps, terms)),
        *(0.3 * normal(stores, nodes, lags), 0.3 * normal(stores, nodes) - 1),
        *(context, target, active),
    ]


def single(arguments: list[Tensor]) -> list[Tensor]:
    return [x.float() if x.is_floating_point() else x for x in arguments]


def differentiated(function, arguments: list[Tensor]) -> list[Tensor]:
    """The likelihood, then the gradients of a weighted sum of it."""
    inputs = [x.detach().clone() for x in arguments]
    tensors = [inputs[k].requires_grad_() for k in DIFFERENTIABLE]
    nll = function(*inputs)
    weight = torch.linspace(-1, 2, nll.numel(), dtype=nll.dtype, device=nll.device).view_as(nll)
    return [nll, *torch.autograd.grad((weight * nll).sum(), tensors)]


@pytest.mark.parametrize(
    ("stores", "nodes", "steps", "lags", "components", "terms"),
    [
        (1, 1, 2, 1, 1, 1),
        (2, 3, 9, 7, 2, 4),
        (3, 5, 16, 7, 6, 8),
        (20, 4, 33, 3, 2, 9),
        (2, 9, 100, 14, 6, 17),
    ],
)
def test_value_and_gradients_are_those_of_the_formula(
    place: torch.device, stores: int, nodes: int, steps: int, lags: int, components: int, terms: int
) -> None:
    exact = problem(stores, nodes, steps, lags, components, terms)
    expected = differentiated(reference.response_nll, exact)
    plain = differentiated(reference.response_nll, single(exact))
    found = differentiated(response_nll, [x.to(place) for x in single(exact)])
    for mine, other, float64 in zip(found, plain, expected, strict=True):
        size = float64.abs().max() + 1e-3
        allowed = 4 * (other.double() - float64).abs().max() / size
        assert (mine.cpu().double() - float64).abs().max() / size <= allowed + 2e-6


def test_the_formula_is_a_normal_density() -> None:
    """One store, receiver by receiver and step by step, its calendar by the solver's own rows."""
    arguments = problem(2, 3, 12, 2)
    residual, responses, gate, effect, beta, solver, basis, weights, log_sd = arguments[:9]
    context, target, active = arguments[9:]
    total = torch.zeros(2, 3, dtype=torch.float64)
    for b in range(2):
        rows = [t for t in range(11) if context[b, t + 1] and context[b, : t + 1].any()]
        for j in range(3):
            message = sum(
                gate[b, i, j] * effect[b, i, j].exp() * beta[i, j] @ responses[b, i]
                for i in range(3)
            )
            level = sum(solver[b, :, t + 1] * message[t] for t in rows)
            for t in range(1, 12):
                past = sum(weights[b, j, p] * residual[b, j, t - 1 - p] for p in range(min(2, t)))
                mean = message[t - 1] - basis[b, t] @ level + past
                law = torch.distributions.Normal(mean, log_sd[b, j].exp())
                if target[b, t] and active[b, j, t]:
                    total[b, j] -= law.log_prob(residual[b, j, t])
    torch.testing.assert_close(reference.response_nll(*arguments), total)


def test_threads_do_not_change_a_bit() -> None:
    near = single(problem(40, 8, 50, 7))
    alone, before = differentiated(response_nll, near), torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        together = differentiated(response_nll, near)
    finally:
        torch.set_num_threads(before)
    for mine, other in zip(alone, together, strict=True):
        assert torch.equal(mine, other)


def test_the_operators_keep_torchs_rules() -> None:
    inputs = single(problem(2, 3, 9, 4))
    library.opcheck(
        torch.ops.causalmmm.response_nll.default,
        tuple(x.requires_grad_() if k in DIFFERENTIABLE else x for k, x in enumerate(inputs)),
    )
    plain = [x.detach() for x in inputs]
    grad = torch.rand_like(plain[8])
    library.opcheck(torch.ops.causalmmm.response_nll_backward.default, (grad, *plain))
