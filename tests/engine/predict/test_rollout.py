"""Rollouts against one-step predictions, and what plans and edges do to the future."""

from __future__ import annotations

import numpy as np
import torch
from small import NODES, build, future_of

from causalmmm.engine.batches.batch import Batch
from causalmmm.engine.batches.windows import Windows
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.nn.posterior import causal_probability
from causalmmm.engine.predict.future import Future, forecast_controls
from causalmmm.engine.predict.noise import draw_noise
from causalmmm.engine.predict.rollout import forecast, simulate_futures
from causalmmm.engine.spec.series import SeriesData
from causalmmm.kernels.likelihood import ar_prediction


def expected_next(model: CausalModel, batch: Batch, future: Future) -> torch.Tensor:
    """Prediction of the step after the window, written from the decoder's equation."""
    inferred = model.infer(batch)
    mean, sd = inferred.posterior.effect_mean, inferred.posterior.effect_log_sd.exp()
    weights = model.decoder.weights(
        causal_probability(inferred.posterior.edges), mean + 0.5 * sd.square()
    )
    response, _ = model.decoder.respond(batch.x, batch.context, batch.level)
    felt = model.decoder.delayed(response)
    centre = inferred.projection.ahead().coefficients(felt[..., :-1].flatten(1, 2))
    row = future.basis[:, 0]
    centred = felt[..., -1].flatten(1, 2) - (centre @ row.unsqueeze(-1)).squeeze(-1)
    message = (centred.unsqueeze(1) @ weights.flatten(1, 2)).squeeze(1)
    residual = torch.cat([inferred.residual, torch.zeros(3, NODES, 1)], dim=-1)
    one_step = ar_prediction(inferred.ar_weights, residual)[..., -1]
    return (inferred.coefficients @ row.unsqueeze(-1)).squeeze(-1) + message + one_step


def test_first_step_centres_on_the_one_step_prediction(windows: Windows, data: SeriesData) -> None:
    for settings in ({}, {"decays": (0.2, 0.6), "delays": (0, 2)}, {"saturation": False}):
        model, batch = build(**settings), windows.full(np.arange(3))
        future = future_of(windows, data, 1)
        first = simulate_futures(model, batch, future, draws=8000, seed=0)[..., 0]
        error = first.mean(1) - expected_next(model, batch, future)
        assert (error.abs() / (first.std(1) / 8000**0.5)).max() < 4.5


def test_a_floor_keeps_mean_and_spread(windows: Windows, data: SeriesData) -> None:
    """Log-normal draws of series that cannot be negative have the moments of the normal ones."""
    model, batch = build(), windows.full(np.arange(3))
    future = future_of(windows, data, 1)
    free = simulate_futures(model, batch, future, draws=20000, seed=0)[..., 0]
    future.floor[:] = True
    floored = simulate_futures(model, batch, future, draws=20000, seed=0)[..., 0]
    assert floored.min() > 0
    torch.testing.assert_close(free.mean(1), floored.mean(1), rtol=0.02, atol=0.01)
    torch.testing.assert_close(free.std(1), floored.std(1), rtol=0.1, atol=0.01)


def test_forecasts_are_means_and_quantiles_of_many_futures(
    windows: Windows, data: SeriesData
) -> None:
    """A few futures, each with its last step integrated, say what very many say."""
    model, batch = build(), windows.full(np.arange(3))
    future = future_of(windows, data, 5)
    future.floor[:, :, 1:] = True
    drawn = simulate_futures(model, batch, future, draws=40_000, seed=0)
    noise = draw_noise(NODES, future.basis.shape[2], 5, draws=400, seed=1, device=batch.x.device)
    level = torch.tensor([0.8, 0.5])
    mean, bounds = forecast(model, batch, model.infer(batch), future, noise, level)
    spread = drawn.std(1)
    assert ((mean - drawn.mean(1)).abs() / spread).max() < 0.06
    for k, probability in enumerate((0.1, 0.9, 0.25, 0.75)):
        assert ((bounds[..., k] - drawn.quantile(probability, dim=1)).abs() / spread).max() < 0.12


def test_draws_are_mirrored(windows: Windows, data: SeriesData) -> None:
    """Without edges the two halves lie symmetrically around the prediction."""
    model, batch = build(structure="empty"), windows.full(np.arange(3))
    draws = simulate_futures(model, batch, future_of(windows, data, 4), draws=10, seed=0)
    centre = 0.5 * (draws[:, :5] + draws[:, 5:])
    torch.testing.assert_close(centre, centre[:, :1].expand_as(centre), rtol=1e-3, atol=1e-4)


def test_equal_seeds_give_equal_futures(windows: Windows, data: SeriesData) -> None:
    model, batch = build(), windows.full(np.arange(3))
    future = future_of(windows, data, 5)
    first = simulate_futures(model, batch, future, draws=8, seed=3)
    second = simulate_futures(model, batch, future, draws=8, seed=3)
    other = simulate_futures(model, batch, future, draws=8, seed=4)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_planned_values_are_returned_unchanged(windows: Windows, data: SeriesData) -> None:
    model, batch = build(), windows.full(np.arange(3))
    future = future_of(windows, data, 4)
    future.given[:, 1] = torch.tensor([1.5, 0.0, 0.25, 2.0])
    drawn = simulate_futures(model, batch, future, draws=6, seed=0)
    assert torch.equal(drawn[:, :, 1], future.given[:, None, 1].expand(-1, 6, -1))


def test_spend_moves_only_what_an_edge_leads_to(windows: Windows, data: SeriesData) -> None:
    prior = torch.zeros(NODES, NODES)
    prior[0, 2] = prior[2, 3] = 1.0
    model, batch = build(prior), windows.full(np.arange(3))
    results = []
    for spend in (0.0, 5.0):
        future = future_of(windows, data, 6)
        future.given[:, 0] = spend
        results.append(simulate_futures(model, batch, future, draws=4, seed=2))
    low, high = results
    assert torch.equal(low[:, :, 1], high[:, :, 1])
    assert torch.equal(low[:, :, 2, 0], high[:, :, 2, 0])  # the effect takes a step
    assert (high[:, :, 2, 1:] - low[:, :, 2, 1:]).abs().min() > 0
    assert torch.equal(low[:, :, 3, 1], high[:, :, 3, 1])  # and another to the target
    assert (high[:, :, 3, 2:] - low[:, :, 3, 2:]).abs().max() > 0


def test_context_that_moves_is_read_step_by_step(windows: Windows, data: SeriesData) -> None:
    model, batch = build(), windows.full(np.arange(3))
    future = future_of(windows, data, 4)
    constant = simulate_futures(model, batch, future, draws=2, seed=0)
    future.context = future.context.unsqueeze(-1).repeat(1, 1, 4)
    same = simulate_futures(model, batch, future, draws=2, seed=0)
    torch.testing.assert_close(constant, same)
    future.context[..., 0] += 2.0
    moved = simulate_futures(model, batch, future, draws=2, seed=0)
    assert torch.equal(constant[..., 0], moved[..., 0])
    assert not torch.allclose(constant[..., 1], moved[..., 1])


def test_a_zero_spell_that_began_at_the_last_row_may_end(
    windows: Windows, data: SeriesData
) -> None:
    """One as long as the window goes on; a channel that always spent keeps spending."""
    model, batch = build(), windows.full(np.arange(3))
    batch.x[:, 0, -1] = 0.0
    batch.x[1, 0, 10:] = 0.0
    batch.x[2, 0] = 0.0
    future = future_of(windows, data, 12)
    inactive = simulate_futures(model, batch, future, draws=400, seed=0)[:, :, :2] == 0
    share = inactive.float().mean(1)
    assert (share[0, 0] < 0.1).all(), "active on 89 of 90 days"
    assert (share[1, 0] > 0.9).all(), "off for 80 days"
    assert (share[2, 0] == 1).all()
    assert (share[:, 1] == 0).all()


def test_the_variance_of_a_step_is_that_of_noise_and_coefficients(
    windows: Windows, data: SeriesData
) -> None:
    """Without edges, by hand: one-step noise, and the baseline's posterior at long-run noise."""
    model, batch = build(torch.zeros(NODES, NODES)), windows.full(np.arange(3))
    future = future_of(windows, data, 1)
    drawn = simulate_futures(model, batch, future, draws=20000, seed=0)[..., 0].std(1)
    with torch.no_grad():
        inferred = model.infer(batch)
    row = future.basis[:, 0].double()
    leverage = torch.einsum("bq,bqr,br->b", row, inferred.projection.spread, row)
    residual = inferred.residual.double().numpy()
    steps = residual.shape[-1]
    weights = 1 - np.abs(np.arange(-14, 15)) / 15  # Bartlett's, over 14 lags
    long_run = np.zeros(residual.shape[:2])
    for lag, weight in zip(range(-14, 15), weights, strict=True):
        apart = abs(lag)
        product = residual[..., apart:] * residual[..., : steps - apart]
        long_run += weight * product.sum(-1) / steps
    noise = (2 * inferred.log_noise).exp().double().numpy()
    variance = noise + np.maximum(long_run, noise) * leverage.numpy()[:, None]
    np.testing.assert_allclose(drawn, np.sqrt(variance), rtol=0.02)


def test_a_trend_is_damped_while_its_uncertainty_is_not(windows: Windows, data: SeriesData) -> None:
    """Each step adds 0.9 of what the one before it added; the spread is that of a lasting trend."""
    model, batch = build(torch.zeros(NODES, NODES)), windows.full(np.arange(3))
    with torch.no_grad():
        model.decoder.ar_weights.zero_()
        model.decoder.ar_state.weight.zero_()
        inferred = model.infer(batch)
    future = future_of(windows, data, 60)
    drawn = simulate_futures(model, batch, future, draws=20000, seed=0)
    basis = future.basis.double().clone()
    leverage = torch.einsum("bhq,bqr,bhr->bh", basis, inferred.projection.spread.double(), basis)
    first, last = drawn[..., 0].var(1), drawn[..., -1].var(1)
    noise = (2 * inferred.log_noise).exp()
    grown = (last - noise) / (first - noise)
    expected_growth = (leverage[:, -1] / leverage[:, 0]).unsqueeze(-1).expand(-1, NODES)
    torch.testing.assert_close(grown.double(), expected_growth, rtol=0.25, atol=0.0)
    basis[..., 1] = torch.cumsum(0.9 ** torch.arange(1.0, 61.0), 0) / 365.25
    mean = torch.einsum("bnq,bhq->bnh", inferred.coefficients.double(), basis)
    torch.testing.assert_close(drawn.mean(1).double(), mean, rtol=1e-3, atol=1e-3)


def test_unplanned_controls_revert_to_their_mean_and_are_uncertain() -> None:
    rng = np.random.default_rng(0)
    history = np.zeros((2, 4000, 3))
    for t in range(1, 4000):
        history[:, t, :2] = np.array([0.9, 0.0]) * history[:, t - 1, :2] + rng.normal(size=(2, 2))
    history[..., 2] = 1.5
    history[:, -1, :2] = 3.0
    context_mask = torch.ones(2, 4000, dtype=torch.bool)
    planned = torch.full((2, 30, 3), torch.nan, dtype=torch.float64)
    planned[:, 4, 0] = 7.0
    expected, control_std = forecast_controls(torch.from_numpy(history), context_mask, planned)
    assert (expected[:, 4, 0] == 7).all()
    assert (control_std[:, 4, 0] == 0).all()
    np.testing.assert_allclose(expected[:, 1, 0], 3 * 0.9**2, atol=0.2)
    np.testing.assert_allclose(control_std[:, 1, 0], np.sqrt(1 + 0.9**2), rtol=0.1)
    np.testing.assert_allclose(expected[:, 0, 1], 0.0, atol=0.2)
    np.testing.assert_allclose(control_std[:, 0, 1], 1.0, rtol=0.05)
    np.testing.assert_allclose(expected[..., 2], 1.5)
    assert (control_std[..., 2] < 1e-6).all()
