"""The table of effects: true long-run effects, the regression beside them, and their agreement."""

from __future__ import annotations

import numpy as np
from bench.experiments import effects

from causalmmm.simulation import simulate


def test_ardl_finds_the_long_run_effect_of_a_known_process():
    rng = np.random.default_rng(0)
    x, y = rng.gamma(4, size=(2, 4000)), np.zeros(4000)
    for t in range(1, 4000):
        y[t] = 0.5 * y[t - 1] + 0.4 * x[0, t - 1] + 0.1 * rng.normal()
    effect, lower, upper = effects.ardl(np.stack([*x, y], axis=1), np.array([0, 1]), 2)
    true = np.array([0.4 / (1 - 0.5), 0.0]) * x.mean(1)
    np.testing.assert_allclose(effect, true, atol=0.1)
    assert (lower < true).all()
    assert (true < upper).all()
    assert (upper - lower < 0.3).all()


def test_true_effects_are_what_a_receiver_loses_in_the_end_without_its_sender():
    """In the process u_j(t) = own memory_j u_j(t - 1) + effects: what it settles at."""
    _, truth = simulate("paper-small", stores=3, steps=60, seed=1)
    found, responses = effects.true_effects(truth), truth.responses()
    for store in range(3):
        gained = np.zeros((len(truth.nodes), len(truth.nodes)))
        for _ in range(400):
            step = responses[store].mean(0)[:, None] * truth.effects[store]
            gained = truth.own_memory * gained + step
        np.testing.assert_allclose(found[store], gained * truth.levels[store], rtol=1e-5)


def test_agreement_counts_what_lies_inside():
    true = np.array([1.0, 2.0, 4.0, 4.0])
    learned = [np.array([1.0, 1.0, 2.0, -1.0]), true - 0.5, np.array([1.5, 1.9, 4.5, 4.5])]
    found = effects.agreement(learned, true)
    assert found["edges"] == 4
    assert found["median_ratio"] == 0.5
    assert found["cover_90"] == 0.75
    np.testing.assert_allclose(found["log_error"], np.log(2))


def test_every_method_has_its_rows(tmp_path):
    options = ["--quick", "--scenario", "paper-small", "--stores", "4", "--out", str(tmp_path)]
    rows = effects.main([*options, "--settings", '{"epochs": 3, "structure": "full"}'])
    assert [row["method"] for row in rows] == [effects.OURS] * 3 + [effects.ARDL] * 2
    assert all(row["edges"] > 0 for row in rows)
    assert all(0 <= row["cover_90"] <= 1 for row in rows)
    assert (tmp_path / "effects.csv").exists()
