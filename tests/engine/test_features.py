"""Window statistics against independent regressions in float64."""

from __future__ import annotations

import numpy as np
import torch

from causalmmm.engine.baseline import CalendarBaseline
from causalmmm.engine.features import response_statistics, window_statistics

RIDGE = 10.0


def driven(steps: int = 300, seed: int = 0) -> np.ndarray:
    """Three standard series; series 0 drives series 1 two steps later, nothing else."""
    rng = np.random.default_rng(seed)
    series = rng.standard_normal((3, steps))
    series[1, 2:] += 0.8 * series[0, :-2]
    return series


def test_group_evidence_matches_a_ridge_regression_row_by_row() -> None:
    lags, series = 3, driven()
    x = torch.from_numpy(series).float()[None]
    seen = torch.ones(1, series.shape[1], dtype=torch.bool)
    seen[0, 100:150] = False
    statistics = window_statistics(x, seen, lags)

    visible = seen[0].numpy()
    spread = np.sqrt((series**2)[:, visible].mean(1))
    z = series / spread[:, None]
    rows = [t for t in range(lags, z.shape[1]) if visible[t]]
    design = np.array([[z[i, t - k] for i in range(3) for k in range(1, lags + 1)] for t in rows])
    covariance = np.linalg.inv(design.T @ design + RIDGE * np.eye(3 * lags))
    freedom = 3 * lags - RIDGE * np.trace(covariance)
    for j in range(3):
        y = np.array([z[j, t] for t in rows])
        beta = covariance @ design.T @ y
        noise = (y @ y - beta @ design.T @ y) / (len(rows) - freedom)
        np.testing.assert_allclose(statistics.variance[0, j], noise * spread[j] ** 2, rtol=1e-4)
        for i in range(3):
            block = slice(i * lags, (i + 1) * lags)
            wald = beta[block] @ np.linalg.inv(covariance[block, block]) @ beta[block] / noise
            expected = np.clip(np.sqrt(wald) - np.sqrt(lags), -8, 8) / 2
            np.testing.assert_allclose(
                statistics.edges[0, i, j, 2 * lags + 1], expected, rtol=1e-3, atol=1e-4
            )


def test_a_driving_series_stands_out() -> None:
    x = torch.from_numpy(driven()).float()[None]
    seen = torch.ones(1, 300, dtype=torch.bool)
    evidence = window_statistics(x, seen, 4).edges[0, ..., 9]
    others = evidence[~torch.eye(3, dtype=torch.bool)].sort().values
    assert evidence[0, 1] == others[-1]
    assert others[-1] > others[-2] + 1.5


def test_hidden_rows_do_not_enter_the_statistics() -> None:
    """Rows after the last seen one can hold anything."""
    x = torch.from_numpy(driven()).float()[None]
    seen = torch.ones(1, 300, dtype=torch.bool)
    seen[0, 200:] = False
    before = window_statistics(x, seen, 3)
    x[..., 200:] = torch.randn(1, 3, 100) * 50
    after = window_statistics(x, seen, 3)
    torch.testing.assert_close(before.edges, after.edges, rtol=0, atol=0)
    torch.testing.assert_close(before.variance, after.variance, rtol=0, atol=0)


def test_a_series_that_is_silent_where_seen_gives_finite_statistics() -> None:
    x = torch.from_numpy(driven()).float()[None].clone()
    x[:, 2, :200] = 0.0
    seen = torch.zeros(1, 300, dtype=torch.bool)
    seen[0, :200] = True
    statistics = window_statistics(x, seen, 3)
    assert torch.isfinite(statistics.edges).all()
    assert torch.isfinite(statistics.nodes).all()


def test_likelihood_ratio_is_that_of_the_two_gaussian_models() -> None:
    """For one sender the ratio is log p(errors | shared effect) - log p(errors | no effect)."""
    rng = np.random.default_rng(1)
    response, noise, effect = rng.standard_normal(80), 0.5, 0.05
    errors = effect * response + noise * rng.standard_normal(80)
    responses = np.zeros((1, 2, 1, 80))
    responses[0, 0, 0] = response
    got = response_statistics(
        torch.from_numpy(np.stack([np.zeros(80), errors])[None]).float(),
        torch.from_numpy(responses).float(),
        torch.full((2, 2, 1), effect),
        torch.full((1, 2), float(np.log(noise))),
        torch.ones(1, 80, dtype=torch.bool),
    )[0, 0, 1, 2]
    ratio = (errors**2 - (errors - effect * response) ** 2).sum() / (2 * noise**2)
    np.testing.assert_allclose(got, np.sign(ratio) * np.log1p(abs(ratio)) / 2, rtol=1e-4)


def test_baseline_residual_is_orthogonal_to_the_calendar_without_shrinkage() -> None:
    torch.manual_seed(0)
    basis = torch.cat([torch.ones(1, 60, 1), torch.randn(1, 60, 2)], -1)
    baseline = CalendarBaseline(2, ("intercept", "weekly", "weekly"))
    with torch.no_grad():
        baseline.log_ridge.fill_(-12.0)
    seen = torch.ones(1, 60, dtype=torch.bool)
    x = torch.randn(1, 2, 60)
    _, residual = baseline(x, baseline.project(basis, seen))
    expected = (
        x[0].numpy().T
        - basis[0].numpy() @ np.linalg.lstsq(basis[0].numpy(), x[0].numpy().T, rcond=None)[0]
    )
    np.testing.assert_allclose(residual[0].detach().numpy().T, expected, atol=1e-4)
