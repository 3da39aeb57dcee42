"""Bounds of mixture intervals against bisection in float64, one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from causalmmm.engine.predict.quantiles import mixture_quantiles

LEVEL = (0.5, 0.8, 0.95)


def bisected(
    location: np.ndarray, scale: np.ndarray, weight: np.ndarray, probability: float
) -> float:
    """Quantile of the mixture by bisection; -inf where the mass below the components reaches it."""
    erf = np.vectorize(math.erf)

    def reached(x: float) -> float:
        inside = 0.5 + 0.5 * erf((x - location) / scale / math.sqrt(2))
        return float(1 - weight.mean() + (weight * inside).mean())

    low, high = -1e3, 1e3
    if reached(low) >= probability:
        return -math.inf
    for _ in range(80):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if reached(middle) < probability else (low, middle)
    return low


CASES = {
    "alike": (0.3, 0.1, False),
    "as far apart as wide": (1.0, 0.3, False),
    "scales of all sizes": (0.3, 1.0, False),
    "with mass below": (0.3, 0.3, True),
}


@pytest.mark.parametrize("name", CASES)
def test_ends_are_those_of_the_mixture(name: str) -> None:
    apart, uneven, with_mass_below = CASES[name]
    rng = np.random.default_rng(0)
    location = apart * rng.standard_normal((16, 40))
    scale = np.exp(uneven * rng.standard_normal((16, 40)))
    weight = (
        np.where(rng.random((16, 40)) < 0.5, 0.9, 0.3) if with_mass_below else np.ones((16, 40))
    )
    mixture = [torch.from_numpy(x).float() for x in (location, scale, weight)]
    bounds = mixture_quantiles(*mixture, torch.tensor(LEVEL))
    assert bounds.shape == (6, 40)
    probabilities = [
        probability for level in LEVEL for probability in ((1 - level) / 2, (1 + level) / 2)
    ]
    for k, probability in enumerate(probabilities):
        expected = [
            bisected(location[:, m], scale[:, m], weight[:, m], probability) for m in range(40)
        ]
        np.testing.assert_allclose(bounds[k], expected, rtol=1e-3, atol=2e-3)
    if with_mass_below:
        assert (bounds[0] == -torch.inf).any()


def test_one_component_gives_normal_quantiles() -> None:
    location, scale = torch.tensor([[2.0]]), torch.tensor([[3.0]])
    ends = mixture_quantiles(location, scale, torch.ones(1, 1), torch.tensor([0.9]))
    expected = 2 + 3 * torch.special.ndtri(torch.tensor([0.05, 0.95]))
    torch.testing.assert_close(ends[:, 0], expected, rtol=1e-5, atol=1e-5)
