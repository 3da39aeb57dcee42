"""Window statistics against independent regressions in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from small import alike, rounded

from causalmmm.engine.batches.batch import Batch
from causalmmm.engine.evidence.mean_field import mean_field
from causalmmm.engine.evidence.response import ResponseEvidence, response_evidence, response_terms
from causalmmm.engine.evidence.window_stats import WindowStatistics, window_statistics
from causalmmm.engine.nn.baseline import CalendarBaseline
from causalmmm.engine.ops.linalg import cholesky
from causalmmm.engine.spec.calendar import Calendar, CalendarSpec

RIDGE = 10.0


def driven(steps: int = 300, seed: int = 0) -> np.ndarray:
    """Three standard series; series 0 drives series 1 two steps later, nothing else."""
    rng = np.random.default_rng(seed)
    series = rng.standard_normal((3, steps))
    series[1, 2:] += 0.8 * series[0, :-2]
    return series


def statistics_of(x: torch.Tensor, context_mask: torch.Tensor, lags: int) -> WindowStatistics:
    """Statistics of series that are always active."""
    return window_statistics(x, x, torch.ones_like(x), context_mask, lags)


def test_group_evidence_matches_a_ridge_regression_row_by_row() -> None:
    lags, series = 3, driven()
    x = torch.from_numpy(series).float()[None]
    context_mask = torch.ones(1, series.shape[1], dtype=torch.bool)
    context_mask[0, 100:150] = False
    statistics = statistics_of(x, context_mask, lags)

    visible = context_mask[0].numpy()
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
        received = np.sqrt((series[j, visible] ** 2).mean())
        np.testing.assert_allclose(statistics.spread[0, j], received, rtol=1e-5)
        for i in range(3):
            block = slice(i * lags, (i + 1) * lags)
            wald = beta[block] @ np.linalg.inv(covariance[block, block]) @ beta[block] / noise
            expected = np.clip(np.sqrt(wald) - np.sqrt(lags), -8, 8) / 2
            np.testing.assert_allclose(
                statistics.edges[0, i, j, 2 * lags + 1], expected, rtol=1e-3, atol=1e-4
            )


def test_a_driving_series_stands_out() -> None:
    x = torch.from_numpy(driven()).float()[None]
    context_mask = torch.ones(1, 300, dtype=torch.bool)
    evidence = statistics_of(x, context_mask, 4).edges[0, ..., 9]
    others = evidence[~torch.eye(3, dtype=torch.bool)].sort().values
    assert evidence[0, 1] == others[-1]
    assert others[-1] > others[-2] + 1.5


def test_target_rows_do_not_enter_the_statistics() -> None:
    """Rows after the last context row can hold anything."""
    x = torch.from_numpy(driven()).float()[None]
    context_mask = torch.ones(1, 300, dtype=torch.bool)
    context_mask[0, 200:] = False
    before = statistics_of(x, context_mask, 3)
    x[..., 200:] = torch.randn(1, 3, 100) * 50
    after = statistics_of(x, context_mask, 3)
    torch.testing.assert_close(before.edges, after.edges, rtol=0, atol=0)
    torch.testing.assert_close(before.spread, after.spread, rtol=0, atol=0)


def test_a_series_that_is_zero_on_all_context_rows_gives_finite_statistics() -> None:
    x = torch.from_numpy(driven()).float()[None].clone()
    x[:, 2, :200] = 0.0
    context_mask = torch.zeros(1, 300, dtype=torch.bool)
    context_mask[0, :200] = True
    statistics = statistics_of(x, context_mask, 3)
    assert torch.isfinite(statistics.edges).all()
    assert torch.isfinite(statistics.nodes).all()


def evidence_of(
    errors: torch.Tensor,
    responses: torch.Tensor,
    beta: torch.Tensor,
    log_noise: torch.Tensor,
    log_odds: torch.Tensor,
) -> ResponseEvidence:
    """Evidence where the calendar and the receivers' past explain nothing and all rows are used;
    errors [B, N, T], responses [B, N, D, T]. A store's prior odds are its log Bayes factors - 1."""
    stores, nodes, steps = errors.shape
    residual = torch.nn.functional.pad(errors, (1, 0))  # the row before, which acts on nothing
    terms = response_terms(
        residual,
        errors.new_zeros(nodes, 1),
        responses,
        errors.new_zeros(stores, 1, steps + 1),
        errors.new_zeros(stores, steps + 1, 1),
        beta,
        log_noise,
        torch.ones_like(residual),
        torch.ones(stores, steps + 1, dtype=torch.bool),
    )
    factor, _ = mean_field(terms.xty, terms.overlap, log_odds, 0.3)
    return response_evidence(terms, factor, factor - 1, 0.3)


def test_likelihood_ratio_is_that_of_the_two_gaussian_models() -> None:
    """For one sender the ratio is log p(errors | shared effect) - log p(errors | no effect)."""
    rng = np.random.default_rng(1)
    response, noise, effect = rng.standard_normal(80), 0.5, 0.05
    errors = effect * response + noise * rng.standard_normal(80)
    responses = np.zeros((1, 2, 1, 80))
    responses[0, 0, 0] = response
    got = evidence_of(
        torch.from_numpy(np.stack([np.zeros(80), errors])[None]).float(),
        torch.from_numpy(responses).float(),
        torch.full((2, 2, 1), effect),
        torch.full((1, 2), float(np.log(noise))),
        torch.zeros(2, 2),
    ).edges[0, 0, 1, 2]
    ratio = (errors**2 - (errors - effect * response) ** 2).sum() / (2 * noise**2)
    np.testing.assert_allclose(got, np.sign(ratio) * np.log1p(abs(ratio)) / 2, rtol=1e-4)


def test_bayes_factor_is_the_integral_over_a_stores_effect() -> None:
    """One sender, effect a ~ N(1, 0.3^2): log of the average likelihood ratio over a."""
    hit, xtx_diag, spread = 4.0, 3.0, 0.3
    a = np.linspace(-2, 4, 20_001)
    density = np.exp(-0.5 * ((a - 1) / spread) ** 2) / (spread * np.sqrt(2 * np.pi))
    expected = np.log(np.trapezoid(density * np.exp(a * hit - 0.5 * a**2 * xtx_diag), a))
    xty, overlap = torch.tensor([[[0.0] * 2, [hit] * 2]]), torch.zeros(1, 2, 2, 2)
    overlap[:, 1, 1] = xtx_diag
    factor, _ = mean_field(xty, overlap, torch.zeros(2, 2), spread)
    np.testing.assert_allclose(factor[0, 1, 0], expected, rtol=1e-4)


def test_a_correlated_sender_is_explained_away() -> None:
    """Two senders share most of their course; only the first drives the receiver."""
    rng = np.random.default_rng(0)
    first = rng.standard_normal(400)
    senders = np.stack([first, 0.9 * first + 0.4 * rng.standard_normal(400)])
    received = 0.5 * senders[0] + rng.standard_normal(400)
    x = torch.from_numpy(0.5 * senders).float()
    xty = (x @ torch.from_numpy(received).float()).expand(1, 2, 2).mT
    overlap = (x @ x.mT).unsqueeze(-1).expand(1, 2, 2, 2)
    by_itself = (xty - 0.5 * overlap.diagonal(dim1=1, dim2=2).mT)[0, :, 0]
    factor, post_mean = mean_field(xty, overlap, torch.full((2, 2), -2.0), 0.3)
    assert by_itself[1] > 5, "by itself the twin looks like a driver"
    assert factor[0, 0, 0] > 5 > 0 > factor[0, 1, 0]
    assert post_mean[0, 1, 0] < 0.1


def test_baseline_residual_is_orthogonal_to_the_calendar_without_shrinkage() -> None:
    torch.manual_seed(0)
    basis = torch.cat([torch.ones(1, 60, 1), torch.randn(1, 60, 2)], -1)
    baseline = CalendarBaseline(2, ("intercept", "weekly", "weekly"))
    with torch.no_grad():
        baseline.log_ridge.fill_(-12.0)
    context_mask = torch.ones(1, 60, dtype=torch.bool)
    x = torch.randn(1, 2, 60)
    _, residual = baseline(x, baseline.project(basis, context_mask))
    expected = (
        x[0].numpy().T
        - basis[0].numpy() @ np.linalg.lstsq(basis[0].numpy(), x[0].numpy().T, rcond=None)[0]
    )
    np.testing.assert_allclose(residual[0].detach().numpy().T, expected, atol=1e-4)


def smooth() -> torch.Tensor:
    """Waves of one frequency: every series and lag is a sum of two others, without any noise."""
    phase = 0.3 * torch.arange(4.0, dtype=torch.float64).unsqueeze(-1)
    return torch.sin(torch.arange(360) / 40 + phase).expand(6, -1, -1)


@pytest.mark.parametrize("series", [smooth, alike])
def test_rounding_hardly_changes_statistics_of_series_that_move_together(
    series: Callable[[], torch.Tensor],
) -> None:
    """The ridge is far above the rounding of sums in float32, so these need no float64."""
    exact = series()
    seen = torch.ones(len(exact), exact.shape[-1], dtype=torch.bool)
    expected = statistics_of(exact, seen, 14)
    for x in rounded(exact):
        found = statistics_of(x, seen, 14)
        torch.testing.assert_close(found.edges.double(), expected.edges, atol=1e-2, rtol=0)
        torch.testing.assert_close(found.nodes.double(), expected.nodes, atol=1e-4, rtol=0)


@pytest.mark.parametrize("log_noise", [-1.0, -4.0])
@pytest.mark.parametrize("series", [smooth, alike])
def test_rounding_hardly_changes_evidence_of_responses_that_move_together(
    series: Callable[[], torch.Tensor], log_noise: float
) -> None:
    """Carry-over of neighbouring lengths, and one response that is there twice."""
    exact = series() / series().abs().mean(-1, keepdim=True)
    decays = torch.tensor([0.1, 0.5, 0.52, 0.5], dtype=exact.dtype).unsqueeze(-1)
    stock, stocks = torch.zeros(*exact.shape[:2], 4, 1, dtype=exact.dtype), []
    for now in exact.split(1, dim=-1):
        stock = decays * stock + (1 - decays) * now.unsqueeze(2)
        stocks.append(stock)
    beta = 0.3 * torch.rand(4, 4, 4, generator=torch.Generator().manual_seed(0))

    def evidence(responses: torch.Tensor) -> ResponseEvidence:
        x = exact[..., 1:].to(responses.dtype)
        return evidence_of(
            x,
            responses,
            beta.to(x.dtype),
            torch.full(x.shape[:2], log_noise, dtype=x.dtype),
            torch.full((4, 4), -1.0, dtype=x.dtype),
        )

    responses = torch.cat(stocks, dim=-1)[..., :-1]
    expected = evidence(responses)
    for near in rounded(responses):
        found = evidence(near)
        torch.testing.assert_close(found.edges.double(), expected.edges, atol=1e-2, rtol=0)
        torch.testing.assert_close(found.factor.double(), expected.factor, atol=0.05, rtol=1e-3)


@pytest.mark.parametrize("steps", [60, 90, 360, 1000])
@pytest.mark.parametrize("log_ridge", [None, -6.0, -12.0])
def test_rounding_does_not_change_what_a_calendar_explains(
    steps: int, log_ridge: float | None
) -> None:
    """Yearly harmonics over a part of a year, and a control that is there twice, held apart by
    little shrinkage."""
    spec = CalendarSpec("D", yearly=3, control_mean=(0.0, 0.0), control_scale=(1.0, 1.0))
    days = np.datetime64("2023-01-01") + np.arange(steps)
    calendar = torch.from_numpy(Calendar(spec, days).rows(np.arange(steps)[None])).double()
    rng = np.random.default_rng(0)
    control = torch.from_numpy(rng.standard_normal((1, steps, 1)))
    basis = torch.cat([calendar, control, control], dim=-1)
    x = torch.from_numpy(rng.gamma(2.0, 1.0, (1, 2, steps)))
    baseline = CalendarBaseline(2, spec.groups)
    if log_ridge is not None:
        baseline.log_ridge.data.fill_(log_ridge)
    seen = torch.ones(1, steps, dtype=torch.bool)

    def explained(basis: torch.Tensor) -> tuple[torch.Tensor, ...]:
        baseline.to(basis.dtype)
        series = x.to(basis.dtype)
        context, store = basis[:, 0, :0], torch.zeros(1, dtype=torch.int64)
        batch = Batch(series, basis, context, seen, torch.zeros_like(seen), store)
        left = baseline.explain(batch, torch.zeros(2, dtype=torch.bool))  # compiled in float32
        ahead = left.projection.ahead().residual(series[..., :-1])
        wobble = basis.double() @ cholesky(left.projection.spread.double())
        return left.received.double(), ahead.double(), wobble.square().sum(-1).sqrt()

    with torch.no_grad():
        expected = explained(basis)
        for near in rounded(basis):
            torch.testing.assert_close(explained(near), expected, atol=5e-4, rtol=0)
