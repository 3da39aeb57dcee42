"""Operations on row masks of windows, bool [B, T]."""

from __future__ import annotations

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
