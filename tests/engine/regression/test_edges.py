"""Inclusion probabilities against brute force, and what absent and forbidden edges do."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from causalmmm.engine.regression.edges import (
    MOST_EXACT,
    Slab,
    _propagated,
    all_subsets,
    inclusion,
    with_marginals,
)
from causalmmm.engine.regression.marginal import Moments, posterior

SENDERS, STEPS = 3, 15


def draw(seed: int, senders: int = SENDERS, steps: int = STEPS) -> tuple[torch.Tensor, ...]:
    rng = np.random.default_rng(seed)
    h = torch.from_numpy(rng.standard_normal((1, steps, senders)))
    effect = torch.from_numpy(rng.standard_normal(senders) * (rng.random(senders) < 0.5))
    y = (h @ effect) + torch.from_numpy(rng.standard_normal((1, steps)))
    return h, y


def at_unit_noise(h: torch.Tensor, y: torch.Tensor) -> Moments:
    zero = torch.zeros(1, dtype=torch.float64)
    return Moments(h.mT @ h, (h.mT @ y.unsqueeze(-1)).squeeze(-1), zero, zero)


def slab(senders: int, positive: bool = False) -> Slab:
    return Slab(
        torch.linspace(0.2, 0.9, senders, dtype=torch.float64),
        torch.full((senders,), 0.7, dtype=torch.float64),
        torch.linspace(-1.0, 0.5, senders, dtype=torch.float64),
        torch.full((senders,), positive),
    )


@pytest.mark.parametrize("seed", range(3))
def test_subsets_weigh_as_their_dense_evidence_says(seed: int) -> None:
    h, y = draw(seed)
    prior = slab(SENDERS)
    weights, total = np.zeros(SENDERS), 0.0
    for subset in product([0, 1], repeat=SENDERS):
        on = np.array(subset)
        covariance = np.eye(STEPS)
        covariance += h[0].numpy() @ np.diag(on * prior.sd.numpy() ** 2) @ h[0].numpy().T
        mean = h[0].numpy() @ (on * prior.mean.numpy())
        value = multivariate_normal(mean, covariance).logpdf(y[0].numpy())
        weight = np.exp(value + on @ prior.log_odds.numpy())
        weights += weight * on
        total += weight
    found = inclusion(at_unit_noise(h, y), prior)
    np.testing.assert_allclose(found.probability[0], weights / total, rtol=1e-8)


def test_the_tail_factor_is_that_of_truncated_effects() -> None:
    h, y = draw(5, senders=1)
    prior = slab(1, positive=True)
    grid = torch.linspace(0, 12, 200_001, dtype=torch.float64)
    density = torch.exp(-0.5 * ((grid - prior.mean) / prior.sd) ** 2)
    density = density / torch.trapezoid(density, grid)  # a normal cut at zero
    moments = at_unit_noise(h, y)
    log_ratio = moments.xty[0, 0] * grid - 0.5 * moments.xtx[0, 0, 0] * grid**2
    evidence = torch.trapezoid(density * log_ratio.exp(), grid)
    odds = evidence * prior.log_odds.exp()
    torch.testing.assert_close(
        inclusion(moments, prior).probability[0], odds / (1 + odds), rtol=1e-6, atol=0
    )


def test_required_senders_are_in_every_subset() -> None:
    h, y = draw(1)
    prior = slab(SENDERS)
    odds = prior.log_odds.clone()
    odds[1] = torch.inf
    found = inclusion(at_unit_noise(h, y), Slab(prior.mean, prior.sd, odds, prior.positive))
    assert found.probability[0, 1].item() == pytest.approx(1.0, abs=1e-12)
    assert (found.probability[0, [0, 2]] < 1.0).all()
    assert len(all_subsets(odds == torch.inf)) == 4


@pytest.mark.parametrize("seed", range(3))
def test_expectation_propagation_is_close_to_the_exact_sum(seed: int) -> None:
    h, y = draw(seed, senders=8, steps=60)
    prior = slab(8)
    moments = at_unit_noise(h, y)
    exact = inclusion(moments, prior).probability
    assert (_propagated(moments, prior) - exact).abs().max() < 0.05


def test_many_senders_are_not_enumerated() -> None:
    h, y = draw(0, senders=MOST_EXACT + 5, steps=80)
    found = inclusion(at_unit_noise(h, y), slab(MOST_EXACT + 5))
    assert found.subsets is None
    assert ((found.probability >= 0) & (found.probability <= 1)).all()


def test_drawn_graphs_have_the_posterior_s_frequencies() -> None:
    h, y = draw(2)
    found = inclusion(at_unit_noise(h, y), slab(SENDERS))
    uniform = torch.rand(
        20_000, 1, SENDERS, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    assert (found.draw(uniform).mean(0) - found.probability).abs().max() < 0.015


def test_the_sum_over_twelve_senders_is_that_of_one_subset_after_the_other() -> None:
    h, y = draw(3, senders=MOST_EXACT, steps=60)
    prior, moments = slab(MOST_EXACT), at_unit_noise(h, y)
    found = inclusion(moments, prior)
    assert found.subsets is not None
    assert found.weights is not None
    some = torch.arange(0, len(found.subsets), 97)
    values = []
    for held in found.subsets[some]:
        value, _ = posterior(moments, prior.mean * held, prior.sd * held, moments.yty)
        values.append(value + held @ prior.log_odds)
    expected = torch.cat(values).softmax(0)
    weights = found.weights[0, some]
    torch.testing.assert_close(weights / weights.sum(), expected)


@pytest.mark.parametrize("seed", range(3))
def test_marginals_are_met_by_a_term_per_sender_alone(seed: int) -> None:
    """Then no posterior with these marginals is nearer (Csiszar, 1975)."""
    senders = 5
    h, y = draw(seed, senders)
    h[..., 1] = h[..., 0] + 0.3 * h[..., 1]  # stand in for each other
    found = inclusion(at_unit_noise(h, y), slab(senders))
    other = torch.logit(torch.tensor([[0.02, 0.97, 0.5, 0.1, 0.7]], dtype=torch.float64))
    wanted = torch.sigmoid(torch.logit(found.probability, eps=1e-4) / 3 + other * 2 / 3)
    met = with_marginals(found, wanted)
    assert met.weights is not None
    assert found.weights is not None
    assert met.subsets is not None
    torch.testing.assert_close(met.weights @ met.subsets, wanted, atol=2e-3, rtol=0)
    ratio = (met.weights / found.weights).log()[0].numpy()
    columns = np.c_[np.ones(len(ratio)), met.subsets.numpy()]
    left = ratio - columns @ np.linalg.lstsq(columns, ratio, rcond=None)[0]
    assert np.abs(left).max() < 1e-8
