"""The baselines that learn recover an obvious graph, and remove what is not needed."""

from __future__ import annotations

import numpy as np
import pytest
from bench.experiments.baselines.gvar import gvar
from bench.experiments.baselines.ingra import ingra
from bench.experiments.baselines.ngc import clstm, cmlp
from bench.experiments.baselines.paper import causalmmm_paper
from bench.experiments.baselines.pcmci import pcmci
from bench.experiments.baselines.series import clear_of_calendar, lagged
from bench.lib.metrics import edge_metrics

EDGES = np.zeros((3, 3), dtype=bool)
EDGES[0, 1] = EDGES[1, 2] = True


def chain(stores: int, *, steps: int = 150, seed: int = 0) -> np.ndarray:
    """A three-node VAR: 0 drives 1 and 1 drives 2 one step later."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((stores, steps, 3))
    for t in range(1, steps):
        x[:, t, 1:] += 0.9 * x[:, t - 1, :-1]
    return x


METHODS = {
    "cMLP": lambda x: cmlp(x, lags=3, updates=300),
    "cLSTM": lambda x: clstm(x[:, :60], updates=60),
    "GVAR": lambda x: gvar(x, lags=3, hidden=16, updates=200),
    "PCMCI": lambda x: -pcmci(x, lags=3),
}


@pytest.mark.parametrize("name", METHODS)
def test_the_two_edges_of_a_chain_score_highest(name):
    scores = METHODS[name](chain(4))
    assert scores.shape == (4, 3, 3)
    assert edge_metrics(scores, np.tile(EDGES, (4, 1, 1)))["auroc"] > 0.9


@pytest.mark.parametrize(("method", "steps", "updates"), [(cmlp, 120, 150), (clstm, 60, 80)])
def test_the_lasso_removes_what_is_not_needed(method, steps, updates):
    noise = np.random.default_rng(0).standard_normal((4, steps, 3))
    norm = method(noise, updates=updates)
    off = ~np.eye(3, dtype=bool)
    assert (norm[:, off] == 0.0).mean() > 0.5


def test_ingra_reads_the_driver_in_stores_it_was_not_trained_on():
    """Attention sums to one per receiver, so it ranks the senders of receivers that have one."""
    training, new = chain(40, steps=60), chain(20, steps=60, seed=2)
    attention = ingra(training, new, hidden=8, prototypes=4, updates=150)
    np.testing.assert_allclose(attention.sum(1), 1.0, rtol=1e-5)
    assert (attention[:, 0, 1] > attention[:, 2, 1]).mean() > 0.9
    assert (attention[:, 1, 2] > attention[:, 0, 2]).mean() > 0.9


@pytest.mark.parametrize("one_scale", [False, True])
def test_the_papers_model_opens_the_true_edges_of_stores_it_was_trained_on(one_scale):
    """On average over these; its raw-window encoder says little about stores it never saw."""
    training, context = chain(60, steps=30), np.zeros((60, 0))
    probability = causalmmm_paper(
        training, context, training, hidden=16, updates=300, one_scale=one_scale
    )
    mean = probability.mean(0)
    assert min(mean[0, 1], mean[1, 2]) > 0.8
    assert max(mean[0, 2], mean[2, 0]) < 0.6
    assert (probability >= 0.0).all()
    assert (probability <= 1.0).all()


def test_equal_seeds_give_equal_scores():
    x = chain(2, steps=60)
    for method in (cmlp, clstm, gvar):
        assert np.array_equal(method(x, updates=5, seed=1), method(x, updates=5, seed=1))
        assert not np.array_equal(method(x, updates=5, seed=1), method(x, updates=5, seed=2))


def test_pcmci_is_not_stopped_by_a_silent_series():
    x = chain(1)
    x[:, :, 2] = 4.0
    p_value = pcmci(x, lags=2)[0]
    assert p_value[0, 1] < 1e-6
    assert (p_value[2] == 1.0).all()
    assert (p_value[:, 2] == 1.0).all()


def test_series_are_cleared_of_level_trend_week_and_scale():
    x = chain(2)
    step = np.arange(150.0)[:, None]
    moved = 1e3 * x + 50.0 + 3.0 * step + 1e4 * (step % 7 == 4)
    np.testing.assert_allclose(clear_of_calendar(moved), clear_of_calendar(x), atol=1e-9)
    np.testing.assert_allclose(clear_of_calendar(x).std(1), 1.0)


def test_lags_are_counted_backwards_from_the_present():
    x = np.arange(20.0).reshape(1, 10, 2)
    past, present = lagged(x, 3)
    np.testing.assert_array_equal(present[0, 0], x[0, 3])
    np.testing.assert_array_equal(past[0, 0, 1], x[0, [2, 1, 0], 1])
