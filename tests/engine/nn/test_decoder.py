"""The decoder by itself: response curves, delays, gated messages, noise, autoregression."""

from __future__ import annotations

import numpy as np
import torch
from small import CONTEXT, NODES, build

from causalmmm.kernels.likelihood import ar_prediction

STORES, STEPS = 3, 20


def series(seed: int = 0) -> torch.Tensor:
    return torch.rand(STORES, NODES, STEPS, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_a_response_is_the_hill_curve_of_adstock() -> None:
    """Written out in float64 from the decoder's formula, step by step."""
    decoder = build().decoder
    x, context = series(), torch.randn(STORES, CONTEXT)
    slope, half = (curve.double().unsqueeze(2) for curve in decoder.curve(context))  # [B, N, 1, 1]
    decay = decoder.decay.double().unsqueeze(-1)  # [N, D, 1]
    adstock = torch.full((STORES, NODES, decay.shape[1], 1), 0.5, dtype=torch.float64)
    response, final = decoder.respond(x, context, torch.full((STORES, NODES, 1), 0.5))
    for t in range(STEPS):
        adstock = decay * adstock + (1 - decay) * x[:, :, None, t : t + 1].double()
        expected = adstock**slope / (adstock**slope + half**slope)
        torch.testing.assert_close(
            response[..., t].double(), expected[..., 0], rtol=1e-5, atol=1e-6
        )
    torch.testing.assert_close(final.double(), adstock[..., 0], rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_slope_and_half_saturation_are_log_linear_in_context() -> None:
    decoder, context = build().decoder, torch.randn(STORES, CONTEXT)
    slope, half = decoder.curve(context)
    for curve, constant, weight in (
        (slope, decoder.log_slope, decoder.context_slope),
        (half, decoder.log_half, decoder.context_half),
    ):
        expected = np.exp(constant.numpy() + context.numpy() @ weight.numpy().T)
        np.testing.assert_allclose(curve[..., 0], expected, rtol=1e-5)


def test_delays_shift_each_component_and_repeat_its_first_value() -> None:
    delays = (0, 0, 3, 1)
    decoder = build(decays=(0.1, 0.2, 0.3, 0.4), delays=delays).decoder
    response = torch.rand(STORES, NODES, len(delays), STEPS)
    delayed = decoder.delayed(response)
    for d, delay in enumerate(delays):
        component = response[:, :, d]
        assert torch.equal(delayed[:, :, d, delay:], component[..., : STEPS - delay])
        assert (delayed[:, :, d, :delay] == component[..., :1]).all()


@torch.no_grad()
def test_an_excluded_sender_does_not_change_a_receiver_by_a_bit() -> None:
    decoder, x = build().decoder, series()
    context, initial = torch.zeros(STORES, CONTEXT), torch.ones(STORES, NODES, 1)
    gate = torch.ones(STORES, NODES, NODES)
    gate[:, 0, 3] = 0.0
    weights = decoder.weights(gate, torch.randn(STORES, NODES, NODES))
    before = decoder.message(decoder.respond(x, context, initial)[0], weights)
    x[:, 0] *= 7.0
    after = decoder.message(decoder.respond(x, context, initial)[0], weights)
    assert torch.equal(before[:, 3], after[:, 3])
    assert not torch.equal(before[:, 2], after[:, 2])


@torch.no_grad()
def test_shared_effects_are_set_and_stay_positive_where_they_must() -> None:
    decoder = build().decoder
    beta = torch.randn(decoder.beta.shape)
    decoder.set_beta(beta)
    positive = decoder.positive.unsqueeze(-1)
    expected = torch.where(positive, beta.clamp_min(1e-3), beta)
    torch.testing.assert_close(decoder.beta, expected, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_noise_of_a_short_constant_series_is_pooled_and_of_a_long_one_its_own() -> None:
    decoder = build().decoder
    rows = torch.tensor([[0.0], [1e9]]).expand(2, NODES)
    noise = decoder.noise(torch.full((2, NODES), 0.7), rows) - decoder.log_noise
    torch.testing.assert_close(noise[0], decoder.log_pooled)
    torch.testing.assert_close(noise[1], torch.full((NODES,), 0.7).log())


def test_autoregression_sums_weighted_lags_of_the_same_series() -> None:
    weights, residual = torch.randn(STORES, NODES, 3), torch.randn(STORES, NODES, STEPS)
    predicted = ar_prediction(weights, residual)
    for t in range(1, STEPS):
        expected = sum(
            weights[..., p] * residual[..., t - 1 - p] for p in range(3) if t - 1 - p >= 0
        )
        torch.testing.assert_close(predicted[..., t - 1], expected)


def test_the_gradient_of_delays_is_that_of_their_slices() -> None:
    """Every response goes where it arrives; the first also to the steps before any arrives."""
    decoder = build(decays=(0.2, 0.4, 0.6, 0.3), delays=(0, 2, 2, 5)).decoder
    response = torch.randn(2, 4, 4, 9, requires_grad=True)
    weight = torch.randn(2, 4, 4, 9)
    (found,) = torch.autograd.grad((weight * decoder.delayed(response)).sum(), response)
    expected = torch.zeros(2, 4, 4, 9)
    for component, delay in enumerate((0, 2, 2, 5)):
        for step in range(9):
            expected[:, :, component, max(0, step - delay)] += weight[:, :, component, step]
    torch.testing.assert_close(found, expected)
