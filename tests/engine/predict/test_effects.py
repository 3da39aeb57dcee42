"""Long-run effects, and their uncertainty from the shape of the curve."""

from __future__ import annotations

import numpy as np
import torch
from scipy.signal import lfilter, lfiltic
from small import NODES, build

from causalmmm.engine.predict.effects import (
    ar_filter,
    effect_interval,
    long_run_multiplier,
    shape_deviation,
)

CONTEXT = torch.tensor([[0.3, -0.2], [0.0, 0.0], [-1.0, 0.5]])


def test_effects_last_as_long_as_the_receivers_own_past_keeps_them():
    torch.manual_seed(0)
    inputs = torch.rand(2, 3, 50, dtype=torch.float64)
    ar_weights = torch.tensor([[0.4, 0.2, -0.1], [0.5, 0.0, 0.0]], dtype=torch.float64)
    filtered_inputs, gain = (
        ar_filter(inputs, ar_weights).numpy(),
        long_run_multiplier(ar_weights).numpy(),
    )
    for store in range(2):
        filtered = np.concatenate([[1.0], -ar_weights[store].numpy()])
        impulse = lfilter([1.0], filtered, np.eye(1, 400)[0])
        np.testing.assert_allclose(gain[store], impulse.sum())
        for k in range(3):
            x = inputs[store, k].numpy()
            before = lfiltic([1.0], filtered, [gain[store] * x.mean()] * 3)
            np.testing.assert_allclose(
                filtered_inputs[store, k], lfilter([1.0], filtered, x, zi=before)[0]
            )


def test_no_effect_lasts_for_ever():
    ar_weights = torch.tensor([[0.9, 0.4, 0.1], [1.5, -0.9, 0.6]])
    assert (
        (long_run_multiplier(ar_weights) > 0) & (long_run_multiplier(ar_weights) <= 20.001)
    ).all()
    kept = ar_filter(torch.ones(2, 1, 2000), ar_weights)
    assert kept.isfinite().all()
    assert (kept.abs() <= 20.001).all()
    torch.testing.assert_close(kept[..., -1], long_run_multiplier(ar_weights).unsqueeze(-1))


def test_shape_deviation_is_that_of_random_curves_of_equal_slope():
    """Against curves of drawn shapes, scaled so that all have the same slope at the level."""
    model = build()
    level = torch.tensor([0.6, 1.0, 1.7, 0.9]).view(1, NODES, 1).expand(3, -1, -1)
    amounts = level * torch.tensor([0.5, 1.0, 1.8])
    with torch.no_grad():
        std = shape_deviation(model.decoder, CONTEXT, level, amounts)
        slope, half = model.decoder.curve(CONTEXT)
    spread, step = 0.3, 1e-4

    def log_response(by_slope: float, by_half: float) -> torch.Tensor:
        k, h = (slope.double() * np.exp(by_slope)), (half.double() * np.exp(by_half))

        def hill(x: torch.Tensor) -> torch.Tensor:
            return x**k / (x**k + h**k)

        at, up = level.double(), level.double() * (1 + 1e-6)
        return (hill(amounts.double()) * (up - at) / (hill(up) - hill(at))).log()

    by_slope = (log_response(step, 0) - log_response(-step, 0)) / (2 * step)
    by_half = (log_response(0, step) - log_response(0, -step)) / (2 * step)
    expected = (spread * (by_slope**2 + by_half**2).sqrt()).clamp_max(1.0)
    torch.testing.assert_close(std.double(), expected, rtol=1e-3, atol=1e-4)


def test_shape_deviation_is_bounded_and_vanishes_on_straight_lines():
    far = torch.tensor([0.0, 1e-9, 1.0, 1e6]).expand(3, NODES, 4)
    for level in (0.0, 1.0, -3.0, 1e5):
        std = shape_deviation(build().decoder, CONTEXT, torch.full((3, NODES, 1), level), far)
        assert ((std > 0) & (std <= 1)).all()
    straight = build(saturation=False).decoder
    assert (shape_deviation(straight, CONTEXT, torch.ones(3, NODES, 1), far) == 0).all()


def test_both_uncertainties_widen_an_interval():
    model = build()
    shared = torch.tensor([2.0, -2.0, 0.0])
    mean, log_sd, none = torch.tensor(0.1), torch.tensor(0.2).log(), torch.tensor(0.0)
    effect, lower, upper = effect_interval(model, mean, log_sd, none, shared)
    torch.testing.assert_close(effect, shared * np.exp(0.1 + 0.02))
    torch.testing.assert_close(upper[0], torch.tensor(2 * np.exp(0.1 + 1.6448536 * 0.2)).float())
    torch.testing.assert_close(lower[1], -upper[0])
    same, wider_lower, wider_upper = effect_interval(
        model, mean, log_sd, torch.tensor(0.15), shared
    )
    torch.testing.assert_close(same, effect)
    torch.testing.assert_close(
        (wider_upper[0] / wider_lower[0]).log(), torch.tensor(2 * 1.6448536 * 0.25)
    )
    assert wider_lower[2] == wider_upper[2] == 0
