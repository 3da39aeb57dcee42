"""Influence by pulses and graph swaps: exact zeros, known answers, nothing passes by accident."""

from __future__ import annotations

import numpy as np
import pytest
from bench.experiments import influence
from bench.experiments.baselines.forecast_graphless import var_ols
from bench.experiments.influence_methods import (
    Fitted,
    one_step_influence,
    rolled_influence,
    wrong_graphs,
)
from bench.lib.metrics import normalised_auprc
from bench.lib.scenarios import draw

from causalmmm.model.estimator import CausalMMM


@pytest.fixture(scope="module")
def dataset():
    return draw("paper-small", 0, stores=30, steps=60)


@pytest.fixture(scope="module")
def fitted(dataset) -> Fitted:
    model = CausalMMM(seed=0, epochs=4).fit(dataset.panel, progress=False)
    return Fitted(model, dataset.panel, 45)


def test_without_edges_no_sender_moves_any_receiver_by_a_bit(fitted, dataset):
    empty = np.zeros(dataset.edges.shape)
    assert not fitted.one_step(empty).any()
    assert not fitted.rolled_out(empty).any()


def test_one_edge_moves_its_receiver_only_and_paths_are_followed_when_rolled_out(fitted, dataset):
    one = np.zeros(dataset.edges.shape)
    one[:, 0, 7] = 1.0
    for moved in (fitted.one_step(one), fitted.rolled_out(one)):
        assert (moved[:, 0, 7] > 0.0).all()
        moved[:, 0, 7] = 0.0
        assert not moved.any()
    path = one.copy()
    path[:, 1, 0] = 1.0
    assert not fitted.one_step(path)[:, 1, 7].any()
    assert (fitted.rolled_out(path)[:, 1, 7] > 0.0).all()


def test_the_models_own_graph_put_in_changes_nothing(fitted):
    np.testing.assert_allclose(fitted.errors(fitted.probability), fitted.errors(), atol=1e-5)
    np.testing.assert_allclose(fitted.one_step(fitted.probability), fitted.one_step(), atol=1e-5)


def test_rows_that_the_model_did_not_see_count_as_much_as_those_it_saw(fitted, dataset):
    errors = fitted.errors(np.zeros(dataset.edges.shape))[..., -1]
    seen, hidden = errors[:, : fitted.rows - 1].std(), errors[:, fitted.rows - 1 :].std()
    assert hidden > 0.8 * seen


@pytest.mark.parametrize(("structure", "deaf"), [("empty", True), ("full", False)])
def test_without_graph_planned_spend_changes_no_other_forecast(dataset, structure, deaf):
    """The same through the public interface: a model without edges is deaf to a plan."""
    panel = dataset.panel.select(list(dataset.panel.stores[:4]))
    model = CausalMMM(seed=0, epochs=2, structure=structure, draws=8).fit(panel, progress=False)
    base = model.predict(horizon=7)
    plan = base.pivot(index=["store", "date"], columns="series", values="mean").reset_index()
    plan = plan[["store", "date", *panel.nodes[:6]]]
    plan = plan.rename(columns={"store": "shop_id", "date": "ds"})
    more = plan.assign(**{name: plan[name] * 3.0 for name in panel.nodes[:6]})
    answers = []
    for given in (plan, more):
        frame = model.predict(plan=given)
        answers.append(frame[frame["series"].isin(panel.nodes[6:])]["mean"].to_numpy())
    assert np.array_equal(*answers) == deaf


def test_a_forecaster_that_ignores_its_graph_cannot_pass():
    errors = np.random.default_rng(0).standard_normal((20, 30, 8))
    assert influence._verdict(errors, errors, errors) == {"gain_t": 0.0, "passes": 0.0}
    better = influence._verdict(0.5 * errors, errors, errors)
    assert better["passes"] == 1.0
    # better than no graph, but no better than a wrong one
    assert influence._verdict(0.5 * errors, errors, 0.5 * errors)["passes"] == 0.0


def test_pulses_read_the_coefficients_of_a_known_var():
    """x1(t) = 0.8 x0(t-1), x2(t) = 0.5 x1(t-3): direct effects one step ahead, the chain rolled."""

    def predict(x: np.ndarray) -> np.ndarray:
        out = np.zeros((len(x), x.shape[1] - 1, 3))
        out[:, :, 1] = 0.8 * x[:, :-1, 0]
        out[:, 2:, 2] = 0.5 * x[:, :-3, 1]
        return out

    x = np.random.default_rng(0).standard_normal((2, 40, 3))
    size = x.std(1)[:, :, None] / x.std(1)[:, None, :]
    direct = np.zeros((3, 3))
    direct[0, 1], direct[1, 2] = 0.8, 0.5
    np.testing.assert_allclose(one_step_influence(predict, x), size * direct)
    direct[0, 2] = 0.4
    np.testing.assert_allclose(rolled_influence(predict, x), size * direct)


def test_least_squares_recovers_a_var_and_stays_within_its_rows():
    rng = np.random.default_rng(0)
    x = 0.01 * rng.standard_normal((2, 200, 2))
    for t in range(1, 200):
        x[:, t, 1] += 0.9 * x[:, t - 1, 0]
    predict, lags = var_ols(x, 150, most=2)
    assert lags == 2
    moved = one_step_influence(predict, x)
    expected = 0.9 * x[:, :, 0].std(1) / x[:, :, 1].std(1)
    np.testing.assert_allclose(moved[:, 0, 1], expected, rtol=0.25)
    assert (moved[:, 1, 0] < 0.3).all()
    later = x.copy()
    later[:, 150:] = 5.0
    again, _ = var_ols(later, 150, most=2)
    np.testing.assert_array_equal(predict(x)[:, :149], again(x)[:, :149])


def test_wrong_graphs_have_no_true_edge_and_keep_every_receivers_count(dataset):
    wrong = wrong_graphs(dataset.edges, 0)
    assert not (wrong & dataset.edges).any()
    assert not wrong[:, np.arange(8), np.arange(8)].any()
    free = dataset.edges.sum(1) <= 3
    assert np.array_equal(wrong.sum(1)[free], dataset.edges.sum(1)[free])


def test_normalised_auprc_is_one_for_the_truth_and_about_zero_for_noise(dataset):
    edges = dataset.edges
    noise = np.random.default_rng(0).random(edges.shape)
    assert normalised_auprc(edges.astype(float), edges) == 1.0
    assert abs(normalised_auprc(noise, edges)) < 0.15
    assert normalised_auprc(np.zeros(edges.shape), edges) == pytest.approx(0.0)


def test_the_command_writes_a_row_per_graph_and_graphless_forecaster(tmp_path):
    options = ["--quick", "--stores", "20", "--steps", "60", "--out", str(tmp_path)]
    rows = influence.main([*options, "--settings", '{"epochs": 2}', "--updates", "5"])
    assert [r["method"] for r in rows][:4] == [
        influence.OURS,
        "causalmmm, true graph",
        "causalmmm, wrong graph",
        "causalmmm, no graph",
    ]
    assert rows[1]["one_step_nauprc"] > 0.9
    assert rows[3]["one_step_nauprc"] == pytest.approx(0.0)
    assert (tmp_path / "influence-paper-small.csv").exists()
    assert (tmp_path / "influence-paper-small.png").stat().st_size > 10_000
