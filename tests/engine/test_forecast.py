"""Rollouts against one-step predictions, and what plans and edges do to the future."""

from __future__ import annotations

import numpy as np
import torch
from small import CONTEXT, NODES, build

from causalmmm.engine.calendar import extend_grid
from causalmmm.engine.data import SeriesData
from causalmmm.engine.forecast import Future, simulate_futures
from causalmmm.engine.model import CausalModel, causal_probability, own_prediction
from causalmmm.engine.windows import Batch, Calendar, Windows


def future_of(windows: Windows, data: SeriesData, steps: int) -> Future:
    grid = extend_grid(data.grid, data.freq, steps)
    position = np.arange(len(data.grid) - 1, len(grid))
    basis = Calendar(windows.calendar.spec, grid).rows(np.tile(position, (3, 1)))[:, 1:]
    basis[..., 1] = np.arange(1, steps + 1) / 365.25
    return Future(
        basis=torch.from_numpy(basis),
        context=torch.from_numpy(data.context),
        given=torch.full((3, NODES, steps), torch.nan),
        floor=torch.zeros(NODES, dtype=torch.bool),
    )


def expected_next(model: CausalModel, batch: Batch, future: Future) -> torch.Tensor:
    """Prediction of the step after the window, written from the decoder's equation."""
    inferred = model.infer(batch)
    mean, sd = inferred.posterior.effect_mean, inferred.posterior.effect_log_sd.exp()
    weights = model.decoder.weights(
        causal_probability(inferred.posterior.edges), mean + 0.5 * sd.square()
    )
    response, _ = model.decoder.respond(batch.x, batch.context)
    felt = model.decoder.delayed(response)
    centre = inferred.projection.ahead().coefficients(felt[..., :-1].flatten(1, 2))
    row = future.basis[:, 0]
    centred = felt[..., -1].flatten(1, 2) - (centre @ row.unsqueeze(-1)).squeeze(-1)
    message = (centred.unsqueeze(1) @ weights.flatten(1, 2)).squeeze(1)
    residual = torch.cat([inferred.residual, torch.zeros(3, NODES, 1)], dim=-1)
    own = own_prediction(inferred.own, residual)[..., -1]
    return (inferred.coefficients @ row.unsqueeze(-1)).squeeze(-1) + message + own


def test_first_step_is_the_one_step_prediction(windows: Windows, data: SeriesData) -> None:
    for settings in ({}, {"decays": (0.2, 0.6), "delays": (0, 2)}, {"saturation": False}):
        model, batch = build(**settings), windows.full(np.arange(3))
        future = future_of(windows, data, 3)
        _, mean = simulate_futures(model, batch, future, draws=2, seed=0)
        expected = expected_next(model, batch, future)
        torch.testing.assert_close(mean[..., 0], expected, rtol=1e-3, atol=1e-3)


def test_draws_centre_on_the_expectation(windows: Windows, data: SeriesData) -> None:
    model, batch = build(), windows.full(np.arange(3))
    drawn, mean = simulate_futures(model, batch, future_of(windows, data, 1), draws=4000, seed=1)
    error = (drawn.mean(1) - mean).abs() / (drawn.std(1) / 4000**0.5)
    assert error.max() < 5.0


def test_equal_seeds_give_equal_futures(windows: Windows, data: SeriesData) -> None:
    model, batch = build(), windows.full(np.arange(3))
    future = future_of(windows, data, 5)
    first = simulate_futures(model, batch, future, draws=8, seed=3)
    second = simulate_futures(model, batch, future, draws=8, seed=3)
    other = simulate_futures(model, batch, future, draws=8, seed=4)
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[0], other[0])


def test_what_is_given_comes_back_unchanged(windows: Windows, data: SeriesData) -> None:
    model, batch = build(), windows.full(np.arange(3))
    future = future_of(windows, data, 4)
    future.given[:, 1] = torch.tensor([1.5, 0.0, 0.25, 2.0])
    drawn, mean = simulate_futures(model, batch, future, draws=6, seed=0)
    assert torch.equal(mean[:, 1], future.given[:, 1])
    assert torch.equal(drawn[:, 3, 1], future.given[:, 1])


def test_spend_moves_only_what_an_edge_leads_to(windows: Windows, data: SeriesData) -> None:
    prior = torch.zeros(NODES, NODES)
    prior[0, 2] = prior[2, 3] = 1.0
    model, batch = build(prior), windows.full(np.arange(3))
    results = []
    for spend in (0.0, 5.0):
        future = future_of(windows, data, 6)
        future.given[:, 0] = spend
        results.append(simulate_futures(model, batch, future, draws=4, seed=2))
    (draws_low, low), (draws_high, high) = results
    assert torch.equal(draws_low[:, :, 1], draws_high[:, :, 1])
    assert torch.equal(draws_low[:, :, 2, 0], draws_high[:, :, 2, 0])  # the effect takes a step
    assert (high[:, 2, 1:] - low[:, 2, 1:]).abs().min() > 0
    assert torch.equal(draws_low[:, :, 3, 1], draws_high[:, :, 3, 1])  # and another to the target
    assert (high[:, 3, 2:] - low[:, 3, 2:]).abs().max() > 0


def test_series_with_a_floor_never_fall_below_zero(windows: Windows, data: SeriesData) -> None:
    model, batch = build(), windows.full(np.arange(3))
    future = future_of(windows, data, 10)
    future.floor[:] = True
    drawn, mean = simulate_futures(model, batch, future, draws=50, seed=0)
    assert drawn.min() >= 0
    assert mean.min() >= 0


def test_context_that_moves_is_read_step_by_step(windows: Windows, data: SeriesData) -> None:
    model, batch = build(), windows.full(np.arange(3))
    future = future_of(windows, data, 4)
    _, still = simulate_futures(model, batch, future, draws=2, seed=0)
    future.context = future.context.unsqueeze(-1).repeat(1, 1, 4)
    _, same = simulate_futures(model, batch, future, draws=2, seed=0)
    torch.testing.assert_close(still, same)
    future.context[..., 0] += 2.0
    _, moved = simulate_futures(model, batch, future, draws=2, seed=0)
    assert torch.equal(still[..., 0], moved[..., 0])
    assert not torch.allclose(still[..., 1], moved[..., 1])
    assert CONTEXT == future.context.shape[1]
