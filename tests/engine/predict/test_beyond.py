"""Plans beyond everything that a store has seen: wider there, and unchanged elsewhere."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import torch
from small import NODES, build, future_of
from torch import Tensor

from causalmmm.engine.batches.batch import Batch
from causalmmm.engine.batches.windows import Windows
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.predict import rollout
from causalmmm.engine.predict.noise import draw_noise
from causalmmm.engine.predict.rollout import simulate_futures
from causalmmm.engine.spec.series import SeriesData

DRAWS, STEPS = 200, 6


def driven() -> CausalModel:
    """The first channel alone drives the target, and next to no noise hides it."""
    prior = torch.zeros(NODES, NODES)
    prior[0, -1] = 1.0
    model = build(prior)
    with torch.no_grad():
        model.decoder.log_noise.fill_(-6.0)
        model.decoder.raw_beta[0, -1] = 2.0
    return model


def target_under(
    model: CausalModel, batch: Batch, windows: Windows, data: SeriesData, spend: Tensor
) -> Tensor:
    """Futures [B, draws, H] of the target with the first channel at ``spend`` [B, 1]."""
    future = future_of(windows, data, STEPS)
    future.given[:, 0] = spend.expand(-1, STEPS)
    return simulate_futures(model, batch, future, draws=DRAWS, seed=0)[:, :, -1]


def test_futures_spread_where_spend_has_never_been(windows: Windows, data: SeriesData) -> None:
    model, batch = driven(), windows.full(np.arange(3))
    largest = batch.x[:, 0].amax(-1, keepdim=True)
    usual, most, far = (
        target_under(model, batch, windows, data, spend).std(1)[:, 3:].mean()
        for spend in (batch.level[:, 0], largest, 1000 * largest)
    )
    assert far > 1.2 * most
    assert far > 1.2 * usual
    assert torch.isfinite(far)


def test_plans_within_history_are_forecast_as_without(windows: Windows, data: SeriesData) -> None:
    """Also where another store's plan lies beyond, to the last bit."""
    model, batch = driven(), windows.full(np.arange(3))
    spend = batch.level[:, 0].clone()
    spend[2] *= 1000
    found = target_under(model, batch, windows, data, spend)
    with patch.object(rollout, "beyond_history", lambda *_: None):
        without = target_under(model, batch, windows, data, spend)
    assert torch.equal(found[:2], without[:2])
    assert not torch.equal(found[2], without[2])


def test_drawn_curves_begin_where_history_ends(windows: Windows, data: SeriesData) -> None:
    """Just beyond the largest stock they add next to nothing, far beyond each something else."""
    model, batch = driven(), windows.full(np.arange(3))
    future = future_of(windows, data, 1)
    future.given[:, 0] = 1e3
    noise = draw_noise(NODES, future.basis.shape[2], 1, draws=DRAWS, seed=0, device=batch.x.device)

    def per_draw(x: Tensor) -> Tensor:
        return x.movedim(0, -1).repeat_interleave(DRAWS, -1)

    beyond = rollout.beyond_history(
        model, batch, future, noise, per_draw, lambda x: x.repeat(*[1] * (x.dim() - 1), 3)
    )
    assert beyond is not None
    slope, half = (per_draw(part) for part in model.decoder.curve(future.context))
    for factor, size in ((1.0, 0.0), (1.0 + 1e-4, 1e-3), (100.0, 1.0)):
        stock = beyond.most[:1] * factor
        response = torch.sigmoid(slope[:1] * (stock / half[:1]).log())
        added = beyond.added(stock.expand_as(beyond.most), response.expand_as(beyond.most))[0]
        assert added.abs().max() <= size
    assert added.std() > 0.02
