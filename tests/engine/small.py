"""Models and panels small enough to test by hand, and series that are hard to tell apart."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from causalmmm.engine.batches.windows import Windows
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.nn.posterior import edge_log_prior
from causalmmm.engine.predict.future import Future
from causalmmm.engine.spec.calendar import Calendar, CalendarSpec, extend_grid
from causalmmm.engine.spec.config import ModelConfig
from causalmmm.engine.spec.series import SeriesData

NODES, CONTEXT, MEMORY = 4, 2, 4


def build(prior: torch.Tensor | float = 0.2, seed: int = 0, **config: object) -> CausalModel:
    """A model with random, not initial, weights everywhere, so that nothing is zero by accident."""
    torch.manual_seed(seed)
    settings = ModelConfig(**{"hidden": 16, "lags": 3, "ar_lags": 3, "yearly": 1, **config})
    positive = torch.zeros(NODES, NODES, dtype=torch.bool)
    positive[:2, 2:] = True
    probability = torch.full((NODES, NODES), prior) if isinstance(prior, float) else prior
    spend = torch.tensor([True, True, False, False])
    groups = CalendarSpec("D", yearly=1).groups
    model = CausalModel(settings, groups, CONTEXT, positive, edge_log_prior(probability), spend)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def three_stores() -> SeriesData:
    """Three stores of four series, 90 days each, positive and autocorrelated."""
    rng = np.random.default_rng(0)
    values = np.exp(rng.standard_normal((270, NODES)) * 0.4) * [20.0, 50.0, 5.0, 400.0]
    return SeriesData(
        values=values.astype(np.float32),
        offsets=np.array([0, 90, 180, 270]),
        start=np.zeros(3, np.int64),
        grid=np.datetime64("2024-03-01") + np.arange(90),
        freq="D",
        roles=("channel", "channel", "mediator", "target"),
        controls=np.zeros((270, 0), np.float32),
        context=rng.standard_normal((3, CONTEXT)).astype(np.float32),
    )


def windows_of(data: SeriesData) -> Windows:
    return Windows(data, Calendar(CalendarSpec("D", yearly=1), data.grid), 730, MEMORY)


def future_of(windows: Windows, data: SeriesData, steps: int) -> Future:
    """The steps after the histories of three stores, without a plan."""
    grid = extend_grid(data.grid, data.freq, steps)
    basis = Calendar(windows.calendar.spec, grid).ahead(np.full(3, len(data.grid) - 1), steps)
    return Future(
        basis=torch.from_numpy(basis),
        control_std=torch.zeros(3, steps, 0),
        context=torch.from_numpy(data.context),
        given=torch.full((3, NODES, steps), torch.nan),
        floor=torch.zeros(3, 1, NODES, dtype=torch.bool),
    )


def alike(stores: int = 6, steps: int = 360) -> Tensor:
    """Series [S, N, T], float64: two channels that are proportional, in every other store to one
    part in 10,000, a mediator interpolated from monthly values, and a receiver without noise."""
    rng = np.random.default_rng(0)
    x = rng.gamma(2.0, 1.0, (stores, NODES, steps))
    x[:, 1] = 3 * x[:, 0]
    x[1::2, 1] *= 1 + 1e-4 * rng.standard_normal(x[1::2, 1].shape)
    for store in range(stores):
        monthly = CubicSpline(np.arange(14), rng.gamma(5.0, 1.0, 14))
        x[store, 2] = monthly(np.arange(steps) / 30)
    x[:, 3, 1:] = 5 * x[:, 0, :-1]
    return torch.from_numpy(x - x.mean(-1, keepdims=True))


def rounded(exact: Tensor, count: int = 3) -> Iterator[Tensor]:
    """float32 versions that differ by about the rounding of float32, as of other processors."""
    rng = torch.Generator().manual_seed(0)
    yield exact.float()
    for _ in range(count - 1):
        rounding = torch.randn(exact.shape, generator=rng, dtype=exact.dtype)
        yield (exact * (1 + 1e-7 * rounding)).float()
