"""The gain of sharing tells panels whose stores share effects from panels whose stores do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small import MEMORY

from causalmmm.engine.batches.windows import Windows
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.nn.posterior import edge_log_prior
from causalmmm.engine.spec.calendar import Calendar, CalendarSpec
from causalmmm.engine.spec.config import ModelConfig, TrainConfig
from causalmmm.engine.spec.series import SeriesData
from causalmmm.engine.training.loop import train
from causalmmm.engine.training.sharing import gain_of_sharing

STORES, STEPS, NODES = 24, 60, 3
SPEC = CalendarSpec("D", yearly=0)


def panel(*, shared: bool) -> SeriesData:
    """Two series drive the target one step later: by equal effects or by effects of random sign."""
    rng = np.random.default_rng(0)
    values = rng.gamma(4.0, 25.0, (STORES, STEPS, NODES))
    effect = np.full((STORES, 2), 0.8)
    if not shared:
        effect *= np.where(rng.random((STORES, 2)) < 0.5, -1.0, 1.0)
    driven = np.einsum("sti,si->st", values[:, :-1, :2] - 100.0, effect)
    values[:, :, 2] = 400.0 + 10.0 * rng.standard_normal((STORES, STEPS))
    values[:, 1:, 2] += driven
    return SeriesData(
        values=values.reshape(-1, NODES).astype(np.float32),
        offsets=STEPS * np.arange(STORES + 1),
        start=np.zeros(STORES, np.int64),
        grid=np.datetime64("2024-03-01") + np.arange(STEPS),
        freq="D",
        roles=("mediator", "mediator", "target"),
        controls=np.zeros((STORES * STEPS, 0), np.float32),
        context=np.zeros((STORES, 0), np.float32),
    )


@pytest.mark.parametrize("shared", [True, False])
def test_the_gain_is_positive_where_effects_are_shared_and_negative_where_not(
    shared: bool,
) -> None:
    torch.manual_seed(0)
    config = ModelConfig(hidden=8, lags=3, ar_lags=3, decays=(0.1,), delays=(0,))
    data = panel(shared=shared)
    windows = Windows(data, Calendar(SPEC, data.grid), 730, MEMORY)
    positive = torch.zeros(NODES, NODES, dtype=torch.bool)
    prior = edge_log_prior(torch.full((NODES, NODES), 0.2))
    spend = torch.zeros(NODES, dtype=torch.bool)
    model = CausalModel(config, SPEC.groups, 0, positive, prior, spend)
    settings, cpu = TrainConfig(epochs=60, batch_stores=8), torch.device("cpu")
    train(model, windows, settings, seed=0, device=cpu)
    gain = gain_of_sharing(model, windows, settings, seed=0, device=cpu)
    assert (gain > 0) == shared
    assert abs(gain) > 0.02
