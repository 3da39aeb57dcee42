"""One-step forecasters of all series that know no graph: VAR by least squares, and a pooled LSTM.

Both give, for histories [S, T, N], the prediction [S, T - 1, N] of every next row from the rows
before it, so that a pulse in a sender can be followed to its receivers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Array = NDArray[np.float64]
OneStep = Callable[[Array], Array]
_PER_COEFFICIENT = 1.4  # rows that a coefficient needs before a lag order is tried


def var_ols(series: Array, rows: int, *, period: int = 7, most: int = 7) -> tuple[OneStep, int]:
    """Per-store VAR with constant, trend and season, fitted on the first ``rows`` steps by least
    squares, of the highest order up to ``most`` that they can bear. The rows without a whole past
    are predicted by zeros."""
    stores, steps, n = series.shape
    orders = range(1, most + 1)
    bearable = [p for p in orders if rows - p >= _PER_COEFFICIENT * (n * p + 1 + period)]
    lags = max(bearable, default=1)
    step = np.arange(lags, steps)
    season = (step[:, None] % period == np.arange(1, period)).astype(float)
    known = np.column_stack([np.ones(len(step)), step / steps, season])

    def design(x: Array) -> Array:
        past = [x[:, lags - lag : steps - lag] for lag in range(1, lags + 1)]
        calendar = np.broadcast_to(known, (len(x), *known.shape))
        return np.concatenate([*past, calendar], axis=-1)

    wide, seen = design(series), rows - lags
    weights = np.stack(
        [
            np.linalg.lstsq(wide[s, :seen], series[s, lags:rows], rcond=1e-9)[0]
            for s in range(stores)
        ]
    )

    def predict(x: Array) -> Array:
        out = np.zeros((len(x), steps - 1, n))
        out[:, lags - 1 :] = design(x) @ weights
        return out

    return predict, lags


def lstm(training: Array, *, hidden: int = 32, updates: int = 800, seed: int = 0) -> OneStep:
    """One LSTM over all series and the weekday, trained on all training stores; the weights with
    the least error on a tenth of them are kept. Series come divided by their level."""
    x = torch.as_tensor(training - 1.0, dtype=torch.float32)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(x))
    held = max(1, len(x) // 10)
    watched, kept = x[order[:held]], x[order[held:]]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _LSTM(x.shape[-1], hidden)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, updates)
    best, weights = float("inf"), {k: v.clone() for k, v in model.state_dict().items()}
    for update in range(updates):
        batch = kept[rng.permutation(len(kept))[:32]]
        loss = (model(batch) - batch[:, 1:]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if (update + 1) % 20 == 0:
            with torch.no_grad():
                error = float((model(watched) - watched[:, 1:]).square().mean())
            if error < best:
                best, weights = error, {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(weights)

    @torch.no_grad()
    def predict(history: Array) -> Array:
        given = torch.as_tensor(history - 1.0, dtype=torch.float32)
        return model(given).double().numpy() + 1.0

    return predict


class _LSTM(nn.Module):
    """The next row as the row seen plus a learned change."""

    def __init__(self, nodes: int, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(nodes + 7, hidden, batch_first=True)
        self.head = nn.Linear(hidden + 7, nodes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        week = torch.eye(7)[torch.arange(x.shape[1]) % 7].expand(len(x), -1, -1)
        state, _ = self.lstm(torch.cat([x[:, :-1], week[:, :-1]], dim=-1))
        return self.head(torch.cat([state, week[:, 1:]], dim=-1))
