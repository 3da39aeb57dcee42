"""Innovations: what goes together within a step, which way it runs, and what products explain."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from causalmmm.engine.prior.innovations import innovation_features

STEPS = 4000
TOGETHER, GIVEN_OTHERS, ENTROPY, SKEWNESS = range(4)
SQUARE, BOTH, THIRD = range(3)


def read(innovations: np.ndarray, before: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Statistics of one store's series [N, T], all rows used."""
    x = torch.tensor(innovations[None], dtype=torch.float32)
    past = torch.tensor(before[None], dtype=torch.float32)
    found = innovation_features(x, torch.ones_like(x), past)
    return tuple(part[0].double().numpy() for part in found)  # type: ignore[return-value]


def squashed(value: float) -> float:
    return float(np.sign(value) * np.log1p(abs(value)))


def entropy_loss(u: np.ndarray) -> float:
    tails = np.log(np.cosh(u)).mean() - 0.37457
    return float(79.047 * tails**2 + 7.4129 * (u * np.exp(-(u**2) / 2)).mean() ** 2)


def test_statistics_are_those_of_their_definitions_in_float64() -> None:
    """Series by series and pair by pair, on the rows that each is explained on."""
    rng = np.random.default_rng(0)
    nodes, steps = 4, 300
    raw = rng.exponential(1.0, (nodes, steps)) - 1.0
    raw[1] += 0.6 * raw[0]
    raw[3] -= 0.5 * raw[2]
    before = rng.standard_normal((nodes, steps))
    raw[2] += 0.4 * before[0] * before[1]
    used = (rng.random((nodes, steps)) < 0.8).astype(float)
    used[:, 7] = 1.0
    used[:, 9] = 0.0
    tensors = (torch.tensor(part[None], dtype=torch.float32) for part in (raw * used, used, before))
    mutual, products, series = (part[0].numpy() for part in innovation_features(*tensors))

    count = used.sum(1)
    e = np.zeros_like(raw)
    for j in range(nodes):
        rows = used[j] > 0
        value = raw[j, rows] - raw[j, rows].mean()
        value = np.clip(value / value.std(), -6, 6)
        e[j, rows] = value / np.sqrt((value**2).mean())
    seen = used.max(0) > 0
    past = before[:, seen] - before[:, seen].mean(1, keepdims=True)
    past = np.clip(past / past.std(1, keepdims=True), -6, 6)
    past /= np.sqrt((past**2).mean(1, keepdims=True))
    whole = e / np.sqrt(count)[:, None]
    inverse = np.linalg.inv(whole @ whole.T + max(nodes / count.max(), 0.02) * np.eye(nodes))
    skew = (e**3).sum(1) / count
    for i in range(nodes):
        assert series[i, 0] == pytest.approx(skew[i], rel=1e-3, abs=1e-4)
        for j in range(nodes):
            if i == j:
                assert not mutual[i, j].any()
                assert not products[i, j].any()
                continue
            rows = (used[i] * used[j]) > 0
            n, a, b = rows.sum(), e[i, rows], e[j, rows]
            rho = (a * b).mean()
            root = np.sqrt(1 - rho**2)
            entropy = entropy_loss(e[i, used[i] > 0]) + entropy_loss((b - rho * a) / root)
            entropy -= entropy_loss(e[j, used[j] > 0]) + entropy_loss((a - rho * b) / root)
            sure = np.tanh(skew * np.sqrt(count / 6))
            tilt = rho * (sure[i] * (a**2 * b).mean() - sure[j] * (a * b**2).mean())
            partial = -inverse[i, j] / np.sqrt(inverse[i, i] * inverse[j, j])
            expected = [np.sqrt(n) * rho, np.sqrt(n) * partial, n * entropy, np.sqrt(n) * tilt]
            np.testing.assert_allclose(
                mutual[i, j], [squashed(v) for v in expected], rtol=2e-3, atol=2e-3
            )

            def agreement(k: int, i: int = i, j: int = j) -> float:
                product = past[i] * past[k]
                return float((e[j, seen] * product).sum() / product.std() / np.sqrt(count[j]))

            third = max(abs(agreement(k)) for k in range(nodes) if k not in (i, j))
            expected = [agreement(i), agreement(j), third]
            np.testing.assert_allclose(
                products[i, j], [squashed(v) for v in expected], rtol=2e-3, atol=2e-3
            )


@pytest.mark.parametrize("noise", ["exponential", "laplace", "uniform"])
def test_what_comes_first_within_a_step_shows_in_shocks_that_are_not_normal(noise: str) -> None:
    rng = np.random.default_rng(1)
    shocks = getattr(rng, noise)(size=(4, STEPS))
    shocks[1] += 0.7 * shocks[0]
    shocks[2] -= 0.7 * shocks[1]  # 0 -> 1 -> 2, and the last alone
    mutual = read(shocks, rng.standard_normal((4, STEPS)))[0]
    for cause, effect in ((0, 1), (1, 2)):
        assert mutual[cause, effect, ENTROPY] > 3.0
        assert abs(mutual[cause, effect, GIVEN_OTHERS]) > 3.0
    # the path has no edge of its own; the lone series has none at all
    assert abs(mutual[0, 2, GIVEN_OTHERS]) < abs(mutual[0, 2, TOGETHER]) - 1.0
    assert np.abs(mutual[3, :3, :2]).max() < 1.6
    np.testing.assert_allclose(mutual[..., 2:], -mutual[..., 2:].swapaxes(0, 1), atol=1e-4)
    if noise == "exponential":
        assert mutual[0, 1, SKEWNESS] > 2.0


def test_normal_shocks_do_not_say_which_way_they_run() -> None:
    rng = np.random.default_rng(2)
    shocks = rng.standard_normal((3, STEPS))
    shocks[1] += 0.7 * shocks[0]
    mutual = read(shocks, rng.standard_normal((3, STEPS)))[0]
    assert np.abs(mutual[..., ENTROPY]).max() < 2.0
    assert np.abs(mutual[..., SKEWNESS]).max() < 1.0


def test_squares_and_products_of_the_step_before_are_seen() -> None:
    rng = np.random.default_rng(3)
    before = rng.standard_normal((5, STEPS))
    shocks = rng.standard_normal((5, STEPS))
    shocks[1] += 0.5 * before[0] ** 2
    shocks[2] += 0.5 * before[2] * before[0]
    shocks[3] += 0.5 * before[0] * before[4]
    products = read(shocks, before)[1]
    assert products[0, 1, SQUARE] > 2.5
    assert products[0, 2, BOTH] > 2.5
    assert min(products[0, 3, THIRD], products[4, 3, THIRD]) > 2.5
    assert products[1, 3, THIRD] < 2.0
    assert np.abs(products[0, [2, 3, 4], SQUARE]).max() < 1.6


def test_series_with_changing_noise_or_memory_left_are_told_apart() -> None:
    rng = np.random.default_rng(4)
    shocks = rng.standard_normal((3, STEPS))
    shocks[0, STEPS // 2 :] *= 4.0
    shocks[1, 1:] -= 0.5 * shocks[1, :-1]
    series = read(shocks, rng.standard_normal((3, STEPS)))[2]
    assert series[0, 3] > 2.0 > 0.3 > series[2, 3]
    assert series[1, 2] < -0.3
    assert abs(series[2, 2]) < 0.1


def test_flat_and_repeated_series_give_finite_statistics() -> None:
    rng = np.random.default_rng(5)
    shocks, before = rng.standard_normal((2, 4, 60))
    shocks[1], shocks[2], before[1] = 0.0, shocks[0], 2.0
    for part in read(shocks, before):
        assert np.isfinite(part).all()
