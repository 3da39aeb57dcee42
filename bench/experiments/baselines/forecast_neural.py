"""Two neural forecasters trained on all stores at once: LSTM, and Wide & Deep (Cheng et al. 2016).

Both read the last steps of all series of a store, its context and the calendar of the steps to
forecast, and give a mean and a spread of the target for all horizons directly. Series are divided
by the store's level, less one.

Budget, the same for both: every entry of ``GRID`` trains on the first four fifths of the fitting
span until the squared error on the last fifth has not improved for ``PATIENCE`` epochs (at most
``EPOCHS`` of ``UPDATES`` batches); the best is trained again on the whole span, as long.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.experiments.baselines.forecast_linear import calendar
from bench.experiments.forecast_task import Forecast, Task

GRID = tuple(product((32, 64), (1e-3, 3e-3), (14, 42)))  # width, learning rate, steps read
EPOCHS, UPDATES, BATCH, PATIENCE = 40, 60, 256, 6
QUICK = ((32, 3e-3, 14),), 3


@dataclass(frozen=True)
class Sizes:
    """What a network is built for: stores, series N, context and calendar features, steps read."""

    stores: int
    series: int
    context: int
    calendar: int
    window: int
    width: int


class LSTM(nn.Module):
    """One LSTM over the window; a head joins its last state with the calendar of a step ahead."""

    def __init__(self, sizes: Sizes, horizon: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(sizes.series + sizes.calendar, sizes.width, batch_first=True)
        self.step = nn.Embedding(horizon, 8)
        inputs = sizes.width + sizes.context + sizes.calendar + 8
        self.head = nn.Sequential(
            nn.Linear(inputs, sizes.width), nn.ReLU(), nn.Linear(sizes.width, 2)
        )

    def forward(
        self, past: Tensor, dates: Tensor, ahead: Tensor, context: Tensor, store: Tensor
    ) -> Tensor:
        """[B, H, 2] from series [B, W, N], their calendar, that of the steps ahead [B, H, Q]."""
        _, (state, _) = self.lstm(torch.cat([past, dates], dim=-1))
        fixed = torch.cat([state[0], context], dim=-1)
        steps = self.step.weight.expand(len(past), -1, -1)
        parts = [fixed.unsqueeze(1).expand(-1, steps.shape[1], -1), ahead, steps]
        return self.head(torch.cat(parts, dim=-1))


class WideDeep(nn.Module):
    """Wide: linear on lags and calendar. Deep: store embedding, lags and calendar in an MLP."""

    def __init__(self, sizes: Sizes, horizon: int) -> None:
        super().__init__()
        lags = sizes.window * sizes.series
        self.wide = nn.Linear(lags, horizon)
        self.wide_calendar = nn.Linear(sizes.calendar, 1, bias=False)
        self.store = nn.Embedding(sizes.stores, 16)
        self.step = nn.Embedding(horizon, 8)
        self.deep = nn.Sequential(
            nn.Linear(lags + 16 + sizes.context, sizes.width),
            nn.ReLU(),
            nn.Linear(sizes.width, sizes.width),
            nn.ReLU(),
        )
        inputs = sizes.width + sizes.calendar + 8
        self.head = nn.Sequential(
            nn.Linear(inputs, sizes.width), nn.ReLU(), nn.Linear(sizes.width, 2)
        )

    def forward(
        self, past: Tensor, dates: Tensor, ahead: Tensor, context: Tensor, store: Tensor
    ) -> Tensor:
        """As for the LSTM."""
        lags = past.flatten(1)
        state = self.deep(torch.cat([lags, self.store(store), context], dim=-1))
        steps = self.step.weight.expand(len(past), -1, -1)
        parts = [state.unsqueeze(1).expand(-1, steps.shape[1], -1), ahead, steps]
        deep = self.head(torch.cat(parts, dim=-1))
        wide = self.wide(lags) + self.wide_calendar(ahead).squeeze(-1)
        return torch.stack([deep[..., 0] + wide, deep[..., 1]], dim=-1)


def lstm(task: Task) -> Forecast:
    return _forecast(task, LSTM)


def wide_deep(task: Task) -> Forecast:
    return _forecast(task, WideDeep)


class _Samples:
    """Windows of a task as tensors; positions are (store, first step to forecast)."""

    def __init__(self, task: Task) -> None:
        self.horizon = task.horizon
        self.series = torch.tensor(task.history / task.level[:, None] - 1.0, dtype=torch.float32)
        terms = calendar(task, 3, 1)
        self.calendar = torch.tensor(terms, dtype=torch.float32)
        self.context = torch.tensor(task.context, dtype=torch.float32)

    def inputs(self, store: Tensor, first: Tensor, window: int) -> tuple[Tensor, ...]:
        past = first[:, None] + torch.arange(-window, 0)
        ahead = first[:, None] + torch.arange(self.horizon)
        reach = ahead.clamp_max(len(self.calendar) - 1)  # beyond the data nothing is scored
        series = self.series[store[:, None], past]
        return series, self.calendar[past], self.calendar[reach], self.context[store], store

    def targets(self, store: Tensor, first: Tensor, end: int) -> tuple[Tensor, Tensor]:
        """Targets [B, H], and which of them come before step ``end``."""
        ahead = first[:, None] + torch.arange(self.horizon)
        inside = ahead < end
        return self.series[store[:, None], ahead.clamp_max(end - 1), -1], inside


def _forecast(task: Task, kind: Callable[[Sizes, int], nn.Module]) -> Forecast:
    samples = _Samples(task)
    grid, most = QUICK if task.quick else (GRID, EPOCHS)
    end, cut = task.fit_steps, round(0.8 * task.fit_steps)
    grid = tuple(g for g in grid if g[2] <= cut // 2) or ((32, 3e-3, max(1, cut // 2)),)
    tried = [_train(task, samples, kind, *entry, cut, end, most) for entry in grid]
    best = int(np.argmin([score for score, _, _ in tried]))
    _, epochs, _ = tried[best]
    _, _, model = _train(task, samples, kind, *grid[best], end, end, epochs)
    window = grid[best][2]
    stores = torch.arange(len(task.history))
    parts = []
    with torch.no_grad():
        for origin in task.origins:
            parts.append(model(*samples.inputs(stores, torch.full_like(stores, origin), window)))
    drawn = torch.stack(parts).double().numpy()
    level = task.level[:, -1, None]
    return Forecast.gaussian((1.0 + drawn[..., 0]) * level, np.exp(drawn[..., 1]) * level)


def _train(
    task: Task,
    samples: _Samples,
    kind: Callable[[Sizes, int], nn.Module],
    width: int,
    rate: float,
    window: int,
    cut: int,
    end: int,
    most: int,
) -> tuple[float, int, nn.Module]:
    """Best validation loss on steps ``cut`` to ``end`` and its epoch; the model of the last epoch.

    Without such steps the model trains for all of ``most`` epochs.
    """
    stores, _, series = samples.series.shape
    sizes = Sizes(
        stores, series, samples.context.shape[1], samples.calendar.shape[1], window, width
    )
    rng = np.random.default_rng((task.seed, width, window))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(task.seed)
        model = kind(sizes, samples.horizon)
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    best, at = math.inf, most
    for epoch in range(1, most + 1):
        model.train()
        for _ in range(UPDATES):
            store = torch.from_numpy(rng.integers(stores, size=BATCH))
            first = torch.from_numpy(rng.integers(window, cut, size=BATCH))
            loss = _loss(model, samples, store, first, window, cut)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
        model.eval()
        if cut < end:
            score = _validation(model, samples, window, cut, end)
            if score < best:
                best, at = score, epoch
            elif epoch - at >= PATIENCE:
                break
    return best, at, model


def _loss(
    model: nn.Module, samples: _Samples, store: Tensor, first: Tensor, window: int, end: int
) -> Tensor:
    """Gaussian likelihood, each term weighed by its spread (beta-NLL, Seitzer et al. 2022, beta =
    0.5), without which a network buys likelihood by giving up on what is hard to forecast."""
    mean, log_sd = model(*samples.inputs(store, first, window)).unbind(-1)
    target, inside = samples.targets(store, first, end)
    log_sd = log_sd.clamp(-6.0, 3.0)
    nll = 0.5 * ((target - mean) * (-log_sd).exp()).square() + log_sd
    weighed = nll * log_sd.detach().exp()
    return (weighed * inside).sum() / inside.sum()


@torch.no_grad()
def _validation(model: nn.Module, samples: _Samples, window: int, cut: int, end: int) -> float:
    """Squared error of forecasts from up to 12 origins of every store, of steps up to ``end``."""
    total, count = 0.0, 0
    for origin in np.unique(np.linspace(cut, end - 1, 12).astype(int)):
        store = torch.arange(len(samples.series))
        first = torch.full_like(store, int(origin))
        mean = model(*samples.inputs(store, first, window))[..., 0]
        target, inside = samples.targets(store, first, end)
        total += float((F.mse_loss(mean, target, reduction="none") * inside).sum())
        count += int(inside.sum())
    return total / count
