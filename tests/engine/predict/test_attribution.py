"""Contributions add up, and curves are the long-run effect of constant spend."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small import NODES, build

from causalmmm.engine.batches.windows import Windows
from causalmmm.engine.nn.posterior import causal_probability
from causalmmm.engine.predict.attribution import contributions
from causalmmm.engine.predict.curves import response_curves
from causalmmm.engine.predict.graphs import store_graphs
from causalmmm.kernels.likelihood import ar_prediction


@pytest.mark.parametrize(
    "settings", [{}, {"decays": (0.2, 0.6), "delays": (0, 2)}, {"store_effects": False}]
)
def test_contributions_sum_to_the_one_step_prediction(
    windows: Windows, settings: dict[str, object]
) -> None:
    model, batch = build(**settings), windows.full(np.arange(3))
    with torch.no_grad():
        inferred = model.infer(batch)
        split = contributions(model, batch, inferred)
        posterior = inferred.posterior
        log_effect = posterior.effect_mean + 0.5 * posterior.effect_log_sd.exp().square()
        if not model.config.store_effects:
            log_effect = torch.zeros_like(log_effect)
        weights = model.decoder.weights(causal_probability(posterior.edges), log_effect)
        message = inferred.ahead.residual(model.decoder.message(inferred.responses, weights))
        one_step = ar_prediction(inferred.ar_weights, inferred.residual)
        predicted = (batch.x - inferred.residual)[..., 1:] + message + one_step
    torch.testing.assert_close(split.predicted, predicted[:, -1])
    total = split.baseline + split.own_past + split.senders.sum(1)
    torch.testing.assert_close(total, split.predicted, rtol=1e-4, atol=1e-5)


def test_a_sender_without_an_edge_or_without_spend_contributes_nothing(windows: Windows) -> None:
    prior = torch.zeros(NODES, NODES)
    prior[0, 3] = prior[1, 3] = 1.0
    model, batch = build(prior), windows.full(np.arange(3))
    batch.x[:, 1] = 0.0
    with torch.no_grad():
        split = contributions(model, batch, model.infer(batch))
    assert (split.senders[:, 0] != 0).all()
    assert (split.senders[:, 1:] == 0).all()


def test_a_curve_is_the_contribution_of_constant_spend(windows: Windows) -> None:
    prior = torch.full((NODES, NODES), 0.3)
    prior[0, 3] = 1.0
    model, batch = build(prior), windows.full(np.arange(3))
    amounts = torch.tensor([0.0, 0.7, 1.9]).expand(3, NODES, 3)
    for column, amount in enumerate((0.0, 0.7, 1.9)):
        batch.x[:, 0] = amount
        with torch.no_grad():
            inferred = model.infer(batch)
            curves = response_curves(model, batch, inferred, amounts)
            split = contributions(model, batch, inferred)
            effect = store_graphs(model, batch, inferred).effect[:, 0, 3]
        torch.testing.assert_close(curves.expected[:, 0, column], split.senders[:, 0, -1])
        torch.testing.assert_close(curves.effect[:, 0, column], effect)
        assert (curves.lower <= curves.upper).all()


def test_curves_rise_from_zero_and_bend(windows: Windows) -> None:
    model, batch = build(), windows.full(np.arange(3))
    amounts = torch.linspace(0, 40, 60).expand(3, NODES, 60)
    with torch.no_grad():
        curves = response_curves(model, batch, model.infer(batch), amounts)
    spend = curves.effect[:, :2]  # effects that cannot be negative
    assert (spend[..., 0] == 0).all()
    assert (spend.diff(dim=-1) > 0).all()
    assert (spend[..., -1] - spend[..., -2] < spend[..., 1] - spend[..., 0]).all()
