"""The estimator as its users meet it: fit, graphs, forecasts, plans, repeatability, refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from causalmmm import Panel, PanelError, Schema
from causalmmm.evaluation.metrics import auroc
from causalmmm.model.estimator import CausalMMM, NotFittedError
from causalmmm.model.parameters import parameter_names
from causalmmm.simulation import simulate

QUICK = {
    "structure": "learned",
    "epochs": 2,
    "hidden": 8,
    "lags": 2,
    "ar_lags": 2,
    "draws": 20,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def panel() -> Panel:
    return simulate("paper-small", seed=3, stores=24, steps=70)[0]


@pytest.fixture(scope="module")
def fitted(panel: Panel) -> CausalMMM:
    return CausalMMM(**QUICK).fit(panel, progress=False)


def test_graphs_find_the_truth_on_stores_never_trained_on() -> None:
    """Held-out stores, known graphs: far above chance after a short training."""
    panel, truth = simulate("paper-small", seed=0, stores=120)
    train, held = panel.select(panel.stores[:90]), panel.select(panel.stores[90:])
    model = CausalMMM(steps=90, seed=0, device="cpu").fit(train, progress=False)
    table = model.graphs(held).set_index(["store", "source", "target"])["probability"]
    scores = []
    for store, edges in zip(truth.stores[90:], truth.edges[90:], strict=True):
        pairs = [(i, j) for i in range(8) for j in range(8) if i != j]
        guess = [table[store, panel.nodes[i], panel.nodes[j]] for i, j in pairs]
        scores.append(auroc(np.array([edges[i, j] for i, j in pairs]), np.array(guess)))
    assert np.mean(scores) > 0.93
    assert model.config_.structure == "learned"


def test_one_store_alone_is_read_by_the_pretrained_prior() -> None:
    panel, truth = simulate("paper-small", seed=4, stores=1, steps=300)
    model = CausalMMM(epochs=2, device="cpu").fit(panel, progress=False)
    assert model.config_.structure == "pretrained"
    probability = model.graphs()["probability"].to_numpy()
    edges = truth.edges[0][~np.eye(len(panel.nodes), dtype=bool)]
    assert auroc(edges, probability) > 0.9
    assert probability[~edges].mean() < 0.2 < probability[edges].mean()


def test_stores_that_share_no_effects_are_each_judged_by_their_own_evidence() -> None:
    """One channel drives the target, with a course over lags, of either sign, for every store."""
    rng = np.random.default_rng(0)
    stores, steps = 40, 150
    x = rng.standard_normal((stores, steps, 3)) * [1.0, 1.0, 0.5]
    driver = rng.integers(2, size=stores)
    course = rng.choice([-1.0, 1.0], (stores, 5))
    for lag in range(1, 6):
        x[:, lag:, 2] += course[:, lag - 1, None] * x[np.arange(stores), :-lag, driver]
    schema = Schema(store="s", date="d", target="sales", channels=["tv", "web"])
    panel = Panel.from_arrays(x + 10.0, schema=schema, first_date="2024-01-01", freq="D")
    with pytest.warns(UserWarning, match="do not share effects"):
        model = CausalMMM(steps=30, signed=[("*", "*")], device="cpu").fit(panel, progress=False)
    assert model.config_.structure == "evidence"
    table = model.graphs().set_index(["source", "target"])["probability"]
    for position, channel in enumerate(["tv", "web"]):
        assert ((table[channel, "sales"].to_numpy() > 0.5) == (driver == position)).mean() > 0.95


def test_graph_table_names_every_ordered_pair(fitted: CausalMMM, panel: Panel) -> None:
    table = fitted.graphs()
    assert list(table.columns) == [
        "store",
        "source",
        "target",
        "probability",
        "effect",
        "lower",
        "upper",
    ]
    assert len(table) == 24 * 8 * 7
    assert not (table.source == table.target).any()
    assert table.probability.between(0, 1).all()
    assert (table.lower <= table.upper).all()
    pd.testing.assert_frame_equal(
        fitted.graphs(threshold=0.3), table[table.probability >= 0.3].reset_index(drop=True)
    )


def test_graph_of_a_store_is_a_named_digraph(fitted: CausalMMM, panel: Panel) -> None:
    store = str(panel.stores[5])
    graph = fitted.graph(store, threshold=0.0)
    row = fitted.graphs(panel.select([store])).iloc[0]
    assert graph.edges[row.source, row.target]["probability"] == pytest.approx(row.probability)
    assert graph.nodes["gmv"]["role"] == "target"
    assert set(graph.nodes) == set(panel.nodes)


def test_forecast_continues_every_store_in_its_own_calendar(
    fitted: CausalMMM, panel: Panel
) -> None:
    table = fitted.predict(horizon=5, level=[50, 90])
    assert list(table.columns) == [
        "store",
        "date",
        "series",
        "mean",
        "lower_50",
        "upper_50",
        "lower_90",
        "upper_90",
    ]
    for store, rows in table.groupby("store"):
        dates = pd.date_range(panel.dates(str(store))[-1], periods=6)[1:]
        for _, series in rows.groupby("series"):
            assert list(series.date) == list(dates)
    assert (table.lower_90 <= table.lower_50).all()
    assert (table.lower_50 <= table.upper_50).all()
    assert (table.upper_50 <= table.upper_90).all()


def test_a_store_is_forecast_the_same_alone_and_in_company(fitted: CausalMMM, panel: Panel) -> None:
    alone = fitted.predict(panel.select([str(panel.stores[0])]), horizon=3)
    together = fitted.predict(panel, horizon=3).query("store == @panel.stores[0]")
    np.testing.assert_allclose(alone["mean"], together["mean"].to_numpy(), rtol=1e-4)


def test_absent_edge_has_no_influence_through_the_public_api(panel: Panel) -> None:
    """Forbidding all edges out of x0 makes its plan irrelevant to the last bit."""
    model = CausalMMM(**QUICK, forbidden=[("x0", "*")]).fit(panel, progress=False)
    probability = model.graphs().query("source == 'x0'").probability
    assert (probability == 0).all()
    outcomes = []
    for spend in (0.0, 1e6):
        plan = future_plan(panel, 6, {"x0": spend})
        outcomes.append(model.predict(panel, plan=plan).query("series != 'x0'"))
    pd.testing.assert_frame_equal(*outcomes, check_exact=True)


def test_required_edge_is_certain(panel: Panel) -> None:
    model = CausalMMM(**QUICK, required=[("x1", "gmv")]).fit(panel, progress=False)
    table = model.graphs().query("source == 'x1' and target == 'gmv'")
    assert (table.probability == 1).all()


def test_planned_spend_is_taken_as_given(fitted: CausalMMM, panel: Panel) -> None:
    plan = future_plan(panel, 4, {"x2": 123.0})
    table = fitted.predict(panel, plan=plan).query("series == 'x2'")
    assert len(table) == 24 * 4
    np.testing.assert_allclose(table[["mean", "lower_80", "upper_95"]], 123.0, rtol=1e-6)


def test_units_of_the_target_change_the_numbers_and_nothing_else(panel: Panel) -> None:
    frame = panel.to_frame()
    frame["gmv"] *= 4.0
    scaled = Panel.from_frame(frame, panel.schema)
    one = CausalMMM(**QUICK).fit(panel, progress=False)
    four = CausalMMM(**QUICK).fit(scaled, progress=False)
    a, b = one.graphs(), four.graphs()
    np.testing.assert_allclose(a.probability, b.probability, rtol=1e-5)
    into = a.target == "gmv"
    np.testing.assert_allclose(4.0 * a.effect[into], b.effect[into], rtol=1e-4)


def test_equal_seeds_give_equal_bits(fitted: CausalMMM, panel: Panel) -> None:
    again = CausalMMM(**QUICK).fit(panel, progress=False)
    pd.testing.assert_frame_equal(fitted.graphs(), again.graphs(), check_exact=True)
    other = CausalMMM(**QUICK, seed=1).fit(panel, progress=False)
    assert not fitted.graphs().probability.equals(other.graphs().probability)


def test_fit_leaves_the_global_random_state_alone(panel: Panel) -> None:
    import torch

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    CausalMMM(**QUICK).fit(panel, progress=False)
    assert torch.equal(torch.rand(3), expected)


def test_histories_of_different_length_train_together() -> None:
    frame = simulate("paper-small", seed=3, stores=6, steps=80)[0].to_frame()
    dates = np.sort(frame.ds.unique())
    late = frame.shop_id == frame.shop_id.unique()[2]
    frame = frame[~(late & (frame.ds < dates[30]))]
    panel = Panel.from_frame(frame)
    model = CausalMMM(**QUICK).fit(panel, progress=False)
    assert np.isfinite(model.predict(horizon=3)["mean"]).all()


@pytest.mark.parametrize("freq", ["D", "W-MON", "MS"])
def test_daily_weekly_and_monthly_panels_are_forecast_in_their_own_steps(freq: str) -> None:
    rng = np.random.default_rng(0)
    dates = pd.date_range("2019-01-01", periods=60, freq=freq)
    frame = pd.DataFrame({"ds": dates, "tv": rng.gamma(2, 10, 60), "gmv": rng.gamma(20, 10, 60)})
    panel = Panel.from_frame(frame, Schema(date="ds", target="gmv", channels=["tv"]))
    table = CausalMMM(**QUICK).fit(panel, progress=False).predict(horizon=3, level=[80])
    assert list(table.date.unique()) == list(pd.date_range(dates[-1], periods=4, freq=freq)[1:])


def test_controls_known_in_the_future_move_the_forecast() -> None:
    rng = np.random.default_rng(1)
    dates = pd.date_range("2024-01-01", periods=120)
    price = rng.uniform(0, 1, 120)
    frame = pd.DataFrame(
        {
            "ds": dates,
            "tv": rng.gamma(2, 10, 120),
            "price": price,
            "gmv": 100 - 50 * price + rng.normal(0, 1, 120),
        }
    )
    schema = Schema.model_validate(
        {
            "date": "ds",
            "target": "gmv",
            "channels": ["tv"],
            "controls": [{"name": "price", "future_known": True}],
        }
    )
    panel = Panel.from_frame(frame, schema)
    model = CausalMMM(**{**QUICK, "epochs": 40}).fit(panel, progress=False)
    future = pd.date_range(dates[-1], periods=3)[1:]
    level = {}
    for value in (0.1, 0.9):
        plan = pd.DataFrame({"ds": future, "price": value})
        level[value] = model.predict(plan=plan).query("series == 'gmv'")["mean"].mean()
    assert level[0.1] - level[0.9] == pytest.approx(40.0, rel=0.15)


def test_scikit_learn_can_clone_and_set_parameters() -> None:
    base = pytest.importorskip("sklearn.base", reason="scikit-learn is not a dependency")
    model = CausalMMM(hidden=16, forbidden=[("a", "b")])
    copy = base.clone(model)
    assert copy.get_params() == model.get_params()
    assert set(parameter_names()) == set(model.get_params())  # what a YAML file may hold
    assert copy.set_params(hidden=24).hidden == 24
    with pytest.raises(ValueError, match="unknown parameters"):
        copy.set_params(hiden=3)
    assert repr(model) == "CausalMMM(forbidden=[('a', 'b')], hidden=16)"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prior": 1.5}, "prior is a probability"),
        ({"decays": (0.5,), "delays": (0, 1)}, "one entry per response component each"),
        ({"structure": "guess"}, "'learned', 'pretrained', 'evidence', 'full', 'empty'"),
        ({"forbidden": [("x0", "nowhere")]}, "no series of the panel"),
        ({"forbidden": ["x0"]}, "pairs"),
        ({"forbidden": [("x0", "gmv")], "required": [("x0", "gmv")]}, "forbidden and required"),
        ({"edge_prior": {("x0", "gmv"): 2.0}}, "is a probability"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"target_share": 0.99}, "target_share lies between"),
        ({"holidays": "XX"}, "no holiday calendar of 'XX'"),
        ({"effect_spread": 0.0}, "effect_spread must be above 0"),
        ({"learning_rate": -1.0}, "learning_rate and clip must be above 0"),
        ({"patience": 0}, "patience must be at least 1"),
        ({"window": 10}, "window=10 is too short: a model with lags="),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_training(
    panel: Panel, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        CausalMMM(**{**QUICK, **settings}).fit(panel, progress=False)


def test_a_history_too_short_for_the_lags_is_named() -> None:
    panel = simulate("paper-small", seed=3, stores=3, steps=15)[0]
    with pytest.raises(PanelError, match="have down to 15 steps; a model with lags=7"):
        CausalMMM(device="cpu").fit(panel, progress=False)


def test_a_panel_with_other_series_is_refused(fitted: CausalMMM) -> None:
    other = simulate("paper-small", seed=3, stores=3, channels=4)[0]
    with pytest.raises(PanelError, match="the model was fitted on series"):
        fitted.graphs(other)


def test_questions_before_fit_are_refused() -> None:
    with pytest.raises(NotFittedError, match="call fit"):
        CausalMMM().graphs()


@pytest.mark.parametrize("level", [[0], [100], [120], [0.8]])
def test_impossible_levels_are_refused(fitted: CausalMMM, level: list[float]) -> None:
    with pytest.raises(ValueError, match="percent"):
        fitted.predict(horizon=2, level=level)


def test_a_horizon_beyond_the_plan_is_refused(fitted: CausalMMM, panel: Panel) -> None:
    with pytest.raises(ValueError, match="the plan covers 3 steps"):
        fitted.predict(panel, horizon=5, plan=future_plan(panel, 3, {"x0": 1.0}))


def future_plan(panel: Panel, steps: int, spend: dict[str, float]) -> pd.DataFrame:
    frames = []
    for store in panel.stores:
        dates = pd.date_range(panel.dates(str(store))[-1], periods=steps + 1)[1:]
        frames.append(pd.DataFrame({"shop_id": store, "ds": dates, **spend}))
    return pd.concat(frames, ignore_index=True)
