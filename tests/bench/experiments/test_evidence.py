"""Empirical-Bayes evidence: right on cases with known answers, and indifferent to spare lags."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bench.experiments.baselines.evidence import _posterior, edge_probability, group_evidence
from bench.lib.metrics import edge_metrics
from bench.lib.scenarios import draw

from causalmmm.engine.evidence.ard import ard_evidence


def driven_by_lag(lag: int, *, stores: int = 8, steps: int = 120, size: float = 0.8) -> np.ndarray:
    """Series 0 drives series 2 after ``lag`` steps; series 1 is alone."""
    rng = np.random.default_rng(lag)
    series = rng.standard_normal((stores, steps, 3))
    series[:, lag:, 2] += size * series[:, :-lag, 0]
    return series


@pytest.mark.parametrize("lag", [1, 4, 7])
@pytest.mark.parametrize("lags", [7, 14])
def test_the_driver_stands_out_at_whatever_lag_it_acts(lag, lags):
    evidence = group_evidence(driven_by_lag(lag), lags)
    rest = evidence[:, ~np.eye(3, dtype=bool)]
    assert (evidence[:, 0, 2] > 8.0).all()
    assert np.median(rest) < 1.0
    assert (evidence[:, 0, 2] == rest.max(1)).all()


def test_ratio_equals_the_difference_of_two_marginal_likelihoods():
    """Savage-Dickey at fixed variances against log densities of the data computed outright."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((60, 6)), rng.standard_normal(60)
    y = y + x[:, 0]
    variance, noise = rng.uniform(0.1, 1.0, 6), 0.5

    def log_density(v: np.ndarray) -> float:
        covariance = noise * np.eye(60) + (x * v) @ x.T
        sign, log_det = np.linalg.slogdet(covariance)
        assert sign > 0
        return -0.5 * (log_det + y @ np.linalg.solve(covariance, y))

    gram, cross = torch.tensor(x.T @ x)[None, None], torch.tensor(x.T @ y)[None, None]
    _, covariance, mean = _posterior(
        gram, cross, torch.tensor(variance)[None, None, None], torch.tensor([[noise]]).double()
    )
    group = slice(0, 3)
    block, m = covariance[0, 0, group, group], mean[0, 0, group]
    ratio = 0.5 * (torch.logdet(block) + m @ torch.linalg.solve(block, m))
    without = np.where(np.arange(6) < 3, 0.0, variance)
    assert float(ratio) == pytest.approx(log_density(variance) - log_density(without), rel=1e-9)


def test_scale_and_weekday_of_a_series_do_not_matter():
    series = driven_by_lag(2)
    moved = series * [1e4, 1.0, 0.01] + 3.0 * (np.arange(120) % 7 == 2)[:, None] + 50.0
    np.testing.assert_allclose(group_evidence(moved), group_evidence(series), atol=1e-3)


def test_a_silent_series_is_no_cause_and_breaks_nothing():
    series = driven_by_lag(1)
    series[:, :, 1] = 0.0
    evidence = group_evidence(series)
    assert np.isfinite(evidence).all()
    assert np.abs(evidence[:, 1]).max() < 1e-6


def test_lag_seven_and_the_published_law_are_found_with_spare_lags():
    published = draw("published-law", 0, stores=20)
    x = published.panel.data.values.reshape(20, -1, 8)
    assert edge_metrics(group_evidence(x), published.edges)["auroc"] > 0.99
    assert edge_metrics(group_evidence(x, 14), published.edges)["auroc"] > 0.97


def test_no_evidence_leaves_the_prior():
    np.testing.assert_allclose(edge_probability(np.array([-800.0, 0.0, 800.0]), 0.2), [0, 0.2, 1])


def test_the_engines_evidence_agrees_with_it() -> None:
    """Two implementations of one idea: this one in float64 for all methods' benches, and that of
    the package, which knows of pauses and signs besides."""
    rng = np.random.default_rng(1)
    series = rng.standard_normal((6, 200, 4))
    for sender, receiver, effect in [(0, 1, 0.5), (1, 2, 0.35), (3, 0, 0.2), (2, 3, 0.1)]:
        series[:, 1:, receiver] += effect * series[:, :-1, sender]
    theirs = group_evidence(series, 3, period=2)
    x = torch.from_numpy(series.transpose(0, 2, 1))
    seen, unsigned = torch.ones(6, 200, dtype=torch.bool), torch.zeros(4, 4, dtype=torch.bool)
    ours = ard_evidence(x, x, torch.ones_like(x), seen, unsigned, 3).numpy()
    pairs = ~np.eye(4, dtype=bool)
    np.testing.assert_allclose(ours[:, pairs], theirs[:, pairs], rtol=0.2, atol=1.0)
    assert theirs[:, pairs].max() > 20
