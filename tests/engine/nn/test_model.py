"""The joined model: influence through edges, the objective, every ablation."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from small import MEMORY, NODES, build

from causalmmm.engine.batches.batch import Batch
from causalmmm.engine.batches.windows import Windows
from causalmmm.engine.nn.posterior import causal_probability, edge_gates, effect_noise
from causalmmm.engine.spec.calendar import Calendar, CalendarSpec
from causalmmm.engine.spec.series import SeriesData


def cross_batch(windows: Windows, seed: int = 0) -> Batch:
    return windows.cross(np.arange(3), 0.4, np.random.default_rng(seed))


def one_step(windows: Windows, prior: torch.Tensor, change: int | None) -> torch.Tensor:
    """One-step predictions under the prior's graph, after sender ``change`` was altered."""
    model = build(prior)
    batch = windows.full(np.arange(3))
    inferred = model.infer(batch)
    if change is not None:
        batch.x[:, change] *= 3.0
        altered = model.infer(batch)
        inferred.responses = altered.responses
    probability = causal_probability(inferred.posterior.edges)
    weights = model.decoder.weights(probability, torch.zeros_like(probability))
    return model.decoder.message(inferred.responses, weights)


def test_absent_edge_has_no_influence_to_the_last_bit(windows: Windows) -> None:
    prior = torch.full((NODES, NODES), 1.0)
    prior[0, 3] = 0.0
    before, after = one_step(windows, prior, None), one_step(windows, prior, 0)
    assert torch.equal(before[:, 3], after[:, 3])
    assert not torch.equal(before[:, 2], after[:, 2])


def test_forbidden_and_required_edges_are_certain(windows: Windows) -> None:
    prior = torch.full((NODES, NODES), 0.3)
    prior[1, 2], prior[0, 3] = 0.0, 1.0
    posterior = build(prior).infer(cross_batch(windows), seed=5).posterior.edges
    assert (edge_gates(posterior)[:, 1, 2] == 0).all()
    assert (edge_gates(posterior)[:, 0, 3] == 1).all()
    assert torch.isfinite(posterior.kl).all()


def test_no_series_causes_itself(windows: Windows) -> None:
    edges = build().infer(cross_batch(windows), seed=1).posterior.edges
    for table in (edge_gates(edges), causal_probability(edges)):
        assert (table.diagonal(dim1=1, dim2=2) == 0).all()


def test_the_encoder_does_not_use_target_rows(windows: Windows) -> None:
    model, batch = build(), cross_batch(windows)
    # carry-over reaches past the block, so the test alters target rows at the end of the window
    batch.context_mask[:], batch.target_mask[:] = True, False
    batch.context_mask[:, 60:], batch.target_mask[:, 60:] = False, True
    before = model.infer(batch)
    batch.x[..., 60:] = 5 * torch.rand_like(batch.x[..., 60:])
    after = model.infer(batch)
    torch.testing.assert_close(before.coefficients, after.coefficients, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        before.posterior.edges.logits, after.posterior.edges.logits, rtol=1e-4, atol=1e-4
    )


def test_divergence_from_the_prior_is_never_negative(windows: Windows) -> None:
    for seed in range(5):
        posterior = build(seed=seed).infer(cross_batch(windows, seed)).posterior.edges
        assert (posterior.kl >= -1e-4).all()


def test_a_model_with_one_prototype_has_the_textbook_divergence(windows: Windows) -> None:
    """With one prototype the mixture prior is that prototype, and KL is a sum over edges."""
    model = build(prototypes=1)
    edges = model.infer(cross_batch(windows)).posterior.edges
    p, q = model.encoder.prototypes[0].sigmoid(), causal_probability(edges)
    each = q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()
    expected = each[:, ~torch.eye(NODES, dtype=torch.bool)].sum(1)
    torch.testing.assert_close(edges.kl, expected, rtol=1e-3, atol=1e-4)


def test_an_empty_graph_leaves_the_gaussian_likelihood_of_an_autoregression(
    windows: Windows,
) -> None:
    model, batch = build(structure="empty", store_effects=False), cross_batch(windows)
    inferred = model.infer(batch)
    losses = model(batch, temperature=1.0, seed=0, noise=effect_noise(batch, 0))
    residual, ar_weights = inferred.residual.detach(), inferred.ar_weights.detach()
    total = torch.zeros(NODES)
    for b in range(3):
        for t in torch.nonzero(batch.target_mask[b]).flatten().tolist():
            for n in range(NODES):
                past = sum(ar_weights[b, n, k] * residual[b, n, t - 1 - k] for k in range(3))
                sd = inferred.log_noise[b, n].exp().item()
                z = (residual[b, n, t] - past).item() / sd
                total[n] += 0.5 * z * z + math.log(sd) + 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(losses.nll.sum(0), total, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "ablation",
    [
        {"structure": "full"},
        {"structure": "empty"},
        {"carryover": False},
        {"saturation": False},
        {"store_effects": False},
        {"lags": 0, "raw_window": 32},
        {"prototypes": 1},
        {"decays": (0.1, 0.5), "delays": (0, 3)},
    ],
    ids=lambda a: "-".join(f"{k}={v}" for k, v in a.items()),
)
def test_every_ablation_trains(windows: Windows, ablation: dict[str, object]) -> None:
    model = build(**ablation)
    batch = cross_batch(windows)
    losses = model(batch, temperature=0.7, seed=3, noise=effect_noise(batch, 3))
    losses.total.backward()
    assert torch.isfinite(losses.total)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.isfinite(g).all() for g in gradients)
    assert any(g.abs().max() > 0 for g in gradients)


def test_without_saturation_the_response_is_the_adstock(windows: Windows) -> None:
    model = build(saturation=False)
    x = windows.full(np.arange(3)).x
    decay = model.decoder.decay.detach().double()
    state = torch.rand(3, 4, decay.shape[-1], dtype=torch.float64)
    response, _ = model.decoder.respond(x, torch.zeros(3, 2), state.float())
    for t in range(x.shape[-1]):
        state = decay * state + (1 - decay) * x[..., t : t + 1].double()
        torch.testing.assert_close(response[..., t].double(), state, rtol=2e-3, atol=2e-3)


def test_context_that_varies_in_time_changes_the_response(windows: Windows) -> None:
    model, batch = build(), windows.full(np.arange(3))
    constant, _ = model.decoder.respond(batch.x, batch.context, batch.level)
    moving = batch.context.unsqueeze(-1).repeat(1, 1, batch.x.shape[-1])
    same, _ = model.decoder.respond(batch.x, moving, batch.level)
    torch.testing.assert_close(constant, same)
    moving[..., 50:] += 1.0
    moved, _ = model.decoder.respond(batch.x, moving, batch.level)
    torch.testing.assert_close(constant[..., :50], moved[..., :50])
    assert (constant[..., 50:] - moved[..., 50:]).abs().max() > 1e-3


def test_samples_depend_on_the_store_and_not_on_its_batch(windows: Windows) -> None:
    model = build()
    together = windows.full(np.arange(3))
    by_itself = windows.full(np.array([2]))
    a = model.infer(together, seed=11).posterior.edges.z[2]
    b = model.infer(by_itself, seed=11).posterior.edges.z[0]
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_bfloat16_edge_passes_leave_the_posterior_close(windows: Windows) -> None:
    model, batch = build(), windows.full(np.arange(3))
    exact = causal_probability(model.infer(batch).posterior.edges)
    with model.mixed_precision(True):
        rough = causal_probability(model.infer(batch).posterior.edges)
    assert (exact - rough).abs().max() < 0.05


def test_mixed_precision_ends_with_its_block_even_when_training_fails() -> None:
    model = build()

    def fail() -> None:
        with model.mixed_precision(True):
            assert model.narrow_edges
            raise FloatingPointError

    with pytest.raises(FloatingPointError):
        fail()
    assert not model.narrow_edges


def test_inference_of_a_store_does_not_depend_on_longer_histories_in_its_batch(
    data: SeriesData,
) -> None:
    """Padding changes neither graphs, nor effects, nor residuals."""
    offsets, start = np.array([0, 90, 180, 220]), np.array([0, 0, 50])
    short = dataclasses.replace(data, start=start, offsets=offsets)
    calendar = Calendar(CalendarSpec("D", yearly=1), data.grid)
    windows = Windows(short, calendar, 730, MEMORY)
    for structure in ("learned", "evidence"):
        model = build(structure=structure, decays=(0.2, 0.6), delays=(0, 0))
        with torch.no_grad():
            by_itself = model.infer(windows.full(np.array([2])))
            beside = model.infer(windows.full(np.array([0, 2])))
        for name in ("coefficients", "log_noise", "ar_weights", "evidence"):
            one, other = getattr(by_itself, name), getattr(beside, name)
            if name == "evidence":
                one, other = one.edges, other.edges
            torch.testing.assert_close(other[1], one[0], rtol=1e-3, atol=1e-4)
        for name in ("effect_mean", "effect_log_sd"):
            one, other = getattr(by_itself.posterior, name), getattr(beside.posterior, name)
            torch.testing.assert_close(other[1], one[0], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(
            causal_probability(beside.posterior.edges)[1],
            causal_probability(by_itself.posterior.edges)[0],
            rtol=1e-3,
            atol=1e-4,
        )
        torch.testing.assert_close(beside.residual[1, :, 50:], by_itself.residual[0])
        assert (beside.residual[1, :, :50] == 0).all()
