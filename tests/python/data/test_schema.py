"""Schemas check themselves, and the files of common tools are recognised by their names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from malformed import SCHEMA, good

from causalmmm import Panel, PanelError, Schema, validate
from causalmmm.data.names import RESERVED
from causalmmm.decisions.period import EVERYTHING
from causalmmm.decisions.tables import INTERACTION
from causalmmm.inference.frames import BASELINE, OWN_PAST, REMAINDER
from causalmmm.plots import effects


def look_alike(
    columns: dict[str, Any], stores: list[Any] | None = None, freq: str = "W-MON", steps: int = 20
) -> pd.DataFrame:
    """A table whose columns are given as constant text, or as a store or date column, or filled
    with numbers > 0 where the value is None."""
    rng = np.random.default_rng(1)
    names = stores or ["only"]
    rows = steps * len(names)
    dates = pd.date_range("2023-01-02" if freq != "D" else "2023-01-01", periods=steps, freq=freq)
    made: dict[str, Any] = {}
    for name, kind in columns.items():
        if kind == "store":
            made[name] = np.repeat(names, steps)
        elif kind == "date":
            made[name] = np.tile(dates.strftime("%Y-%m-%d"), len(names))
        elif kind == "yyyymmdd":
            made[name] = np.tile(dates.strftime("%Y%m%d").astype(int), len(names))
        elif kind == "fixed":
            made[name] = np.repeat(rng.random(len(names)) + 1, steps)
        elif kind is None:
            made[name] = rng.random(rows) * 100 + 1
        else:
            made[name] = kind
    return pd.DataFrame(made)


MERIDIAN = look_alike(
    {"geo": "store", "time": "date", "Channel0_impression": None, "Channel1_impression": None,
     "Organic_channel0_impression": None, "Competitor_Sales_control": None,
     "sentiment_score_control": None, "Channel0_spend": None, "Channel1_spend": None, "Promo": None,
     "conversions": None, "revenue_per_conversion": None, "population": "fixed"},
    stores=["Geo0", "Geo1", "Geo10"],
)  # fmt: skip
ROBYN = look_alike(
    {"DATE": "date", "revenue": None, "tv_S": None, "ooh_S": None, "facebook_I": None,
     "search_clicks_P": None, "search_S": None, "competitor_sales_B": None, "facebook_S": None,
     "events": "na", "newsletter": None},
)  # fmt: skip
PYMC = look_alike(
    {"date_week": "date", "y": None, "x1": None, "x2": None, "event_1": None, "event_2": None,
     "dayofyear": None, "t": None},
)  # fmt: skip
PYMC_GEO = look_alike(
    {"date": "date", "geo": "store", "x1": None, "x2": None, "event_1": None, "y": None},
    stores=["geo_a", "geo_b"],
)
NIXTLA = look_alike(
    {"unique_id": "store", "ds": "date", "y": None, "paid_clip": None, "boost": None},
    stores=["H1", "H2"],
    freq="D",
)
AIRMMM = look_alike(
    {"shop_id": "store", "ds": "yyyymmdd", **{f"context{i}": "fixed" for i in range(5)},
     **{f"x{i}": None for i in range(11)}, "pv": None, "gmv": None},
    stores=[434, 7, 1001],
    freq="D",
)  # fmt: skip

EXPECTED: dict[str, tuple[pd.DataFrame, dict[str, Any], list[str]]] = {
    "meridian": (
        MERIDIAN,
        {
            "store": "geo", "date": "time", "target": "conversions",
            "channels": {
                f"Channel{i}": {"spend": f"Channel{i}_spend", "exposure": f"Channel{i}_impression"}
                for i in range(2)
            },
            "organic": ["Organic_channel0_impression"],
            "controls": ["Competitor_Sales_control", "sentiment_score_control",
                         {"name": "Promo", "future_known": True}],
            "revenue_per_target": "revenue_per_conversion", "population": "population",
        },
        [],
    ),
    "robyn": (
        ROBYN,
        {
            "date": "DATE", "target": "revenue",
            "channels": {
                "tv": "tv_S", "ooh": "ooh_S", "search": {"spend": "search_S",
                                                         "exposure": "search_clicks_P"},
                "facebook": {"spend": "facebook_S", "exposure": "facebook_I"},
            },
            "organic": ["newsletter"], "controls": ["competitor_sales_B"],
        },
        ["events"],
    ),
    "pymc": (
        PYMC,
        {
            "date": "date_week", "target": "y", "channels": ["x1", "x2"],
            "controls": [{"name": f"event_{i}", "future_known": True} for i in (1, 2)],
        },
        ["dayofyear", "t"],
    ),
    "pymc-geo": (
        PYMC_GEO,
        {
            "store": "geo", "date": "date", "target": "y", "channels": ["x1", "x2"],
            "controls": [{"name": "event_1", "future_known": True}],
        },
        [],
    ),
    "nixtla": (
        NIXTLA,
        {"store": "unique_id", "date": "ds", "target": "y", "channels": ["paid_clip", "boost"]},
        [],
    ),
    "airmmm": (
        AIRMMM,
        {
            "store": "shop_id", "date": "ds", "target": "gmv",
            "channels": [f"x{i}" for i in range(11)], "mediators": ["pv"],
            "context": [f"context{i}" for i in range(5)],
        },
        [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("tool", EXPECTED)
def test_files_of_common_tools_are_recognised(tool: str) -> None:
    frame, expected, unused = EXPECTED[tool]
    schema, notices = Schema.guess(frame)
    assert schema == Schema.check(expected)
    assert [f.column for f in notices if f.code == "guessed-unused"] == unused
    said = {f.column for f in notices if f.column is not None}
    assert said == set(frame.columns)  # one notice per column, with a reason
    assert all(": " in f.message for f in notices)


@pytest.mark.parametrize("tool", EXPECTED)
@pytest.mark.parametrize("through", ["frame", "csv"])
def test_such_files_load_without_a_schema(tool: str, through: str, tmp_path: Any) -> None:
    frame, expected, _ = EXPECTED[tool]
    path = tmp_path / "data.csv"
    frame.to_csv(path, index=False)
    panel = Panel.from_frame(frame if through == "frame" else path)
    assert panel.schema == Schema.check(expected)
    assert panel.n_stores == frame.get(expected.get("store"), pd.Series("national")).nunique()
    assert {"guessed-role"} <= panel.report.codes


def test_airmmm_stores_stand_in_numeric_order_with_days_as_whole_numbers() -> None:
    panel = Panel.from_frame(AIRMMM)
    assert panel.stores.tolist() == ["7", "434", "1001"]
    assert (panel.freq, str(panel.data.grid[0])) == ("D", "2023-01-01")
    assert panel.nodes == [*(f"x{i}" for i in range(11)), "pv", "gmv"]


def test_channels_found_by_elimination_are_doubted() -> None:
    _, notices = Schema.guess(NIXTLA)
    doubted = [f.column for f in notices if f.severity == "warning"]
    assert doubted == ["paid_clip", "boost"]


def test_names_alone_are_enough_to_guess() -> None:
    schema, _ = Schema.guess(
        ["Geo", "DATE", "tv_spend", "tv_impressions", "Paid Radio cost", "sales"]
    )
    assert schema == Schema.check(
        {
            "store": "Geo",
            "date": "DATE",
            "target": "sales",
            "channels": {
                "tv": {"spend": "tv_spend", "exposure": "tv_impressions"},
                "Paid Radio": "Paid Radio cost",
            },
        }
    )


def test_a_date_is_found_by_its_values_when_no_name_says_so() -> None:
    frame = good().rename(columns={"day": "observed"})[["shop", "observed", "tv_cost", "sales"]]
    assert Schema.guess(frame)[0].date == "observed"


@pytest.mark.parametrize(
    ("columns", "codes"),
    [
        (["store", "tv_spend", "sales"], {"no-date"}),
        (["date", "tv_spend"], {"no-target"}),
        (["date", "sales"], {"no-channel"}),
        (["shop"], {"no-date", "no-target", "no-channel"}),
    ],
)
def test_what_cannot_be_guessed_is_all_said_at_once(columns: list[str], codes: set[str]) -> None:
    with pytest.raises(PanelError) as refused:
        Schema.guess(columns)
    assert {f.code for f in refused.value.report.errors} == codes


def test_short_forms_mean_the_same_as_long_ones() -> None:
    long = Schema(
        date="d",
        target="y",
        channels={"a": {"spend": "a", "exposure": None}},  # type: ignore[dict-item]
        controls=({"name": "c", "future_known": False},),  # type: ignore[arg-type]
    )
    assert Schema.check({"date": "d", "target": "y", "channels": ["a"], "controls": "c"}) == long
    named = {"date": "d", "target": "y", "channels": {"a": "a"}, "controls": ["c"]}
    assert Schema.check(named) == long


def test_a_schema_survives_json() -> None:
    schema = Schema.check(SCHEMA)
    assert Schema.model_validate_json(schema.model_dump_json()) == schema


def test_nodes_columns_and_roles_stand_in_model_order() -> None:
    schema = Schema.check({**SCHEMA, "organic": ["mail"]})
    assert schema.nodes == ["tv", "web", "mail", "visits", "sales"]
    assert schema.node_columns == ["tv_cost", "web_views", "mail", "visits", "sales"]
    assert schema.roles == ("channel", "channel", "organic", "mediator", "target")


def test_every_name_that_answers_use_is_reserved() -> None:
    used = {*(BASELINE, OWN_PAST, REMAINDER), EVERYTHING, INTERACTION, *("store", "date", "*")}
    assert used | {effects._OTHERS} == RESERVED
    for name in used:
        with pytest.raises(PanelError, match="reserved-name"):
            Schema.check({**SCHEMA, "channels": {name: "tv_cost"}})
        with pytest.raises(PanelError, match="reserved-name"):
            Schema.check({**SCHEMA, "mediators": [name]})


def test_a_guessed_channel_never_has_a_reserved_name() -> None:
    schema, _ = Schema.guess(
        ["shop", "date", "sales", "baseline_spend", "tv_spend", "remainder_cost"]
    )
    assert list(schema.channels) == ["baseline_spend", "tv", "remainder_cost"]


def test_every_problem_of_a_schema_is_reported() -> None:
    with pytest.raises(PanelError) as refused:
        Schema.check({"channels": {"tv": {"spnd": "x"}}, "freq": "hourly", "colour": 1})
    found = {(f.code, f.column) for f in refused.value.report}
    assert found == {
        ("missing-key", "date"),
        ("missing-key", "target"),
        ("unknown-key", "channels.tv.spnd"),
        ("unknown-key", "colour"),
        ("unknown-frequency", "freq"),
    }


@pytest.mark.parametrize(
    ("column", "role"),
    [
        ("Google Ads", "channels"), ("Amazon Ads", "channels"), ("TV: spend", "channels"),
        ("Kino Kosten", "channels"), ("radio_spend [EUR]", "channels"),
        ("lockdown", "controls"), ("price_index", "controls"), ("gdp_index", "controls"),
        ("promo_flag", "controls"), ("strange_flag", "controls"),
        ("social_engagements", "organic"), ("email_opens", "organic"),
    ],
)  # fmt: skip
def test_columns_as_people_name_them_get_the_role_that_they_mean(column: str, role: str) -> None:
    frame = look_alike({"Datum": "date", "Net Sales (EUR)": None, "tv_spend": None, column: None})
    if column.endswith("flag"):
        frame[column] = [0, 1] * 10
    schema, _ = Schema.guess(frame)
    assert schema.target == "Net Sales (EUR)"
    named = {"channels": [c.column for c in schema.channels.values()],
             "controls": schema.control_names, "organic": [*schema.organic]}  # fmt: skip
    assert column in named[role]
    assert "TV:" not in schema.channels


def test_numbers_without_a_role_are_a_warning() -> None:
    frame = look_alike({"date": "date", "sales": None, "tv_spend": None, "mystery": None})
    (found,) = [f for f in Schema.guess(frame)[1] if f.column == "mystery"]
    assert (found.severity, found.code) == ("warning", "guessed-unused")


def test_excel_day_numbers_are_dates_and_two_spellings_of_a_store_are_told(tmp_path: Any) -> None:
    frame = look_alike({"shop": "store", "date": "date", "sales": None, "tv": None}, ["R0", "r0"])
    days = (pd.to_datetime(frame["date"]) - pd.Timestamp("1899-12-30")).dt.days
    for through in ("frame", "csv"):
        given: Any = frame.assign(date=days)
        if through == "csv":
            given.to_csv(tmp_path / "t.csv", index=False)
            given = tmp_path / "t.csv"
        panel = Panel.from_frame(given)
        assert str(panel.data.grid[0]) == frame["date"].iloc[0]
        assert "store-spelling" in panel.report.codes
    by_turns = look_alike({"shop": "store", "date": "date", "sales": None, "tv": None}, ["R0"])
    by_turns.loc[np.arange(len(by_turns)) % 2 == 0, "shop"] = "r0"
    cause, refused = validate(by_turns).errors
    assert cause.code == "store-spelling"
    assert (refused.code, "one way" in refused.remedy) == ("no-frequency", True)
