"""Panels drawn from the response regression's own law, small enough to fit in a test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from causalmmm.engine.regression import Observed, observe

GROUPS = ("intercept", "trend", "yearly", "yearly")


@dataclass
class Drawn:
    """Histories, what follows them, and each channel's true sums [B, C] on the target."""

    observed: Observed
    basis: torch.Tensor
    values: torch.Tensor
    sums: torch.Tensor


def weekly(
    seed: int,
    stores: int = 4,
    weeks: int = 120,
    channels: int = 3,
    *,
    shift: float = 0.0,
    ahead: int = 0,
    mediator: bool = False,
    noise: float = 0.05,
) -> Drawn:
    """Channels act on the target (and on a mediator) in the week of their spend; with ``shift`` the
    target's level moves by so much in the middle."""
    rng = np.random.default_rng(seed)
    steps = weeks + ahead
    t = np.arange(steps)
    spend = rng.gamma(1.5, 1.0, (stores, channels, steps))
    decay, slope = rng.beta(2, 4, channels), rng.uniform(0.9, 1.6, channels)
    state, response = spend[..., 0], np.empty_like(spend)
    for k in t:
        state = decay * state + (1 - decay) * spend[..., k]
        response[..., k] = 1 / (1 + (1.3 / state) ** slope)
    effect = rng.uniform(0.15, 0.4, channels) * rng.lognormal(0, 0.1, (stores, channels))
    parts = effect[..., None] * response
    base = 1 + 0.1 * np.sin(2 * np.pi * t / 52.18) + 0.05 * t / weeks
    base = base * rng.lognormal(0, 0.1, (stores, 1)) + shift * (t >= weeks // 2)
    y = base + parts.sum(1) + noise * rng.standard_normal((stores, steps))
    series = [spend]
    if mediator:
        views = 0.5 + 0.7 * response[:, 0] + 0.05 * rng.standard_normal((stores, steps))
        y = y + 0.5 * views / (views + 1.0)
        series.append(views[:, None])
    values = torch.from_numpy(np.concatenate([*series, y[:, None]], 1))
    scale = values[..., :weeks].abs().mean(-1)
    x = values / scale.unsqueeze(-1)
    waves = [np.sin(2 * np.pi * t / 52.18), np.cos(2 * np.pi * t / 52.18)]
    basis = torch.from_numpy(np.stack([np.ones(steps), (t - weeks + 1) / 52.18, *waves], 1))
    basis = basis.expand(stores, -1, -1)
    observed = observe(
        x[..., :weeks],
        basis[:, :weeks],
        torch.ones(stores, weeks, dtype=torch.bool),
        scale,
        torch.arange(stores),
        None,
    )
    sums = torch.from_numpy(parts[..., :weeks].sum(-1)) / scale[:, -1:]
    return Drawn(observed, basis[:, weeks:], x[..., weeks:], sums)
