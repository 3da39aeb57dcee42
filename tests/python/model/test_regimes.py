"""Weekly and monthly panels of few stores are fitted with effects within the step."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalmmm import CausalMMM, ModelError, Panel, Schema, load
from causalmmm.engine.regression import Regression
from causalmmm.model.header import header_text
from causalmmm.model.regimes import MOST_FITTED, chosen_regime, fitted_stores
from causalmmm.simulation import PRESETS, Truth, simulate

HIDDEN = 8


@pytest.fixture(scope="module")
def weekly() -> tuple[CausalMMM, Panel, Panel, Truth]:
    panel, truth = simulate("weekly-mmm", seed=0)
    train, hidden = panel.split(HIDDEN)
    return CausalMMM(seed=0).fit(train, progress=False), train, hidden, truth


def plan_of(hidden: Panel) -> pd.DataFrame:
    spend = [name for name, role in zip(hidden.nodes, hidden.data.roles, strict=True)
             if role == "channel"]  # fmt: skip
    schema = hidden.schema
    return hidden.to_frame()[[schema.store, schema.date, *spend, *schema.control_names]]


def test_the_regime_follows_evidence_of_when_effects_begin() -> None:
    few, _ = simulate("weekly-mmm", seed=0, stores=2, steps=80)
    many, _ = simulate("weekly-mmm", seed=0, stores=1001, steps=20)
    daily, _ = simulate("paper-small", seed=0, stores=4)
    at_once, _ = simulate(PRESETS["paper-small"].changed(same_step=True), seed=1, stores=4)
    now = "effects begin within the step"
    later = "nothing says that effects begin within the step"
    assert chosen_regime("auto", "auto", few) == ("regression", now)
    assert chosen_regime("auto", "auto", many)[0] == "amortised"
    assert chosen_regime("auto", "auto", daily) == ("amortised", later)
    assert chosen_regime("auto", "auto", at_once) == ("regression", now)
    assert chosen_regime("auto", "learned", few)[0] == "amortised", "a choice of that model"
    assert chosen_regime("regression", "auto", daily) == ("regression", "as set")
    with pytest.raises(ValueError, match="regime is one of"):
        chosen_regime("bayes", "auto", few)


def test_shapes_are_fitted_on_a_sample_of_many_stores() -> None:
    assert fitted_stores(8, seed=0).tolist() == list(range(8))
    many = fitted_stores(1000, seed=0)
    assert len(many) == MOST_FITTED
    assert (np.diff(many) > 0).all()
    assert many.max() > 900
    assert many.tolist() == fitted_stores(1000, seed=0).tolist()


def test_contributions_and_forecasts_are_near_the_truth(
    weekly: tuple[CausalMMM, Panel, Panel, Truth],
) -> None:
    model, train, hidden, truth = weekly
    assert model.regime_ == "regression"
    steps = len(train.data.grid)
    true = truth.contributions()[:, :steps].sum(1)  # [S, C]
    sums = model.contributions().set_index(["store", "series"])
    names = pd.MultiIndex.from_product([train.stores.tolist(), truth.channels])
    total = sums.loc[names, "total"].to_numpy(float).reshape(true.shape)
    assert np.abs((total - true).sum(0)).sum() / true.sum() < 0.35
    inside = sums.loc[names, ["total_lower", "total_upper"]].to_numpy(float)
    inside = inside.reshape(*true.shape, 2)
    assert ((inside[..., 0] <= true) & (true <= inside[..., 1])).mean() > 0.7
    forecast = model.predict(plan=plan_of(hidden))
    mean = forecast.loc[forecast["series"] == train.nodes[-1], "mean"].to_numpy(float)
    actual = hidden.data.values[:, -1]
    assert np.abs(mean - actual).sum() / actual.sum() < 0.06


def test_components_of_a_date_sum_to_what_was_observed(
    weekly: tuple[CausalMMM, Panel, Panel, Truth],
) -> None:
    model, train, _, _ = weekly
    parts = model.decompose().groupby(["store", "date"])["value"].sum()
    np.testing.assert_allclose(parts.to_numpy(), train.data.values[:, -1], rtol=1e-5)


def test_a_store_is_answered_alike_alone_and_in_company(
    weekly: tuple[CausalMMM, Panel, Panel, Truth],
) -> None:
    model, train, _, _ = weekly
    last = str(train.stores[-1])
    graphs = model.graphs()
    alone = model.graphs(train.select([last]))["probability"].to_numpy()
    company = graphs.loc[graphs["store"] == last, "probability"].to_numpy()
    np.testing.assert_allclose(alone, company, atol=1e-6)


def test_a_forbidden_pair_has_no_influence_at_all() -> None:
    panel, _ = simulate("weekly-mmm", seed=1, stores=2, steps=80)
    channel, target = panel.nodes[0], panel.nodes[-1]
    model = CausalMMM(seed=0, forbidden=[(channel, "*")]).fit(panel, progress=False)
    graphs = model.graphs().set_index(["source", "target"])
    assert (graphs.loc[channel, "probability"] == 0).all()
    frame = panel.to_frame()
    frame[channel] = frame[channel] * 3 + 1
    other = Panel.from_frame(frame, schema=panel.schema)
    columns = ["mean", "lower_80", "upper_80"]
    before, after = model.predict(panel, horizon=3), model.predict(other, horizon=3)
    same = before["series"] == target
    pd.testing.assert_frame_equal(before.loc[same, columns], after.loc[same, columns])


def test_reactive_channels_are_named_and_act_one_step_later() -> None:
    panel, _ = simulate("weekly-mmm", seed=1, stores=2, steps=60)
    channel = panel.nodes[0]
    model = CausalMMM(seed=0, reactive=[channel]).fit(panel, progress=False)
    assert isinstance(model.model_, Regression)
    instant = model.model_.layout.instant
    assert not instant[0].any()
    assert instant[1, -1]
    with pytest.raises(ValueError, match=f"'{panel.nodes[-1]}', which is no channel"):
        CausalMMM(reactive=[panel.nodes[-1]]).fit(panel, progress=False)


def test_a_saved_regression_gives_the_same_bits(
    weekly: tuple[CausalMMM, Panel, Panel, Truth], tmp_path: Path
) -> None:
    model, train, _, _ = weekly
    again = load(model.save(tmp_path / "model"))
    assert again.regime_ == "regression"
    pd.testing.assert_frame_equal(again.graphs(train), model.graphs(train))
    pd.testing.assert_frame_equal(again.predict(train, 4), model.predict(train, 4))
    path = tmp_path / "model" / "model.json"
    header = json.loads(path.read_text())
    del header["tensors"]["reference"], header["digest"]
    path.write_text(header_text(header))
    with pytest.raises(ModelError, match="reference"):
        load(path.parent)


def test_what_a_regime_cannot_do_is_refused_with_a_remedy(
    weekly: tuple[CausalMMM, Panel, Panel, Truth], tmp_path: Path
) -> None:
    pytest.importorskip("onnx", reason="needs the extra onnx")
    model = weekly[0]
    with pytest.raises(ValueError, match="200 joint draws"):
        model.export_onnx(tmp_path / "model.onnx", draws=20)
    assert not (tmp_path / "model.onnx").exists()
    panel, _ = simulate("paper-small", seed=0, stores=4, steps=60)
    amortised = CausalMMM(epochs=1, hidden=4).fit(panel, progress=False)
    with pytest.raises(ValueError, match="regime='regression'"):
        amortised.contributions()


def test_effects_within_a_step_that_are_not_modelled_are_warned_about() -> None:
    panel, _ = simulate("weekly-mmm", seed=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        CausalMMM(regime="amortised", epochs=30, seed=0).fit(panel, progress=False)
    texts = [str(warning.message) for warning in caught]
    assert any("within the same step" in text for text in texts), texts


def test_clear_daily_panels_are_not_warned_about() -> None:
    panel, _ = simulate("paper-small", seed=0, stores=80)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        CausalMMM(structure="learned", seed=0, epochs=60).fit(panel, progress=False)
    assert [str(w.message) for w in caught if issubclass(w.category, UserWarning)] == []


@pytest.mark.parametrize("flagged", [False, True])
def test_a_level_shift_without_a_control_decides_or_is_warned_about(flagged: bool) -> None:
    rng = np.random.default_rng(0)
    steps, stores = 120, 4
    spend = rng.gamma(2.0, 50.0, (stores, steps, 2))
    late = np.broadcast_to(np.arange(steps) >= 80, (stores, steps))
    before = np.roll(spend[..., 0], 1, axis=1)
    sales = 3000 + 2 * before + 2000 * late + rng.normal(0, 100, (stores, steps))
    panel = Panel.from_arrays(
        np.concatenate([spend, sales[..., None]], -1),
        schema=Schema.check(
            {
                "store": "shop",
                "date": "day",
                "target": "sales",
                "channels": ["tv", "search"],
                "controls": ["price_change"] if flagged else [],
            }
        ),
        first_date="2024-01-01",
        freq="D",
        controls=late[..., None].astype(float) if flagged else None,
    )
    regime, why = chosen_regime("auto", "auto", panel)
    assert regime == ("amortised" if flagged else "regression"), "only one has level shifts"
    assert flagged or why == "the level of sales jumps"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        CausalMMM(regime="amortised", epochs=2, hidden=4).fit(panel, progress=False)
    said = [text for text in map(str, (w.message for w in caught)) if "jumps" in text]
    assert bool(said) != flagged
    if said:
        assert "2024-03-2" in said[0]


def test_a_plan_far_beyond_history_and_unused_columns_are_told(
    weekly: tuple[CausalMMM, Panel, Panel, Truth],
) -> None:
    model, train, hidden, _ = weekly
    plan = plan_of(hidden)
    channel = train.nodes[0]
    plan.loc[0, channel] = 1000 * train.data.values[:, 0].max()
    plan["chanel"] = 1.0
    with pytest.warns(UserWarning, match="beyond twice") as caught:
        model.predict(plan=plan, horizon=2)
    texts = [str(warning.message) for warning in caught]
    assert any(f"'{channel}'" in text and "beyond twice" in text for text in texts)
    assert any("'chanel'" in text for text in texts)


def weekly_arrays(
    spend: np.ndarray, sales: np.ndarray, columns: tuple[str, ...] = ("tv", "search")
) -> Panel:
    schema = Schema.check(
        {
            "store": "shop",
            "date": "week",
            "target": "sales",
            "channels": {name: {"spend": name} for name in columns},
        }
    )
    values = np.concatenate([spend, sales[..., None]], -1)
    return Panel.from_arrays(values, schema=schema, first_date="2022-01-03", freq="W-MON")


def told(panel: Panel, **parameters: object) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        CausalMMM(seed=0, **parameters).fit(panel, progress=False)
    return [str(w.message) for w in caught if issubclass(w.category, UserWarning)]


def test_spend_that_follows_last_week_s_sales_is_told() -> None:
    rng = np.random.default_rng(0)
    stores, steps = 4, 130
    sales = 1000 + rng.normal(0, 60, (stores, steps))
    spend = rng.gamma(2.0, 20.0, (stores, steps, 2))
    spend[:, 1:, 1] = 0.2 * sales[:, :-1] + rng.normal(0, 3, (stores, steps - 1))
    spend[:, 0, 1] = 200
    sales = sales + 2 * spend[..., 0]
    panel = weekly_arrays(spend, sales)
    said = [text for text in told(panel) if "future spend" in text]
    assert len(said) == 1
    assert "'search'" in said[0]
    assert "'tv'" not in said[0]
    assert not any("future spend" in text for text in told(panel, reactive=["search"]))


def test_a_series_that_contains_the_target_is_told() -> None:
    rng = np.random.default_rng(1)
    clicks = rng.gamma(2.0, 300.0, (3, 130))
    spend = np.stack([rng.gamma(2.0, 20.0, (3, 130)), clicks], -1)
    sales = 1.5 * clicks + rng.normal(0, 5, clicks.shape).clip(-10, 10) + 20
    assert any(
        "the baseline of sales is below" in text for text in told(weekly_arrays(spend, sales))
    )


def test_clear_weekly_panels_are_not_warned_about() -> None:
    for seed in (0, 1):
        panel, _ = simulate("weekly-mmm", seed=seed, stores=4)
        assert told(panel) == []
