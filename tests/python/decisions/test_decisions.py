"""Effects by path, ROI, budgets and plans side by side, as a user asks for them."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from causalmmm import CausalMMM, Panel, Schema
from causalmmm.decisions import budgets
from causalmmm.decisions.period import Period, last_year_money, usual_amounts
from causalmmm.decisions.tables import joined_returns
from causalmmm.engine.regression import store_posterior
from causalmmm.findings import PanelError, RefusedInput
from causalmmm.model import answers
from causalmmm.simulation import Truth, simulate

AFTER = 8


@pytest.fixture(scope="module")
def weekly() -> tuple[CausalMMM, Panel, Truth]:
    """Fitted on all but the last weeks; the truth spans them too."""
    panel, truth = simulate("weekly-mmm", seed=2, stores=4, steps=120 + AFTER)
    train, _ = panel.split(AFTER)
    return CausalMMM(seed=0).fit(train, progress=False), train, truth


def test_paths_sum_to_totals_and_channels_to_all_of_them(
    weekly: tuple[CausalMMM, Panel, Truth],
) -> None:
    model, train, _ = weekly
    table = model.paths()
    assert list(table) == ["store", "channel", "path", "mean", "lower", "upper"]
    parts = table[table["path"] != "total"].groupby(["store", "channel"])["mean"].sum()
    totals = table[table["path"] == "total"].set_index(["store", "channel"])["mean"]
    pd.testing.assert_series_equal(parts, totals[parts.index], check_names=False, rtol=1e-9)
    for _, each in totals.groupby("store"):
        values = each.droplevel("store")
        single = values.drop("all channels").sum()
        np.testing.assert_allclose(single, values["all channels"], rtol=1e-9)
    assert set(table["store"]) == set(train.stores)
    assert f"x0 -> pv -> {train.nodes[-1]}" in set(table["path"])


def test_a_usual_amount_leaves_pauses_and_older_years_out() -> None:
    weeks = pd.date_range("2022-01-03", periods=60, freq="W-MON")
    tv = np.where(np.arange(60) % 4 == 0, 90.0, 0.0)
    tv[:8] = 500.0  # longer ago than a year
    frame = pd.DataFrame({"date": weeks, "tv": tv, "radio": 0.0, "sales": 5.0})
    panel = Panel.from_frame(frame, Schema(date="date", target="sales", channels=["tv", "radio"]))
    assert usual_amounts(panel).tolist() == [[90.0, 0.0, 5.0]]
    assert last_year_money(panel)[0, 0] == pytest.approx(90 / 4)


def test_the_sum_over_stores_has_an_interval_of_its_own(
    weekly: tuple[CausalMMM, Panel, Truth],
) -> None:
    model, train, _ = weekly
    each, whole = model.roi(), model.roi(by="total")
    by_channel = each.groupby("channel", sort=False)
    whole = whole.set_index("channel")
    for column in ("spend", "outcome"):
        pd.testing.assert_series_equal(by_channel[column].sum(), whole[column], check_names=False)
    width = whole["outcome_upper"] - whole["outcome_lower"]
    widths = (each["outcome_upper"] - each["outcome_lower"]).groupby(each["channel"]).sum()
    assert (width <= widths[width.index] * (1 + 1e-9)).all()
    north = model.roi(by={str(train.stores[0]): "north", str(train.stores[2]): "north"})
    assert set(north["store"]) == {"north"}
    kept = each[each["store"].isin([train.stores[0], train.stores[2]])]
    np.testing.assert_allclose(
        north.set_index("channel")["outcome"], kept.groupby("channel", sort=False)["outcome"].sum()
    )


def test_questions_that_share_a_posterior_have_the_same_answers(
    weekly: tuple[CausalMMM, Panel, Truth], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, train, _ = weekly
    made = []

    def counted(*arguments: object, **options: object) -> object:
        made.append(1)
        return store_posterior(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("causalmmm.model.answers.store_posterior", counted)
    alone = [model.decompose(train), model.graphs(train), model.roi(train)]
    assert len(made) == 3
    with model.sharing():
        together = [model.decompose(train), model.graphs(train), model.roi(train)]
    assert len(made) == 4
    model.roi(train)
    assert len(made) == 5, "nothing is kept afterwards"
    for one, other in zip(alone, together, strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_blocks_and_threads_do_not_matter(
    weekly: tuple[CausalMMM, Panel, Truth], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, threads = weekly[0], torch.get_num_threads()
    whole, roi = model.optimize(4), model.roi()
    monkeypatch.setattr(answers, "_STORES_AT_ONCE", 1)
    torch.set_num_threads(3)
    try:
        blocks, roi_of_blocks = model.optimize(4), model.roi()
        assert torch.get_num_threads() == 3
        torch.set_num_threads(1)
        pd.testing.assert_frame_equal(model.optimize(4).plan, blocks.plan, check_exact=True)
        pd.testing.assert_frame_equal(model.roi(), roi_of_blocks, check_exact=True)
    finally:
        torch.set_num_threads(threads)
    pd.testing.assert_frame_equal(roi_of_blocks, roi, rtol=1e-5)
    assert blocks.gain["mean"] == pytest.approx(whole.gain["mean"], rel=1e-4)


def test_returns_of_blocks_of_stores_are_those_of_the_panel(
    weekly: tuple[CausalMMM, Panel, Truth],
) -> None:
    model, train, _ = weekly
    names = train.stores.tolist()
    blocks = [model.returns(train.select(some)) for some in (names[:1], names[1:])]
    joined = joined_returns(blocks, train, Period.of(train, None, None))
    whole = model.returns(train)
    for name in ("stores", "total", "paths"):
        pd.testing.assert_frame_equal(getattr(joined, name), getattr(whole, name), rtol=1e-5)


def test_roi_is_outcome_over_spend_and_near_the_truth(
    weekly: tuple[CausalMMM, Panel, Truth],
) -> None:
    model, train, truth = weekly
    table = model.roi(by="total").set_index("channel")
    np.testing.assert_allclose(table["roi"], table["outcome"] / table["spend"], rtol=1e-9)
    np.testing.assert_allclose(table["spend_share"].drop("all channels").sum(), 1, rtol=1e-6)
    steps = int(train.lengths[0])
    true = truth.contributions()[:, :steps].sum((0, 1)).astype(float)
    spend = table["spend"].drop("all channels").to_numpy()
    heavy = true > 0.05 * true.sum()
    error = np.abs(table["roi"].drop("all channels").to_numpy() / (true / spend) - 1)
    assert np.median(error[heavy]) < 0.25
    one = table.drop("all channels")
    inside = (one["roi_lower"] <= true / spend) & (true / spend <= one["roi_upper"])
    assert inside.mean() >= 0.6


def test_a_period_counts_its_own_spend_only(weekly: tuple[CausalMMM, Panel, Truth]) -> None:
    model, train, _ = weekly
    days = train.data.grid
    first = model.roi(end=str(days[59]), by="total")
    second = model.roi(start=str(days[60]), by="total")
    whole = model.roi(by="total")
    np.testing.assert_allclose(first["spend"] + second["spend"], whole["spend"], rtol=1e-6)
    both = first["outcome"] + second["outcome"]
    np.testing.assert_allclose(both.iloc[-1], whole["outcome"].iloc[-1], rtol=0.2)
    with pytest.raises(ValueError, match="no date of the panel lies between"):
        model.roi(start="1990-01-01", end="1990-02-01")
    with pytest.raises(ValueError, match="start is a date like"):
        model.roi(start="last week")
    with pytest.raises(ValueError, match="by is 'store', 'total' or a mapping"):
        model.roi(by="region")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="which the panel does not have"):
        model.paths(by={"nowhere": "north"})


def test_a_history_longer_than_the_window_is_answered_for_where_it_is_read(
    weekly: tuple[CausalMMM, Panel, Truth],
) -> None:
    panel = weekly[1].select(weekly[1].stores[:2].tolist())
    model = CausalMMM(seed=0, window=70, regime="regression").fit(panel, progress=False)
    roi, recent = model.roi(), panel.tail(70)
    found = roi[roi["channel"] != "all channels"].set_index(["store", "channel"])
    np.testing.assert_allclose(
        found["spend"].unstack().loc[panel.stores.tolist(), list(panel.schema.channels)],
        np.add.reduceat(recent.spend.astype(float), recent.data.offsets[:-1]),
        rtol=1e-6,
    )
    parts = model.contributions().set_index(["store", "series"])["total"]
    np.testing.assert_allclose(
        found["outcome"].groupby("store").sum(),
        parts[found.index].groupby("store").sum(),
        rtol=0.1,  # one counts carry-over into the period, the other that out of it
    )
    days = panel.dates(panel.stores[0]).strftime("%Y-%m-%d")
    late = model.roi(start=days[-70], end=days[-1])
    pd.testing.assert_frame_equal(late, roi, check_exact=True)
    for dates in ({"start": days[0], "end": days[9]}, {"start": days[0]}):
        with pytest.raises(ValueError, match=f"last 70 steps of a history, from {days[-70]} on"):
            model.paths(**dates)
    with pytest.raises(ValueError, match=f"runs from {days[-70]}"):
        model.returns(end=days[9])
    test = {"store": "ALL", "channel": "x0", "lift": 1.0, "lift_se": 1e9}
    inside = pd.DataFrame([test | {"start": days[-20], "end": days[-11]}])
    whole = model.roi(start=days[-20], end=days[-11], by="total").set_index("channel")["outcome"]
    assert model.calibrate(inside).loc[0, "before"] == pytest.approx(whole["x0"], rel=0.2)
    with pytest.raises(PanelError, match="bad-experiment"):
        model.calibrate(pd.DataFrame([test | {"start": days[0], "end": days[9]}]))


def test_revenue_per_target_turns_outcomes_into_money(
    weekly: tuple[CausalMMM, Panel, Truth],
) -> None:
    model, train, _ = weekly
    schema = Schema.model_validate({**train.schema.model_dump(), "revenue_per_target": "price"})
    priced = dataclasses.replace(
        train, schema=schema, revenue_per_target=np.full(len(train.data.values), 3.0, np.float32)
    )
    plain, money = model.roi(train, by="total"), model.roi(priced, by="total")
    np.testing.assert_allclose(money["roi"], 3 * plain["roi"], rtol=1e-9)
    np.testing.assert_allclose(money["spend"], plain["spend"])


def test_a_budget_is_spent_exactly_within_its_bounds_and_brings_more(
    weekly: tuple[CausalMMM, Panel, Truth],
) -> None:
    model, train, truth = weekly
    bounds = {"x0": (0.9, 1.1), "x1": (1.0, 1.0)}
    found = model.optimize(AFTER, bounds=bounds)
    cells, table = found.allocation, found.channels.set_index("channel")
    np.testing.assert_allclose(cells["spend"].sum(), cells["current"].sum(), rtol=1e-9)
    assert (cells["spend"] <= np.maximum(cells["seen"], cells["current"]) * (1 + 1e-9)).all()
    assert (cells["spend"] >= -1e-9).all()
    assert 0.9 - 1e-6 <= table.loc["x0", "spend"] / table.loc["x0", "current"] <= 1.1 + 1e-6
    fixed = cells[cells["channel"] == "x1"]
    np.testing.assert_allclose(fixed["spend"], fixed["current"], rtol=1e-9)
    assert found.gain["lower"] > 0
    gained = table.loc["all channels", "outcome"] - table.loc["all channels", "outcome_current"]
    np.testing.assert_allclose(gained, found.gain["mean"], rtol=1e-6)
    spend = [
        np.concatenate(
            [train.spend.reshape(4, 120, -1), cells[name].to_numpy().reshape(4, AFTER, -1)], 1
        )
        for name in ("current", "spend")
    ]
    before, after = (truth.history_under(s)[..., -1].sum() for s in spend)
    assert after > before, "the plan brings more under the truth too"


def test_a_table_bounds_any_sums_and_tells_which_bind(
    weekly: tuple[CausalMMM, Panel, Truth], tmp_path: Path
) -> None:
    model, train, _ = weekly
    first, second, *rest = train.stores.tolist()
    free = model.optimize(AFTER)
    days = np.sort(free.plan[train.schema.date].unique())
    early = free.allocation[free.allocation["date"].isin(days[:3])]["current"].sum()
    table = pd.DataFrame(
        [
            {"min": 0.9, "max": 1.1, "unit": "share", "per": "store"},
            {"store": "north", "channel": "x0", "max": 0.5, "unit": "share"},
            {"end": str(days[2])[:10], "max": float(0.8 * early)},
            {"store": second, "channel": "x1", "min": 1, "max": 1, "unit": "share", "per": "step"},
        ]
    )
    path = tmp_path / "bounds.csv"
    table.to_csv(path, index=False)
    groups = {first: "north", second: "north"} | dict.fromkeys(rest, "south")
    found = model.optimize(AFTER, bounds=str(path), groups=groups)
    cells, told = found.allocation, found.bounds
    np.testing.assert_allclose(cells["spend"].sum(), cells["current"].sum(), rtol=1e-9)
    change = cells.groupby("store")["spend"].sum() / cells.groupby("store")["current"].sum()
    assert change.between(0.9 - 1e-9, 1.1 + 1e-9).all()
    north = cells[cells["store"].isin([first, second]) & (cells["channel"] == "x0")]
    assert north["spend"].sum() <= 0.5 * north["current"].sum() * (1 + 1e-9)
    assert cells[cells["date"].isin(days[:3])]["spend"].sum() <= 0.8 * early * (1 + 1e-9)
    fixed = cells[(cells["store"] == second) & (cells["channel"] == "x1")]
    np.testing.assert_allclose(fixed["spend"], fixed["current"], rtol=1e-9)
    assert told["bound"].value_counts().to_dict() == {"row 1": 4, "row 2": 1, "row 3": 1,
                                                      "row 4": AFTER}  # fmt: skip
    binding = told[told["limit"] != ""]
    assert ((binding["price"] >= -1e-9) | (binding["limit"] == "lower")
            | (binding["min"] == binding["max"])).all()  # fmt: skip
    assert (told.loc[told["limit"] == "", "price"] == 0).all()
    assert 0 < found.gain["mean"] < free.gain["mean"]
    assert found.price > 0


def test_a_larger_budget_brings_more_and_a_careful_one_risks_less(
    weekly: tuple[CausalMMM, Panel, Truth],
) -> None:
    model, _, _ = weekly
    usual = model.optimize(AFTER)
    spent = float(usual.allocation["current"].sum())
    larger = model.optimize(AFTER, budget=1.2 * spent)
    assert larger.gain["mean"] > usual.gain["mean"]
    expected = larger.gain["mean"] - usual.gain["mean"]
    assert 0.5 * expected < usual.price * 0.2 * spent < 2 * expected, "the shadow price says so"
    careful = model.optimize(AFTER, quantile=0.1)
    assert careful.gain["lower"] >= usual.gain["lower"] * 0.98


def test_what_cannot_be_met_is_refused_with_its_reason(
    weekly: tuple[CausalMMM, Panel, Truth],
) -> None:
    model, train, _ = weekly
    with pytest.raises(RefusedInput, match=r"budget .* is more than the upper bounds allow"):
        model.optimize(AFTER, budget=1e12)
    with pytest.raises(RefusedInput, match="Channel 'x0' must get"):
        model.optimize(AFTER, bounds={"x0": (1000.0, 2000.0)})
    with pytest.raises(ValueError, match="no channel 'x99' is paid for"):
        model.optimize(AFTER, bounds={"x99": (0.5, 1.0)})
    for rows, words in (
        ([{"channel": "x0", "min": 1e12}], "Channel 'x0' must get"),
        ([{"store": "s9", "max": 1}], "no store or group 's9'"),
        ([{"channel": "tv", "max": 1}], "no channel 'tv' is paid for"),
        ([{"max": 1, "per": "week"}], "'week' in per"),
        ([{"max": 1, "unit": "euro"}], "unit 'euro'"),
        ([{"max": -1}], "number of 0 or more"),
        ([{"start": "2020-01-01", "end": "2020-02-01", "max": 1}], "No step of the plan lies"),
        ([{"most": 1}], "column 'most' that means nothing"),
        ([{"min": 1e12, "per": "store channel step"}], "row 1 of the bounds.* but can take"),
    ):
        with pytest.raises(RefusedInput, match=words):
            model.optimize(AFTER, bounds=pd.DataFrame(rows))
    store = str(train.stores[0])
    clash = [
        {"store": store, "min": 0.9, "unit": "share"},
        {"channel": "x1", "max": 9e9},
        {"store": store, "max": 0.3, "unit": "share", "per": "channel"},
    ]
    with pytest.raises(RefusedInput, match=r"kept together: row 1 \(all .*at least.* row 3"):
        model.optimize(AFTER, bounds=pd.DataFrame(clash))
    with pytest.raises(ValueError, match="quantile is between 0 and 1"):
        model.optimize(AFTER, quantile=10)


def test_the_test_that_tells_most_about_the_gain_comes_first(
    weekly: tuple[CausalMMM, Panel, Truth],
) -> None:
    model, train, _ = weekly
    tests = model.next_experiment(AFTER, steps=4, error=0.05)
    assert tests["removed"].is_monotonic_decreasing
    assert tests["removed"].between(0, 1).all()
    assert set(tests["store"]) == {"ALL", *train.stores.tolist()}
    np.testing.assert_allclose(
        tests["gain_sd_after"], tests["gain_sd"] * np.sqrt(1 - tests["removed"]), atol=1e-6
    )
    np.testing.assert_allclose(tests["lift_se"], 0.05 * tests["lift"].abs())
    both = tests[(tests["store"] != "ALL") & (tests["start"] == tests["start"].min())]
    all_stores = tests[(tests["store"] == "ALL") & (tests["start"] == tests["start"].min())]
    for name in ("spend", "lift"):
        single = both.groupby("channel")[name].sum()
        np.testing.assert_allclose(all_stores.set_index("channel")[name][single.index], single)
    assert (tests["end"] - tests["start"]).unique() == np.timedelta64(21, "D")
    noisy = model.next_experiment(AFTER, steps=4, error=5.0)
    assert noisy["removed"].max() < tests["removed"].max()
    usual = model.next_experiment(AFTER, steps=4)
    assert (usual["lift_se"] > 0).all()
    with pytest.raises(ValueError, match="a test has 1 to 8 steps"):
        model.next_experiment(AFTER, steps=9)
    with pytest.raises(ValueError, match="error is a share"):
        model.next_experiment(AFTER, error=0)


def test_plans_are_compared_with_the_first(weekly: tuple[CausalMMM, Panel, Truth]) -> None:
    model, train, _ = weekly
    plan = model.optimize(AFTER).plan
    spend = list(train.schema.channels)
    half = plan.assign(**{name: plan[name] / 2 for name in spend})
    table = model.compare({"best": plan, "same": plan, "half": half}).set_index("plan")
    assert table.loc["same", "outcome_change"] == 0
    assert table.loc["half", "upper"] < 0
    assert table.loc["half", "better"] == 0
    np.testing.assert_allclose(table.loc["half", "spend_change"], -table.loc["best", "spend"] / 2)
    known = plan.assign(**dict.fromkeys(train.schema.control_names, 0.0))
    assert len(model.predict(plan=known)) == 4 * AFTER * len(train.nodes)
    days = sorted(half[train.schema.date].unique())
    shorter = half[half[train.schema.date] < days[-1]]
    with pytest.raises(ValueError, match="plans differ in their number of steps"):
        model.compare({"a": plan, "b": shorter})


def test_a_goal_finds_its_budget(weekly: tuple[CausalMMM, Panel, Truth]) -> None:
    model, _, _ = weekly
    usual = model.optimize(AFTER).channels.set_index("channel").loc["all channels"]
    wanted = 0.7 * usual["outcome"]
    least = model.optimize(AFTER, reach={"outcome": wanted}).channels.iloc[-1]
    assert wanted <= least["outcome"] < 1.03 * wanted
    assert least["spend"] < 0.7 * usual["spend"], "returns diminish"
    with pytest.raises(RefusedInput, match="No budget reaches outcome"):
        model.optimize(AFTER, reach={"outcome": 1e12})
    with pytest.raises(ValueError, match="reach is one of outcome, roi, mroi"):
        model.optimize(AFTER, reach={"sales": 1.0})
    with pytest.raises(ValueError, match="not both"):
        model.optimize(AFTER, 1000.0, reach={"roi": 1.0})


def test_one_store_is_planned_alone(weekly: tuple[CausalMMM, Panel, Truth]) -> None:
    model, train, _ = weekly
    one = str(train.stores[1])
    found = model.optimize(AFTER, panel=train.select([one]))
    assert set(found.allocation["store"]) == {one}
    assert found.gain["mean"] > 0


def test_a_plan_that_may_gain_nothing_is_told_of(
    weekly: tuple[CausalMMM, Panel, Truth], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, train, _ = weekly
    found = model.optimize(AFTER)
    current = found.plan.copy()
    money = found.allocation["current"].to_numpy().reshape(len(current), -1)
    current[[c.spend for c in train.schema.channels.values()]] = money
    beside = model.compare({"current": current, "best": found.plan}).iloc[1]
    assert found.gain["better"] == beside["better"] > budgets.SURE
    assert found.findings() == []
    doubtful = dataclasses.replace(found, gain={**found.gain, "better": 0.71})
    assert [finding.code for finding in doubtful.findings()] == ["doubtful-gain"]
    assert "with probability 71 %" in doubtful.findings()[0].message
    assert doubtful.gain_frame().loc[0, "better"] == 0.71
    less = doubtful.allocation.assign(spend=0.5 * doubtful.allocation["current"])
    assert dataclasses.replace(doubtful, allocation=less).findings() == []  # gains nothing, asked
    monkeypatch.setattr(budgets, "SURE", 1.1)
    with pytest.warns(UserWarning, match="causalmmm next-experiment"):
        model.optimize(AFTER)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.optimize(AFTER, bounds=dict.fromkeys(train.schema.channels, (1, 1)))


def test_the_amortised_model_refuses_with_a_remedy() -> None:
    panel, _ = simulate("paper-small", seed=0, stores=6, steps=40, channels=2)
    model = CausalMMM(structure="learned", epochs=1, hidden=8, device="cpu")
    model.fit(panel, progress=False)
    for ask in (model.roi, model.paths, model.optimize):
        with pytest.raises(ValueError, match="fit with regime='regression'"):
            ask()
