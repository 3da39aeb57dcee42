"""The fused calendar, prior, heads and effects against their plain forms in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from small import NODES, build
from torch import Tensor, library

from causalmmm.engine.batches.batch import Batch
from causalmmm.engine.nn.baseline import CalendarBaseline, Projection
from causalmmm.engine.nn.encoder import RelationalEncoder
from causalmmm.engine.nn.posterior import EdgePrior, edge_log_prior
from causalmmm.kernels import EdgeSample, heads

pytest.importorskip("causalmmm._C", reason="needs the compiled extension")

CPU = torch.device("cpu")
STORES = 19  # more than one run
# of opcheck, all but the one that compiles, which takes 20 s
RULES = ("test_schema", "test_autograd_registration", "test_faketensor")
GROUPS = ("intercept", "trend", *["weekly"] * 6, "control")


def batch_of(nodes: int, steps: int, dtype: torch.dtype) -> Batch:
    """Padding, a hidden block, pauses in spend, and a control that all but repeats the trend."""
    rng = torch.Generator().manual_seed(steps)
    x = torch.rand(STORES, nodes, steps, generator=rng, dtype=torch.float64) + 0.2
    x[:, 0][torch.rand(STORES, steps, generator=rng) < 0.3] = 0.0
    x[3, 0] = 0.0
    context = torch.ones(STORES, steps, dtype=torch.bool)
    context[:, steps // 2 : steps // 2 + 6] = False
    target = ~context
    context[0, :5] = False
    time = torch.arange(steps, dtype=torch.float64)
    week = [wave(2 * torch.pi * k * time / 7) for k in (1, 2, 3) for wave in (torch.sin, torch.cos)]
    trend = time / steps
    wave = trend + 1e-3 * torch.randn(steps, generator=rng, dtype=torch.float64)
    basis = torch.stack([torch.ones(steps), trend, *week, wave], -1).expand(STORES, -1, -1)
    return Batch(
        x=x.to(dtype),
        basis=basis.to(dtype),
        context=torch.zeros(STORES, 0, dtype=dtype),
        context_mask=context,
        target_mask=target,
        store=torch.arange(STORES),
    )


def calendar(nodes: int) -> CalendarBaseline:
    torch.manual_seed(nodes)
    baseline = CalendarBaseline(nodes, GROUPS)
    with torch.no_grad():
        baseline.shared.add_(0.1 * torch.randn_like(baseline.shared))
        baseline.log_ridge[-1], baseline.log_ridge[2] = -13.0, 2.0  # the first is out of bounds
    return baseline


def ramp(first: float, last: float, like: Tensor) -> Tensor:
    """Weights of a sum of all numbers of a tensor."""
    weights = torch.linspace(first, last, like.numel(), dtype=like.dtype, device=like.device)
    return weights.view_as(like)


def explained(baseline: CalendarBaseline, batch: Batch) -> list[Tensor]:
    """All that the calendar leaves, then the gradients of a weighted sum of what has some."""
    spend = torch.arange(batch.x.shape[1], device=batch.x.device) == 0
    left = baseline.explain(batch, spend)
    projection: Projection = left.projection
    parts = [left.received, left.coefficients, projection.solver, projection.spread]
    total = sum((ramp(-1, 2, x) * x).sum().double() for x in parts)
    gradients = torch.autograd.grad(total, list(baseline.parameters()))
    return [*parts, left.sent, left.active, *gradients]


def plain(function: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, *args: Any) -> Any:
    with monkeypatch.context() as patched:
        for module in ("calendar", "posterior"):
            patched.setattr(f"causalmmm.kernels.{module}.BUILT", False)
        patched.setattr("causalmmm.kernels.heads.supported", lambda edges: False)
        return function(*args)


def assert_as_exact(found: list[Tensor], plain: list[Tensor], exact: list[Tensor]) -> None:
    """Every tensor is as close to float64 as the plain form in float32, within a factor of four."""
    for index, (mine, other, expected) in enumerate(zip(found, plain, exact, strict=True)):
        size = expected.abs().max() + 1e-6
        allowed = 4 * (other.double() - expected).abs().max() / size
        error = (mine.cpu().double() - expected).abs().max() / size
        assert error <= allowed + 1e-6, f"result {index}: {error:.1e} above {allowed:.1e}"


@pytest.mark.parametrize(("nodes", "steps"), [(1, 20), (3, 37), (9, 100)])
def test_the_calendar(
    place: torch.device, nodes: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, exact = batch_of(nodes, steps, torch.float32), batch_of(nodes, steps, torch.float64)
    exact.basis = near.basis.double()  # it is ill-conditioned: rounding alone would differ
    baseline = calendar(nodes)
    assert_as_exact(
        explained(copy.deepcopy(baseline).to(place), near.to(place)),
        plain(explained, monkeypatch, baseline, near),
        explained(copy.deepcopy(baseline).double(), exact),
    )


@pytest.fixture
def encoder() -> RelationalEncoder:
    """Eight prototypes, one edge forbidden, one required, one log odds out of bounds."""
    prior = torch.full((NODES, NODES), 0.3)
    prior[0, 1], prior[1, 2] = 0.0, 1.0
    found = build(prior, prototypes=8).encoder
    with torch.no_grad():
        found.prototypes[2, 0, 3] = 11.0
        found.mixture.copy_(torch.linspace(-1, 1, 8))
    assert torch.equal(found.log_prior, edge_log_prior(prior))
    return found


def prior_of(encoder: RelationalEncoder, factor: Tensor) -> list[Tensor]:
    log_prior, kl = encoder.prior(factor, len(factor))
    finite = log_prior[~log_prior.isinf()]
    total = (ramp(-1, 1, finite) * finite).sum() + (ramp(0, 1, kl) * kl).sum()
    gradients = torch.autograd.grad(total, [encoder.prototypes, encoder.mixture])
    assert torch.equal(log_prior[:, 0, 1], encoder.log_prior[0, 1].expand(len(factor), 2))
    return [finite, kl, *gradients]


def test_the_mixture_prior(
    place: torch.device, encoder: RelationalEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    factor = 4 * torch.randn(STORES, NODES, NODES, generator=torch.Generator().manual_seed(0))
    factor[0] = 60.0  # so decisive that all prototypes but one have no share
    exact = copy.deepcopy(encoder).double()
    assert_as_exact(
        prior_of(copy.deepcopy(encoder).to(place), factor.to(place)),
        plain(prior_of, monkeypatch, encoder, factor),
        prior_of(exact, factor.double()),
    )


def pairs_of(dtype: torch.dtype, device: torch.device = CPU) -> tuple[Tensor, Tensor, Tensor]:
    """Features, node states and log prior of all pairs."""
    rng = torch.Generator().manual_seed(1)
    width = build().encoder.features
    shapes = (STORES, NODES, NODES, width), (STORES, NODES, 16), (STORES, NODES, NODES, 2)
    edges, state, prior = (torch.randn(shape, generator=rng).to(device, dtype) for shape in shapes)
    return edges, state, prior


def heads_of(
    encoder: RelationalEncoder, edges: Tensor, state: Tensor, prior: Tensor
) -> list[Tensor]:
    """What the heads say of all pairs, then the gradients of a weighted sum of it."""
    state, prior = state.requires_grad_(), prior.requires_grad_()
    found = encoder._heads(state, edges, EdgePrior(prior, prior.sum((1, 2, 3))), None)
    parts = [part for part in found if part is not None]
    layers = (
        encoder.evidence,
        encoder.effect_feature,
        encoder.effect_sender,
        encoder.effect_receiver,
    )
    weights = [weight for layer in layers for weight in layer.parameters()]
    total = sum((ramp(-1, 2, x) * x).sum() for x in parts)
    return [*parts, *torch.autograd.grad(total, [state, prior, encoder.effect_log_sd, *weights])]


def test_the_heads_of_pairs(place: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some means and deviations are at their bounds, where their gradient ends."""
    encoder = build().encoder
    with torch.no_grad():
        encoder.effect_sender.weight.mul_(5)
        encoder.effect_receiver.weight.mul_(20)
        encoder.effect_feature.weight.mul_(8)
    found = heads_of(copy.deepcopy(encoder).to(place), *pairs_of(torch.float32, place))
    assert [int((x.abs() == 3).sum()) > 0 for x in found[:4]] == [False, False, True, False]
    assert (found[3] == 1).any()
    assert_as_exact(
        found,
        plain(heads_of, monkeypatch, encoder, *pairs_of(torch.float32)),
        heads_of(copy.deepcopy(encoder).double(), *pairs_of(torch.float64)),
    )


def effects_of(dtype: torch.dtype, device: torch.device = CPU) -> list[Tensor]:
    """Sampled effects and their KL, then gradients; one pair surely has an edge, one has none."""
    rng = torch.Generator().manual_seed(0)
    shape = (STORES, NODES, NODES)
    mean, log_sd, noise = (torch.randn(shape, generator=rng).to(device, dtype) for _ in range(3))
    logits = torch.randn(*shape, 2, generator=rng).to(device, dtype)
    logits[0, 0, 1, 0], logits[0, 1, 0, 1] = -torch.inf, -torch.inf
    tensors = [x.requires_grad_() for x in (mean, log_sd, logits)]
    posterior = type("", (), {"effect_mean": mean, "effect_log_sd": log_sd})()
    posterior.edges = EdgeSample(logits, logits, logits)
    effect, kl = build()._draw_effects(posterior, noise)
    total = (ramp(-1, 1, effect) * effect).sum() + 0.7 * kl.sum()
    gradients = torch.autograd.grad(total, tensors)
    gradients[2].nan_to_num_(0.0)  # of the plain form, where a logit is infinite
    return [effect, kl, *gradients]


def test_sampled_effects(place: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_as_exact(
        effects_of(torch.float32, place),
        plain(effects_of, monkeypatch, torch.float32),
        effects_of(torch.float64),
    )


def test_threads_do_not_change_a_bit(encoder: RelationalEncoder) -> None:
    batch, factor = batch_of(3, 37, torch.float32), torch.randn(STORES, NODES, NODES)
    alone = [*explained(calendar(3), batch), *prior_of(encoder, factor)]
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        together = [*explained(calendar(3), batch), *prior_of(encoder, factor)]
    finally:
        torch.set_num_threads(before)
    for mine, other in zip(alone, together, strict=True):
        assert torch.equal(mine, other)


def test_the_operators_keep_torchs_rules(encoder: RelationalEncoder) -> None:
    batch, baseline = batch_of(3, 20, torch.float32), calendar(3)
    series = (batch.x, batch.basis, batch.context_mask, batch.target_mask)
    spend = torch.tensor([True, False, False])
    pairs = torch.randn(STORES, NODES, NODES)
    mean, log_sd, noise = (torch.randn_like(pairs).requires_grad_(k < 2) for k in range(3))
    logits = torch.randn(*pairs.shape, 2, requires_grad=True)
    operators = torch.ops.causalmmm
    for operator, arguments in (
        (operators.calendar_residuals, (*series, spend, baseline.shared, baseline.log_ridge)),
        (
            operators.mixture_prior,
            (encoder.prototypes, encoder.mixture, pairs, encoder.log_prior, 9.0),
        ),
        (operators.sampled_effects, (mean, log_sd, logits, noise, 0.3)),
    ):
        library.opcheck(operator.default, arguments, test_utils=RULES)


def test_the_heads_keep_torchs_rules(place: torch.device) -> None:
    encoder, (edges, state, prior) = build().encoder.to(place), pairs_of(torch.float32, place)
    if not heads.supported(edges):
        return
    both = encoder.effect_sender(state), encoder.effect_receiver(state)
    evidence, shift = encoder.evidence, encoder.effect_feature
    library.opcheck(
        torch.ops.causalmmm.pair_heads.default,
        (edges, *both, prior, evidence.weight, evidence.bias, shift.weight, encoder.effect_log_sd),
        test_utils=RULES,
    )
