"""Evidence of each store alone: against independent implementations and simulated drivers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small import alike, rounded
from torch import Tensor

from causalmmm.engine.evidence.ard import ard_evidence, ard_forecast

STORES, NODES, STEPS, LAGS = 6, 4, 200, 3
PAIRS = ~np.eye(NODES, dtype=bool)


def driven(effect: float = 0.6, seed: int = 0) -> Tensor:
    """Standard series [S, N, T]; series 0 drives series 1 two steps later, nothing else."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((STORES, NODES, STEPS))
    x[:, 1, 2:] += effect * x[:, 0, :-2]
    return torch.from_numpy(x)


def everything(x: Tensor) -> tuple[Tensor, Tensor]:
    return torch.ones_like(x), torch.ones(len(x), x.shape[-1], dtype=torch.bool)


def evidence(x: Tensor, positive: Tensor | None = None, lags: int = LAGS) -> Tensor:
    known = torch.zeros(NODES, NODES, dtype=torch.bool) if positive is None else positive
    return ard_evidence(x, x, *everything(x), known, lags)


def test_the_driver_stands_out_in_every_store() -> None:
    log_bf = evidence(driven()).numpy()
    assert (log_bf[:, 0, 1] > 8).all()
    others = PAIRS.copy()
    others[0, 1] = False
    assert np.quantile(log_bf[:, others], 0.9) < 1
    assert (log_bf[:, ~PAIRS] == 0).all()


def test_a_negative_effect_is_no_evidence_for_a_positive_one() -> None:
    positive = torch.zeros(NODES, NODES, dtype=torch.bool)
    positive[0, 1] = True
    x = driven(effect=-0.6)
    assert (evidence(x)[:, 0, 1] > 8).all()
    assert (evidence(x, positive)[:, 0, 1] < evidence(x)[:, 0, 1] - 5).all()
    gain = evidence(driven(), positive)[:, 0, 1] - evidence(driven())[:, 0, 1]
    np.testing.assert_allclose(gain, np.log(2), atol=5e-3)  # the sign was known beforehand


def test_target_rows_and_rows_without_spend_are_not_used() -> None:
    x = driven()
    active, context_mask = everything(x)
    context_mask[:, 150:] = False
    active[:, 1, 40:60] = 0
    received = x.clone()
    received[:, :, 150:] += 7.0
    received[:, 1, 40:60] -= 5.0
    positive = torch.zeros(NODES, NODES, dtype=torch.bool)
    torch.testing.assert_close(
        ard_evidence(x, x, active, context_mask, positive, LAGS),
        ard_evidence(x, received, active, context_mask, positive, LAGS),
    )


def test_float32_agrees_with_float64() -> None:
    exact, single = evidence(driven()), evidence(driven().float())
    torch.testing.assert_close(single.double(), exact, atol=2e-2, rtol=1e-3)


def test_forecasts_of_target_rows_are_calibrated() -> None:
    x = driven()
    active, context_mask = everything(x)
    context_mask[:, 120:] = False
    mean, sd = ard_forecast(x, x, active, context_mask, LAGS)
    assert mean.shape == sd.shape == (STORES, NODES, STEPS - LAGS)
    hidden = x[..., 120:]
    z_score = ((hidden - mean[..., 120 - LAGS :]) / sd[..., 120 - LAGS :]).numpy()
    assert 0.9 < z_score.std() < 1.1
    explained = 1 - (hidden - mean[..., 120 - LAGS :]).square().mean((0, 2)) / hidden.var((0, 2))
    assert explained[1] == pytest.approx(0.36 / 1.36, abs=0.08)
    assert explained[[0, 2, 3]].abs().max() < 0.05


def test_a_constant_series_neither_drives_nor_is_driven() -> None:
    x = driven()
    x[:, 3] = 0.0
    log_bf = evidence(x)
    assert torch.isfinite(log_bf).all()
    assert (log_bf[:, 3, :3] < 1).all()
    assert (log_bf[:, :3, 3] < 1).all()


def test_series_that_float32_cannot_tell_apart_do_not_break_it() -> None:
    found = evidence(alike().float(), lags=14)
    assert found.isfinite().all()
    assert (torch.maximum(found[:, 0, 3], found[:, 1, 3]) > 10).all()


@pytest.mark.parametrize("lags", [7, 14])
def test_rounding_of_the_series_decides_nothing(lags: int) -> None:
    """Nor do the order of the series and the number of threads, which round sums differently."""
    exact, order = alike(), torch.tensor([2, 0, 3, 1])
    back = order.argsort()
    expected, threads = evidence(exact, lags=lags), torch.get_num_threads()
    try:
        for used, x in enumerate(rounded(exact), 1):
            torch.set_num_threads(used)
            found = evidence(x, lags=lags).double()
            torch.testing.assert_close(found, expected, atol=0.02, rtol=1e-3)
            found = evidence(x[:, order], lags=lags)[:, back][:, :, back].double()
            torch.testing.assert_close(found, expected, atol=0.02, rtol=1e-3)
    finally:
        torch.set_num_threads(threads)


def test_rounding_of_the_series_does_not_change_forecasts() -> None:
    exact = alike()
    expected = ard_forecast(exact, exact, *everything(exact), 7)
    for x in rounded(exact):
        for found, part in zip(ard_forecast(x, x, *everything(x), 7), expected, strict=True):
            torch.testing.assert_close(found.double(), part, atol=1e-4, rtol=1e-3)
