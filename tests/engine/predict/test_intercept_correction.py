"""Levels that moved within a window, carried on by forecasts."""

from __future__ import annotations

import numpy as np
import torch
from small import NODES, build

from causalmmm.engine.batches.batch import Batch
from causalmmm.engine.batches.windows import Windows
from causalmmm.engine.nn.posterior import Inference
from causalmmm.engine.predict.future import Future
from causalmmm.engine.predict.intercept_correction import intercept_correction
from causalmmm.engine.predict.rollout import simulate_futures
from causalmmm.kernels.likelihood import ar_prediction

EMPTY = torch.zeros(NODES, NODES)


def moved(windows: Windows, node: int, last: int, by: float) -> Batch:
    batch = windows.full(np.arange(3))
    batch.x[:, node, -last:] += by
    return batch


@torch.no_grad()
def shift(batch: Batch, prior: torch.Tensor | float = EMPTY) -> tuple[Inference, torch.Tensor]:
    """The inference, and how far its intercepts move [B, N]; nothing else of them does."""
    model = build(prior)
    before = model.infer(batch)
    after = intercept_correction(model, batch, before)
    by = after.coefficients - before.coefficients
    assert torch.equal(by[..., 1:], torch.zeros_like(by[..., 1:]))
    torch.testing.assert_close(
        after.residual, before.residual - by[..., :1] * before.active, rtol=1e-6, atol=1e-6
    )
    return before, by[..., 0]


def test_noise_moves_no_level(windows: Windows) -> None:
    _, by = shift(windows.full(np.arange(3)), prior=0.2)
    assert torch.equal(by, torch.zeros_like(by))


def test_a_level_that_moved_of_late_is_carried_on_and_no_other(windows: Windows) -> None:
    """By hand in float64, where no edge sends anything."""
    before, by = shift(moved(windows, 2, last=8, by=4.0))
    assert (by[:, 2] > 0.2).all()
    assert torch.equal(by[:, [0, 1, 3]], torch.zeros(3, 3))
    residual, ar_weights = before.residual.double(), before.ar_weights.double()
    error = (residual[..., 1:] - ar_prediction(ar_weights, residual))[:, 2].numpy()
    weight = 0.5 ** (np.arange(88, -1, -1) / 14)
    mean = error @ weight / weight.sum()
    noise = (error**2).mean(1) * (weight**2).sum() / weight.sum() ** 2
    memory = ar_weights[:, 2].sum(-1).numpy()
    expected = mean * np.maximum(0, 1 - noise / mean**2) / (1 - memory)
    np.testing.assert_allclose(by[:, 2].numpy(), expected, rtol=1e-4)


def test_a_channel_with_zero_spend_keeps_the_level_of_its_active_days(windows: Windows) -> None:
    batch = windows.full(np.arange(3))
    batch.x[0, 0, -30:] = 0.0
    batch.x[1, 0] = 0.0
    _, by = shift(batch)
    assert by.isfinite().all()
    assert by[1, 0] == 0


def test_what_a_sender_did_moves_no_level_of_what_it_does_not_lead_to(windows: Windows) -> None:
    prior = EMPTY.clone()
    prior[0, 2] = 1.0
    levels = [shift(moved(windows, 0, last=8, by=by), prior)[1] for by in (0.5, 4.0)]
    assert torch.equal(levels[0][:, [1, 3]], levels[1][:, [1, 3]])


def test_forecasts_begin_at_the_recent_level(windows: Windows) -> None:
    """A series that moved keeps most of it far ahead, where autoregression no longer matters."""
    model = build(EMPTY)
    calendar = torch.from_numpy(windows.calendar.ahead(np.full(3, 89), 30))
    future = Future(
        basis=calendar,
        control_std=torch.zeros(3, 30, 0),
        context=torch.from_numpy(windows.data.context),
        given=torch.full((3, NODES, 30), torch.nan),
        floor=torch.zeros(3, 1, NODES, dtype=torch.bool),
    )
    batch = moved(windows, 2, last=8, by=4.0)
    before, by = shift(batch)
    forecast = simulate_futures(model, batch, future, draws=400, seed=0).mean(1)[:, 2, -1]
    calendar_alone = (before.coefficients[:, 2] * calendar[:, -1]).sum(-1)
    torch.testing.assert_close(forecast - calendar_alone, by[:, 2], rtol=0.15, atol=0.05)
