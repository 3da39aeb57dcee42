"""Moves of effects and losses of unseen stores, on a model fitted for two epochs."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from bench.experiments.refresh import change, effects, losses, same_bits

from causalmmm import CausalMMM, Panel, simulate


@pytest.fixture(scope="module")
def panel() -> Panel:
    return simulate("paper-small", seed=3, stores=6, steps=50, channels=2)[0]


@pytest.fixture(scope="module")
def model(panel: Panel) -> CausalMMM:
    settings = {"structure": "learned", "epochs": 2, "hidden": 8, "lags": 2, "ar_lags": 2}
    return CausalMMM(seed=0, regime="amortised", **settings).fit(panel, progress=False)


def test_a_change_is_the_mean_over_stores_of_each_stores_own() -> None:
    """Store 0 moves by a fifth, store 1, ten times as large, not at all."""
    old = np.array([[1.0, -4.0], [10.0, 40.0]])
    assert change(old + np.array([[0.5, 0.5], [0.0, 0.0]]), old) == pytest.approx(0.1)


def test_losses_depend_on_the_weights_and_on_nothing_else(panel: Panel, model: CausalMMM) -> None:
    worse = copy.deepcopy(model)
    with torch.no_grad():
        worse.model_.decoder.log_noise.add_(3.0)
    before = losses(model, panel)
    assert before.shape == (6,)
    np.testing.assert_array_equal(losses(model, panel), before)
    assert (losses(worse, panel) > before).all(), "errors twenty times as large as there are"
    assert effects(model, panel).shape == (6, len(panel.nodes) * (len(panel.nodes) - 1))


def test_bits_tell_models_apart(model: CausalMMM) -> None:
    other = copy.deepcopy(model)
    assert same_bits(model, other)
    with torch.no_grad():
        other.model_.encoder.prototypes.view(-1)[0] += 1e-6
    assert not same_bits(model, other)
