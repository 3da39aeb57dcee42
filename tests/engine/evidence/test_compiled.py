"""The fused evidence against the plain forms in float64, on windows of many shapes."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from causalmmm.engine.evidence import mean_field, response, window_stats
from causalmmm.engine.evidence.features import CLIP, FLAT, RIDGE
from causalmmm.kernels import evidence as compiled

pytest.importorskip("causalmmm._C", reason="needs the compiled extension")

STORES = 5
SHAPES = [
    *((2, 20, 1, 1, 0), (3, 40, 3, 2, 3), (8, 100, 7, 6, 9)),
    *((9, 60, 7, 6, 15), (17, 90, 5, 6, 8)),
]


@dataclass
class Window:
    """Float64 arguments of the operators, as their plain forms name them."""

    residual: Tensor
    received: Tensor
    active: Tensor
    context_mask: Tensor
    ar_weights: Tensor
    responses: Tensor
    solver: Tensor
    basis: Tensor
    beta: Tensor
    log_noise: Tensor

    def to(self, target: torch.dtype | torch.device) -> Window:
        """Of another dtype, the masks as they are, or on another device."""
        kept = isinstance(target, torch.dtype)
        tensors = vars(self).values()
        return Window(*(x if kept and x.dtype == torch.bool else x.to(target) for x in tensors))

    def statistics(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.residual, self.received, self.active, self.context_mask

    def terms(self) -> tuple[Tensor, ...]:
        return (
            *(self.residual, self.ar_weights, self.responses, self.solver, self.basis),
            *(self.beta, self.log_noise, self.active, self.context_mask),
        )


def window(nodes: int, steps: int, components: int, terms: int) -> Window:
    """Padding, hidden blocks, pauses, a constant series and an outlier; a proper calendar."""
    rng = torch.Generator().manual_seed(nodes * steps)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    mask = torch.ones(STORES, steps, dtype=torch.bool)
    mask[0, : steps // 4] = False
    mask[1, steps // 2 : steps // 2 + 5] = False
    x = normal(STORES, nodes, steps).cumsum(-1) / 5 + normal(STORES, nodes, steps)
    x[2, 0], x[3, 1, steps // 2] = 0.0, 1e3
    active = (torch.rand(STORES, nodes, steps, generator=rng) > 0.2).double()
    active[4] = 1.0
    basis = torch.cat([torch.ones(STORES, steps, 1), normal(STORES, steps, terms)], -1)
    rows = mask[..., None] * basis
    solver = torch.linalg.solve(rows.mT @ rows + torch.eye(terms + 1), rows.mT)
    responses = torch.sigmoid(x[:, :, None, :-1] + normal(STORES, nodes, components, steps - 1))
    return Window(
        residual=x * active,
        received=x * active,
        active=active,
        context_mask=mask,
        ar_weights=0.2 * normal(nodes, 4),
        responses=responses,
        solver=solver.double(),
        basis=basis.double(),
        beta=0.3 * normal(nodes, nodes, components),
        log_noise=0.3 * normal(STORES, nodes) - 1,
    )


def assert_as_exact(found: object, plain: object, exact: object) -> None:
    """Every field is as close to float64 as the plain form in float32, within a factor of four."""
    for name, expected in vars(exact).items():
        size = expected.abs().mean() + 1e-3
        error = (getattr(found, name).cpu().double() - expected).abs() / size
        allowed = 4 * (getattr(plain, name).double() - expected).abs().max() / size
        assert error.max() <= allowed + 1e-5, f"{name}: {error.max():.1e} above {allowed:.1e}"


@pytest.mark.parametrize(("nodes", "steps", "lags", "components", "terms"), SHAPES)
def test_window_statistics(
    place: torch.device, nodes: int, steps: int, lags: int, components: int, terms: int
) -> None:
    exact = window(nodes, steps, components, terms)
    near = exact.to(torch.float32)
    assert_as_exact(
        window_stats.window_statistics(*near.to(place).statistics(), lags),
        window_stats._window_statistics(*near.statistics(), lags),
        window_stats._window_statistics(*exact.statistics(), lags),
    )


@pytest.mark.parametrize(("nodes", "steps", "lags", "components", "terms"), SHAPES)
def test_response_terms(
    place: torch.device, nodes: int, steps: int, lags: int, components: int, terms: int
) -> None:
    exact = window(nodes, steps, components, terms)
    near = exact.to(torch.float32)
    assert_as_exact(
        response.response_terms(*near.to(place).terms()),
        response._response_terms(*near.terms()),
        response._response_terms(*exact.terms()),
    )


@pytest.mark.parametrize("nodes", [1, 2, 7, 8, 17])
def test_mean_field(place: torch.device, nodes: int) -> None:
    rng = torch.Generator().manual_seed(nodes)
    side = torch.randn(STORES, nodes, 30, nodes, generator=rng, dtype=torch.float64)
    overlap = torch.einsum("bitj,bktj->bikj", side, side)
    xty = 20 * torch.randn(STORES, nodes, nodes, generator=rng, dtype=torch.float64)
    log_odds = 3 * torch.randn(nodes, nodes, generator=rng, dtype=torch.float64)
    arguments = (xty, overlap, log_odds)
    exact = mean_field.mean_field(*arguments, 0.3)
    found = mean_field.mean_field(*(x.float().to(place) for x in arguments), 0.3)
    for mine, expected in zip(found, exact, strict=True):
        torch.testing.assert_close(mine.cpu().double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_store_does_not_depend_on_the_others_or_on_the_threads(threads: int) -> None:
    near = window(5, 50, 3, 4).to(torch.float32)
    together = window_stats.window_statistics(*near.statistics(), 3)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        alone = window_stats.window_statistics(*(x[2:3] for x in near.statistics()), 3)
        nine_times = (x.repeat(9, *[1] * (x.ndim - 1)) for x in near.statistics())
        again = window_stats.window_statistics(*nine_times, 3)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(alone.edges[0], together.edges[2])
    assert torch.equal(again.edges, together.edges.repeat(9, 1, 1, 1))


def test_series_that_are_not_numbers_give_statistics_that_are_not_numbers() -> None:
    """The loss then tells, and names the store; nothing hangs or is made up."""
    near = window(3, 40, 2, 3).to(torch.float32)
    near.residual[1, 0, 10] = torch.nan  # a context row
    edges = window_stats.window_statistics(*near.statistics(), 3).edges
    assert edges[1].isnan().any()
    assert edges[[0, 2, 3, 4]].isfinite().all()


def test_the_operators_keep_torchs_rules() -> None:
    near = window(3, 30, 2, 3).to(torch.float32)
    scales = (RIDGE, CLIP, FLAT)
    terms = compiled.response_terms(*near.terms(), scales)
    for operator, arguments in (
        (torch.ops.causalmmm.window_statistics, (*near.statistics(), 3, scales)),
        (torch.ops.causalmmm.response_terms, (*near.terms(), scales)),
        (torch.ops.causalmmm.coordinate_ascent, (terms[1], terms[3], terms[1], 0.3, 2)),
    ):
        torch.library.opcheck(operator.default, arguments)


def test_a_window_shorter_than_the_lags_is_refused() -> None:
    near = window(3, 30, 2, 3).to(torch.float32)
    with pytest.raises(ValueError, match="a window must be longer than the lags"):
        window_stats.window_statistics(*near.statistics(), 30)
