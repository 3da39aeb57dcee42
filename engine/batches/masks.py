"""Operations on row masks of windows, bool [B, T]."""

from __future__ import annotations

import torch
from torch import Tensor


def has_full_lags(context_mask: Tensor, lags: int) -> Tensor:
    """bool [B, T - lags]: context rows with ``lags`` rows of history before them.

    The first row of a history is always a context row, so everything after it is history.
    """
    begun = context_mask.cumsum(-1) > 0
    return context_mask[:, lags:] & begun[:, : context_mask.shape[-1] - lags]


def masked_mean(series: Tensor, mask: Tensor) -> Tensor:
    """[B, N, 1]: mean of series [B, N, T] over the rows of ``mask``."""
    rows = mask.to(series.dtype).unsqueeze(-1)  # [B, T, 1]
    return series @ rows / rows.sum(1, keepdim=True)


def as_receivers(x: Tensor, spend: Tensor, context_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Series [B, N, T] as receivers, and where they are active [B, N, T], as 0 or 1.

    Zero spend is a decision: what drives a channel (``spend``, bool [N]) shows in how much it
    spends on the rows where it does. Only those are explained; on the others it takes its average.
    """
    active = ((x != 0) | ~spend.unsqueeze(-1)).to(x.dtype)
    counted = active * context_mask.unsqueeze(1)
    level = (x * counted).sum(-1) / counted.sum(-1).clamp_min(1.0)
    return torch.where(active > 0, x, level.unsqueeze(-1)), active
