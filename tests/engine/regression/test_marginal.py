"""The marginal likelihood, its gradient and its posterior against dense Gaussian algebra."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regression_panels import GROUPS, weekly
from scipy.stats import multivariate_normal
from torch import Tensor

from causalmmm.engine.regression import RegressionConfig, layout
from causalmmm.engine.regression.fit import Choice, base_problem
from causalmmm.engine.regression.marginal import Moments, log_marginal, posterior

ROLES = ("channel", "channel", "target")
STORES, STEPS, COLUMNS = 3, 20, 4


@pytest.fixture
def case() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return {
        "x": normal(STORES, STEPS, COLUMNS),
        "y": normal(STORES, STEPS),
        "centre": normal(STORES, COLUMNS),
        "scale": normal(STORES, COLUMNS).exp(),
        "log_noise": 0.3 * normal(STORES),
    }


def moments(x: Tensor, y: Tensor) -> Moments:
    rows = torch.full(y.shape[:1], float(y.shape[1]), dtype=torch.float64)
    return Moments(x.mT @ x, (x.mT @ y.unsqueeze(-1)).squeeze(-1), y.square().sum(-1), rows)


def test_marginal_likelihood_is_the_density_of_the_dense_normal(case: dict[str, Tensor]) -> None:
    value = log_marginal(
        moments(case["x"], case["y"]), case["centre"], case["scale"], case["log_noise"]
    )
    for s in range(STORES):
        x, scale = case["x"][s].numpy(), case["scale"][s].numpy()
        covariance = x @ np.diag(scale**2) @ x.T
        covariance += np.exp(2 * case["log_noise"][s].item()) * np.eye(STEPS)
        dense = multivariate_normal(x @ case["centre"][s].numpy(), covariance)
        assert value[s].item() == pytest.approx(dense.logpdf(case["y"][s].numpy()), rel=1e-10)


def test_gradient_agrees_with_finite_differences(case: dict[str, Tensor]) -> None:
    inputs = [case[name].requires_grad_() for name in ("x", "centre", "scale", "log_noise")]

    def value(x: Tensor, centre: Tensor, scale: Tensor, log_noise: Tensor) -> Tensor:
        return log_marginal(moments(x, case["y"]), centre, scale, log_noise)

    assert torch.autograd.gradcheck(value, inputs)


@pytest.mark.parametrize("rho", [0.0, 0.4])
def test_moments_with_one_other_response_are_those_of_all(rho: float) -> None:
    observed = weekly(0, channels=2).observed
    plan, choice = layout(ROLES), Choice(False, rho=rho)
    problem = base_problem(
        observed, plan, 2, [0, 1], GROUPS, None, RegressionConfig(), choice, skip_first=True
    )
    design, theta = problem.design, torch.zeros_like(problem.spec.centre)
    response = problem.responses(theta)
    decays = torch.tensor([[0.1], [0.7]], dtype=torch.float64)
    one = torch.ones_like(decays)
    other = design.sender(1).responses(decays, one, one).squeeze(-2)  # [2, B, T]
    quick = design.moments_with(design.moments(response), response, 1, other)
    for g in range(2):
        whole = design.moments(torch.stack([response[:, 0], other[g]], 1))
        torch.testing.assert_close(quick.xtx[g], whole.xtx)
        torch.testing.assert_close(quick.xty[g], whole.xty)


def test_gradient_of_a_scale_of_zero_is_finite(case: dict[str, Tensor]) -> None:
    scale = case["scale"].clone()
    scale[:, 1] = 0.0
    scale.requires_grad_()
    log_marginal(
        moments(case["x"], case["y"]), case["centre"], scale, case["log_noise"]
    ).sum().backward()
    assert scale.grad is not None
    assert scale.grad.isfinite().all()


def test_posterior_is_that_of_the_dense_normal(case: dict[str, Tensor]) -> None:
    _, found = posterior(
        moments(case["x"], case["y"]), case["centre"], case["scale"], case["log_noise"]
    )
    precision = torch.exp(-2 * case["log_noise"])[:, None, None]
    inverse = case["x"].mT @ case["x"] * precision + torch.diag_embed(case["scale"] ** -2)
    covariance = torch.linalg.inv(inverse)
    right = (case["x"].mT @ case["y"].unsqueeze(-1)) * precision
    right = right + (case["centre"] * case["scale"] ** -2).unsqueeze(-1)
    torch.testing.assert_close(found.mean, (covariance @ right).squeeze(-1))
    torch.testing.assert_close(found.covariance(), covariance)


def test_covariance_of_draws_is_the_posterior_s(case: dict[str, Tensor]) -> None:
    _, found = posterior(
        moments(case["x"], case["y"]), case["centre"], case["scale"], case["log_noise"]
    )
    generator = torch.Generator().manual_seed(1)
    normal = torch.randn(40_000, STORES, COLUMNS, generator=generator, dtype=torch.float64)
    drawn = found.draw(normal)
    for s in range(STORES):
        exact = found.covariance()[s]
        sd = exact.diagonal().sqrt()
        error = (torch.cov(drawn[:, s].T) - exact) / sd.outer(sd)
        assert error.abs().max() < 0.03  # four standard errors of 40,000 draws
