"""Draws weighed by experiments, against conjugate normal posteriors."""

from __future__ import annotations

import math

import pytest
import torch

from causalmmm.engine.decisions import agree, removed_variance

DRAWS = 4000


def _asked(
    mean: float, sd: float, value: float, error: float, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draws of one lift, and the measurement, as ``agree`` takes them."""
    generator = torch.Generator().manual_seed(seed)
    drawn = mean + sd * torch.randn(DRAWS, 1, generator=generator, dtype=torch.float64)
    return drawn, torch.tensor([value]).double(), torch.tensor([error]).double()


def test_an_experiment_that_agrees_narrows_the_draws() -> None:
    lifts, value, error = _asked(10, 2, 10.5, 1)
    found = agree(lifts, value, error, torch.tensor([0]), DRAWS, seed=1)
    after = lifts[found.index, 0] * found.factor[:, 0]
    # With a factor of one: mean 10.4, deviation .894; a factor leaves more to the experiment.
    assert 10.35 < float(after.mean()) < 10.5
    assert 0.89 < float(after.std()) < 1.05
    assert float(found.wrong[0]) < 0.5
    assert found.effective > DRAWS / 4


@pytest.mark.parametrize("value", [30.0, 2.0])
def test_an_experiment_that_contradicts_the_panel_is_followed(value: float) -> None:
    lifts, told, error = _asked(10, 0.5, value, 0.05 * value)
    found = agree(lifts, told, error, torch.tensor([0]), DRAWS, seed=1)
    after = lifts[found.index, 0] * found.factor[:, 0]
    assert float(after.mean()) == pytest.approx(value, rel=0.03)
    # the measurement's error, and .09 by which a window's factor differs from the history's
    assert float(after.std()) == pytest.approx(math.hypot(0.05, 0.09) * value, rel=0.15)
    assert float(found.wrong[0]) > 0.999
    assert found.effective > DRAWS / 2  # the factor, not the choice of draws, bridges the gap


def test_experiments_on_one_channel_leave_others_as_they_are() -> None:
    generator = torch.Generator().manual_seed(3)
    lifts = 10 + torch.randn(DRAWS, 2, generator=generator, dtype=torch.float64)
    value, error = torch.tensor([20.0, 10.0]).double(), torch.tensor([1.0, 1000.0]).double()
    found = agree(lifts, value, error, torch.tensor([0, 1]), 500, seed=0)
    assert found.factor[:, 0].mean() > 1.7
    assert float(found.factor[:, 1].median()) == 1.0
    other = lifts[found.index, 1]
    assert float(other.mean()) == pytest.approx(10, abs=0.2)
    assert float(other.std()) == pytest.approx(1, rel=0.15)


def test_a_draw_without_the_edge_gives_way_to_a_clear_lift() -> None:
    lifts, value, error = _asked(10, 1, 10, 1)
    lifts[: DRAWS // 2] = 0.0
    found = agree(lifts, value, error, torch.tensor([0]), DRAWS, seed=0)
    assert float((lifts[found.index] == 0).double().mean()) < 0.001


def test_the_variance_that_a_test_removes_is_that_of_the_linear_gaussian_posterior() -> None:
    generator = torch.Generator().manual_seed(4)
    drawn = torch.randn(DRAWS, 3, generator=generator, dtype=torch.float64)
    drawn = drawn - drawn.mean(0)  # whitened: the sample has the moments of the law to the bit
    drawn = drawn @ torch.linalg.inv(torch.linalg.cholesky(drawn.T.cov()).T)
    root = torch.tensor([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [0.3, -0.2, 2.0]]).double()
    effects, prior = drawn @ root.T, root @ root.T
    gain, tests = torch.tensor([1.0, 2.0, 0.5]).double(), torch.eye(3).double()
    errors = torch.tensor([0.5, 1.0, 3.0]).double()
    found = removed_variance(effects @ gain, effects @ tests, errors)
    for t in range(3):
        precision = torch.linalg.inv(prior) + tests[:, t].outer(tests[:, t]) / errors[t] ** 2
        left = gain @ torch.linalg.inv(precision) @ gain  # conjugate posterior
        removed = float(gain @ prior @ gain - left)
        assert float(found[t]) == pytest.approx(removed, rel=2e-3, abs=1e-3)


def test_a_test_of_what_does_not_matter_removes_nothing() -> None:
    generator = torch.Generator().manual_seed(5)
    gain = torch.randn(100, generator=generator, dtype=torch.float64)
    lifts = torch.randn(100, 400, generator=generator, dtype=torch.float64)
    found = removed_variance(gain, lifts, torch.zeros(400, dtype=torch.float64))
    assert float(found.mean() / gain.var()) < 0.01  # 1 % by chance, were it not taken off
    assert float((found == 0).double().mean()) > 0.5


def test_the_same_seed_chooses_the_same_draws() -> None:
    asked = _asked(10, 2, 12, 1)
    one, two = (agree(*asked, torch.tensor([0]), 100, seed=5) for _ in range(2))
    assert torch.equal(one.index, two.index)
    assert torch.equal(one.factor, two.factor)
