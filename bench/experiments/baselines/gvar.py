"""GVAR (Marcinkevics and Vogt, 2021): a vector autoregression whose coefficients are networks.

x(t) = sum_k Psi_k(x(t - k)) x(t - k), one network Psi_k per lag that gives an N x N matrix; their
strength over time is the score. One model per store, all trained side by side as one batch.

Budget and tuning: sparsity ``PENALTIES`` chosen per store by the one-step error on the last fifth
of its history, then trained again on all of it; smoothness as in the paper's experiments; lags 7.
Both times ``updates`` full-batch steps of Adam.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.experiments.baselines.series import clear_of_calendar, lagged

Array = NDArray[np.float64]
PENALTIES = (0.003, 0.01, 0.03, 0.1)
_SMOOTH = 0.02
_HELD_OUT = 0.2
_RATE = 0.003


def gvar(
    series: Array, *, lags: int = 7, hidden: int = 32, updates: int = 200, seed: int = 0
) -> Array:
    """Median over time of |coefficient|, the largest over lags: [S, N, N] from [S, T, N]."""
    past, present = (torch.as_tensor(a).float() for a in lagged(clear_of_calendar(series), lags))
    s, rows, _ = present.shape
    seen = rows - max(1, round(_HELD_OUT * rows))
    generator = torch.Generator().manual_seed(seed)
    penalty = torch.tensor(PENALTIES)
    many = [a.repeat_interleave(len(penalty), dim=0) for a in (past, present)]
    weights = _train(*(a[:, :seen] for a in many), penalty.repeat(s), hidden, updates, generator)
    with torch.no_grad():
        fitted, _ = _predict(weights, many[0][:, seen:])
        left = (fitted - many[1][:, seen:]).square().mean((1, 2)).view(s, len(penalty))
    best = penalty[left.argmin(1)]
    weights = _train(past, present, best, hidden, updates, generator)
    with torch.no_grad():
        _, coefficient = _predict(weights, past)  # [S, L, T', receiver, sender]
    strength = coefficient.abs().median(2).values.amax(1)
    return strength.mT.double().numpy()


def _train(
    past: Tensor,
    present: Tensor,
    penalty: Tensor,
    hidden: int,
    updates: int,
    generator: torch.Generator,
) -> list[Tensor]:
    """Mean squared error + penalty x (group and plain lasso over lags) + change over time."""
    s, _, n, lags = past.shape
    shapes = ((n, hidden), (hidden, n * n))
    weights = [
        (2.0 * torch.rand((s, lags, *shape), generator=generator) - 1.0) / shape[0] ** 0.5
        for shape in shapes
    ]
    weights[1] *= 0.1  # coefficients begin near zero
    weights += [torch.zeros(s, lags, 1, hidden), torch.zeros(s, lags, 1, n * n)]
    weights = [w.requires_grad_() for w in weights]
    optimiser = torch.optim.Adam(weights, lr=_RATE)
    for _ in range(updates):
        fitted, coefficient = _predict(weights, past)
        error = (fitted - present).square().mean((1, 2))
        size = 0.5 * (coefficient.norm(dim=1) + coefficient.abs().sum(1)).mean((1, 2, 3))
        change = coefficient.diff(dim=2).square().mean((1, 2, 3, 4))
        optimiser.zero_grad()
        (error + penalty * size + _SMOOTH * change).sum().backward()
        optimiser.step()
    return [w.detach() for w in weights]


def _predict(weights: list[Tensor], past: Tensor) -> tuple[Tensor, Tensor]:
    """Predictions [S, T', N] and coefficients [S, L, T', receiver, sender]."""
    first, second, bias, offset = weights
    x = past.permute(0, 3, 1, 2)  # [S, L, T', N]
    coefficient = torch.relu(x @ first + bias) @ second + offset
    coefficient = coefficient.unflatten(-1, (x.shape[-1], x.shape[-1]))
    return (coefficient @ x.unsqueeze(-1)).squeeze(-1).sum(1), coefficient
