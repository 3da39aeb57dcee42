"""What an answer is worth beside the truth of its draw. No method is known here."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from bench.lib.record import Row

Array = NDArray[np.float64]


def judged(answer: Mapping[str, Array], truth: Mapping[str, Array]) -> Row:
    """One row. Truth: ``contributions`` [S, C] over the seen weeks and ``future`` [S, H].

    wmape                sum of |mean - actual| over the hidden weeks, share of actual sales
    contribution_pooled  sum over channels of |estimated - true|, stores added up, share of the sum
    contribution_apart   median over stores and channels of |estimated / true - 1|
    roi_error            median over channels of |ROI / true ROI - 1|, stores added up
    cover_contributions, cover_future  share of true values inside 90 % intervals
    """
    future = truth["future"]
    row: Row = {"wmape": np.abs(answer["forecast"] - future).sum() / future.sum()}
    row["cover_future"] = covered(answer, "forecast", future)
    if "contributions" not in answer:
        return row
    true, found = truth["contributions"], answer["contributions"]
    pooled, whole = found.sum(0), true.sum(0)
    return row | {
        "contribution_pooled": np.abs(pooled - whole).sum() / whole.sum(),
        "contribution_apart": np.median(np.abs(found / true - 1.0)),
        "roi_error": np.median(np.abs(pooled / whole - 1.0)),  # spend is known, so it cancels
        "cover_contributions": covered(answer, "contributions", true),
    }


def covered(answer: Mapping[str, Array], name: str, true: Array) -> float | None:
    """Share of true values inside the intervals of an answer; None where it has none."""
    if f"{name}_lower" not in answer:
        return None
    inside = (answer[f"{name}_lower"] <= true) & (true <= answer[f"{name}_upper"])
    return float(inside.mean())
