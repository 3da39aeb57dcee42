"""Evaluation hides what it says it hides, and puts naive rows beside the model's."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from causalmmm import CausalMMM, Panel
from causalmmm.evaluation.evaluate import COLUMNS
from causalmmm.simulation import simulate

if TYPE_CHECKING:
    from conftest import Fitted


def value(frame: pd.DataFrame, **where: object) -> float:
    for column, wanted in where.items():
        frame = frame[frame[column] == wanted]
    assert len(frame) == 1, frame
    return float(frame["value"].iloc[0])


@pytest.fixture(scope="module")
def scores(fitted: Fitted) -> pd.DataFrame:
    return fitted.model.evaluate(fitted.panel, fitted.truth, ["structure", "holdout", "cv"])


def test_scores_are_one_tidy_frame(scores: pd.DataFrame) -> None:
    assert list(scores.columns) == COLUMNS
    assert list(scores["test"].unique()) == ["structure", "holdout", "cv"]
    assert not scores.duplicated(COLUMNS[:-1]).any()


def test_structure_is_scored_per_store_without_the_diagonal(
    fitted: Fitted, scores: pd.DataFrame
) -> None:
    graphs = fitted.model.graphs(fitted.panel).merge(
        fitted.truth.edges_frame()[["store", "source", "target", "edge"]]
    )
    stores = [g for _, g in graphs.groupby("store") if 0 < g["edge"].sum() < len(g)]
    roc = np.mean([roc_auc_score(g["edge"], g["probability"]) for g in stores])
    precision = np.mean([average_precision_score(g["edge"], g["probability"]) for g in stores])
    assert value(scores, test="structure", metric="auroc") == pytest.approx(roc)
    assert value(scores, test="structure", metric="auprc") == pytest.approx(precision)
    sure = graphs[graphs["probability"] >= 0.8]
    assert value(scores, test="structure", metric="pairs_80_100") == len(sure)


def test_holdout_scores_the_forecast_of_the_hidden_steps(
    fitted: Fitted, scores: pd.DataFrame
) -> None:
    history, hidden = fitted.panel.split(10)
    forecast = fitted.model.predict(history, horizon=10)
    made = forecast[forecast["series"] == "gmv"]
    actual = hidden.to_frame()
    both = made.merge(actual, left_on=["store", "date"], right_on=["shop_id", "ds"])
    assert len(both) == 12 * 10
    error = (both["mean"] - both["gmv"]).abs().sum() / both["gmv"].abs().sum()
    at = {"test": "holdout", "series": "gmv", "horizon": 10}
    assert value(scores, method="causalmmm", metric="wape", **at) == pytest.approx(error, rel=1e-5)
    inside = both["gmv"].between(both["lower_80"], both["upper_80"]).mean()
    assert value(scores, method="causalmmm", metric="coverage_80", **at) == pytest.approx(inside)


def test_naive_rows_are_the_last_week_and_the_mean_of_the_history(
    fitted: Fitted, scores: pd.DataFrame
) -> None:
    values = fitted.panel.data.values.reshape(12, 60, -1)[..., -1].astype(float)
    actual = values[:, 50:57]
    for method, forecast in (
        ("seasonal naive", values[:, 43:50]),
        ("store mean", values[:, :50].mean(1, keepdims=True)),
    ):
        expected = np.abs(forecast - actual).sum() / actual.sum()
        at = {"test": "holdout", "series": "gmv", "horizon": 7, "method": method}
        assert value(scores, metric="wape", **at) == pytest.approx(expected, rel=1e-5)
        assert value(scores, metric="crps", **at) == pytest.approx(expected, rel=1e-5)


def test_every_method_is_scored_at_short_and_full_horizons(scores: pd.DataFrame) -> None:
    forecasts = scores[scores["test"] != "structure"]
    for _, part in forecasts.groupby(["test", "series", "method"]):
        assert sorted(part["horizon"].unique()) == [1, 7, 10]
    assert set(forecasts["series"]) == {"pv", "gmv"}


def test_steps_that_are_hidden_do_not_reach_the_scores_of_earlier_origins(fitted: Fitted) -> None:
    """Changing what happens after the last origin changes nothing but the actual values."""
    panel = fitted.panel
    changed = panel.to_frame()
    last = changed.groupby("shop_id").tail(10).index
    changed.loc[last, "x0"] *= 50
    other = Panel.from_frame(changed, panel.schema)
    for test in ("holdout", "cv"):
        before, after = (
            fitted.model.evaluate(p, tests=[test], origins=1).query("series == 'gmv'")["value"]
            for p in (panel, other)
        )
        pd.testing.assert_series_equal(before, after)


def test_a_model_that_saw_the_hidden_steps_is_told_on(fitted: Fitted) -> None:
    full = CausalMMM(epochs=1, horizon=5, draws=8, device="cpu").fit(fitted.panel, progress=False)
    with pytest.warns(UserWarning, match="fitted on steps until"):
        full.evaluate(fitted.panel, tests="holdout")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("default", message="12 stores are too few")  # of the copy's fit
        fitted.model.evaluate(fitted.panel, tests="holdout")
        full.evaluate(fitted.panel, tests="cv", origins=1)


def test_histories_of_different_length_are_each_hidden_their_last_steps(fitted: Fitted) -> None:
    frame = fitted.panel.to_frame()
    late = (frame["shop_id"] == fitted.panel.stores[0]) & (
        frame["ds"] < frame["ds"].min() + pd.Timedelta(days=15)
    )
    ragged = Panel.from_frame(frame[~late], fitted.panel.schema)
    scores = fitted.model.evaluate(ragged, tests="holdout")
    before = ragged.split(10)[0].tail(7).data.values[:, -1].reshape(12, 7)
    actual = ragged.tail(10).data.values[:, -1].reshape(12, 10)[:, :7]
    expected = np.abs(before - actual).sum() / actual.sum()
    got = value(scores, series="gmv", horizon=7, method="seasonal naive", metric="wape")
    assert got == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("tests", "says"),
    [
        (["structre"], "Did you mean 'structure'"),
        (["placebo"], "'structure', 'holdout', 'cv'"),
        ([], "no test"),
        (["structure"], "needs the truth"),
    ],
)
def test_what_cannot_be_tested_is_said(fitted: Fitted, tests: Iterable[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        fitted.model.evaluate(fitted.panel, tests=tests)


def test_a_truth_of_other_stores_is_refused(fitted: Fitted) -> None:
    few = fitted.truth.select([str(s) for s in fitted.panel.stores[:3]])
    with pytest.raises(ValueError, match="does not know the panel's stores"):
        fitted.model.evaluate(fitted.panel, few, ["structure"])


def test_a_horizon_longer_than_the_history_is_refused(fitted: Fitted) -> None:
    with pytest.raises(ValueError, match="cannot hold out 60 steps"):
        fitted.model.evaluate(fitted.panel, tests="holdout", horizon=60)


def test_what_was_spent_is_told_where_the_plan_is_the_actual_one() -> None:
    panel, _ = simulate("weekly-mmm", seed=0, stores=4, steps=100)
    history, hidden = panel.split(8)
    model = CausalMMM(seed=0).fit(history, progress=False)
    schema = panel.schema
    spend = [channel.column for channel in schema.channels.values()]
    plan = hidden.to_frame()[[schema.store, schema.date, *spend, *schema.known_controls]]
    made = model.predict(history, plan=plan)
    forecast = made.loc[made["series"] == panel.nodes[-1], "mean"].to_numpy(float)
    actual = hidden.data.values[:, -1].astype(float)
    at = {"series": panel.nodes[-1], "horizon": 8, "method": "causalmmm", "metric": "wape"}
    scores = [model.evaluate(panel, horizon=8, plan=plan) for plan in ("actual", "none")]
    expected = np.abs(forecast - actual).sum() / actual.sum()
    assert value(scores[0], **at) == pytest.approx(expected, rel=1e-5)
    assert value(scores[1], **at) > 1.2 * value(scores[0], **at)
    with pytest.raises(ValueError, match="plan is one of"):
        model.evaluate(panel, plan="spend")


def test_as_many_steps_are_hidden_as_were_held_out(fitted: Fitted) -> None:
    model = copy.copy(fitted.model)
    model.source_ = {"holdout": 4}
    scores = model.evaluate(fitted.panel, tests="holdout")
    assert set(scores["horizon"]) == {1, 4}


def test_controls_known_in_advance_are_known_to_the_forecasts() -> None:
    """A promotion that comes every other week, at other days in each store, lifts sales."""
    rng = np.random.default_rng(0)
    days = np.arange(120)
    stores = []
    for k in range(6):
        promotion = ((days + 2 * k) % 14 < 3).astype(float)
        sales = 500 + 300 * promotion + rng.normal(0, 15, len(days))
        spend = rng.gamma(2, 50, len(days))
        dates = pd.date_range("2024-01-01", periods=len(days))
        columns = {"store": f"s{k}", "date": dates, "tv_spend": spend, "promo": promotion}
        stores.append(pd.DataFrame(columns | {"sales": sales}))
    panel = Panel.from_frame(pd.concat(stores))
    assert panel.schema.controls[0].future_known
    model = CausalMMM(epochs=10, seed=0, device="cpu").fit(panel.split(20)[0], progress=False)
    scores = model.evaluate(panel, tests=["holdout"], horizon=20)
    wape = scores[(scores.series == "sales") & (scores.metric == "wape") & (scores.horizon == 20)]
    value = wape.set_index("method")["value"]
    assert value["causalmmm"] < 0.5 * min(value["seasonal naive"], value["store mean"])
