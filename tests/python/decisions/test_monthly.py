"""A monthly panel, from the fit to a budget."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalmmm import CausalMMM, Panel, Schema, load
from causalmmm.decisions.period import TAIL

STORES, MONTHS, KEPT, EFFECT = 6, 48, 0.4, {"tv": 3.0, "web": 1.0}
Fit = tuple[CausalMMM, Panel]


@pytest.fixture(scope="module")
def fit() -> Fit:
    """Sales follow spend linearly, with carry-over; money in tv brings three times that in web."""
    rng, rows = np.random.default_rng(0), []
    dates = pd.date_range("2021-01-01", periods=MONTHS, freq="MS")
    season = 1 + 0.2 * np.sin(2 * np.pi * dates.month.to_numpy() / 12)
    for store in range(STORES):
        spend = {name: rng.gamma(4.0, 25.0, MONTHS) for name in EFFECT}
        sales = 500 * season + rng.normal(0, 15, MONTHS)
        for name, money in spend.items():
            carried = np.zeros(MONTHS)
            for t in range(MONTHS):
                carried[t] = (1 - KEPT) * money[t] + (KEPT * carried[t - 1] if t else 0)
            sales += EFFECT[name] * carried
        rows.append(pd.DataFrame({"shop": f"s{store}", "month": dates, **spend, "sales": sales}))
    schema = Schema(store="shop", date="month", target="sales", channels=list(EFFECT))
    panel = Panel.from_frame(pd.concat(rows), schema)
    return CausalMMM(seed=0).fit(panel, progress=False), panel


def test_months_are_answered_for_by_the_regression(fit: Fit) -> None:
    model, panel = fit
    assert (panel.freq, model.regime_, TAIL["M"]) == ("MS", "regression", 3)


def test_a_quarter_is_looked_ahead_unless_another_horizon_is_set(fit: Fit, tmp_path: Path) -> None:
    model, panel = fit
    loaded = load(model.save(tmp_path / "run"))
    assert (model.horizon, model.horizon_, loaded.horizon_) == (None, 3, 3)
    longer = copy.copy(model).set_params(horizon=7)
    assert (
        longer.predict(panel)["date"].nunique() == load(longer.save(tmp_path / "7")).horizon_ == 7
    )


def test_returns_are_near_the_truth(fit: Fit) -> None:
    roi = fit[0].roi(by="total").set_index("channel")
    for name, effect in EFFECT.items():
        assert roi.loc[name, "roi"] == pytest.approx(effect, rel=0.25)
        assert roi.loc[name, "roi_lower"] < roi.loc[name, "roi"] < roi.loc[name, "roi_upper"]


def test_a_period_of_months_counts_its_spend(fit: Fit) -> None:
    model, panel = fit
    some = model.roi(start="2022-03-01", end="2022-08-01", by="total").set_index("channel")
    frame = panel.to_frame()
    inside = frame["month"].between("2022-03-01", "2022-08-01")
    assert inside.sum() == 6 * STORES
    assert some.loc["tv", "spend"] == pytest.approx(frame.loc[inside, "tv"].sum(), rel=1e-6)


def test_forecast_and_budget_go_on_in_months(fit: Fit) -> None:
    model, _ = fit
    months = pd.date_range("2025-01-01", periods=3, freq="MS")
    forecast = model.predict()
    assert sorted(forecast["date"].unique()) == list(months)
    sales = forecast[forecast["series"] == "sales"]["mean"]
    expected = 500 * (1 + 0.2 * np.sin(2 * np.pi * months.month.to_numpy() / 12)) + 400
    assert sales.to_numpy().reshape(STORES, 3).mean(0) == pytest.approx(expected, rel=0.12)
    budget = model.optimize()
    assert sorted(budget.allocation["date"].unique()) == list(months)
    spent = budget.channels.set_index("channel")
    assert spent.loc["all channels", "spend"] == pytest.approx(spent.loc["all channels", "current"])
    assert spent.loc["tv", "change"] > 0 > spent.loc["web", "change"]
    assert budget.gain["mean"] > 0
    same = model.compare({"best": budget.plan, "again": budget.plan})
    assert same["outcome_change"].tolist() == [0.0, 0.0]
