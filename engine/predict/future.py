"""What is known or expected of the steps after a window: calendar, controls, plans."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

DAMPING = 0.9  # each step of a damped trend adds this share of what the step before added


@dataclass
class Future:
    """Inputs of a forecast over the H steps after each window.

    basis        [B, H, Q], calendar terms and controls (:func:`forecast_controls`).
    control_std  [B, H, R], standard deviations of the controls, the last R terms; 0 where planned.
    context      [B, C] or [B, C, H].
    given        [B, N, H], planned values in scaled units; NaN where the model is to forecast.
    floor        bool [B, 1, N], series that have never been negative and cannot become so.
    """

    basis: Tensor
    control_std: Tensor
    context: Tensor
    given: Tensor
    floor: Tensor


def forecast_controls(
    history: Tensor, context_mask: Tensor, planned: Tensor
) -> tuple[Tensor, Tensor]:
    """Controls [B, H, R] after a history [B, T, R], and their standard deviations [B, H, R].

    Planned values are certain. Where ``planned`` [B, H, R] is NaN, a control follows an AR(1)
    estimated per store: it reverts to its mean from its last value.
    """
    rows = context_mask.unsqueeze(-1).to(history.dtype)  # [B, T, 1]
    mean = (history * rows).sum(1, keepdim=True) / rows.sum(1, keepdim=True)  # [B, 1, R]
    deviation = (history - mean) * rows
    square = deviation.square().sum(1, keepdim=True)
    lagged = (deviation[:, 1:] * deviation[:, :-1]).sum(1, keepdim=True)
    autocorrelation = (lagged / square.clamp_min(1e-12)).clamp(0.0, 1.0)  # [B, 1, R]
    steps = torch.arange(planned.shape[1], dtype=history.dtype, device=history.device) + 1
    remaining = autocorrelation.clamp_min(1e-6) ** steps.view(1, -1, 1)  # [B, H, R]
    expected = mean + remaining * (history[:, -1:] - mean)
    std = (square / rows.sum(1, keepdim=True) * (1 - remaining.square())).sqrt()
    unplanned = planned.isnan()
    return torch.where(unplanned, expected, planned), torch.where(unplanned, std, 0.0)


def damp_trend(basis: Tensor) -> Tensor:
    """Calendar terms [B, H, Q] with a damped trend (Gardner & McKenzie, 1985).

    A trend over a few months locates a series but predicts little about where it will be. That it
    may go on undamped is left to the draws of its coefficient.
    """
    ahead = torch.arange(1, basis.shape[1] + 1, dtype=basis.dtype, device=basis.device)
    ratio = DAMPING * (1 - DAMPING**ahead) / (1 - DAMPING) / ahead  # damped over undamped trend
    trend = basis[..., 1:2] * ratio.unsqueeze(-1)
    return torch.cat([basis[..., :1], trend, basis[..., 2:]], dim=-1)
