"""Bad input is refused with findings that say what is wrong, where, and how to mend it."""

from __future__ import annotations

import string
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from malformed import CASES, PLAN_CASES, REFUSED, SCHEMA, Case, good, plan, write

from causalmmm import Config, Finding, Panel, PanelError, RefusedInput, validate, validate_plan
from causalmmm.data.flags import is_flag
from causalmmm.data.readers import open_source


def by_name(case: Case) -> str:
    return case.name.replace(" ", "-")


def the_finding(report: object, case: Case) -> Finding:
    found = [f for f in report if f.code == case.code]  # type: ignore[attr-defined]
    assert found, f"expected {case.code} in:\n{report}"
    return found[0]


def assert_it_says_where(found: Finding, case: Case) -> None:
    assert found.severity == case.severity
    for words in case.says:
        assert words in found.message
    assert (found.column, found.store, found.date) == (
        case.column if case.column is not None else found.column,
        case.store,
        case.date,
    )
    assert len(found.remedy) > 10


def test_the_table_of_malformed_panels_is_broad_and_its_base_is_sound() -> None:
    assert len(REFUSED) >= 40
    assert len({case.name for case in CASES}) == len(CASES)
    assert validate(good(), SCHEMA).codes == set()


@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_a_malformed_panel_leads_to_its_finding(case: Case, tmp_path: Path) -> None:
    report = validate(case.build(tmp_path), case.schema or SCHEMA, nan=case.nan)
    assert_it_says_where(the_finding(report, case), case)
    assert report.ok == (case.severity != "error")


@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_the_same_finding_comes_through_files(case: Case, tmp_path: Path) -> None:
    try:
        config = Config.read(write(case, tmp_path))
    except RefusedInput as error:
        assert_it_says_where_in_words(the_finding(error.report, case), case)
        return
    report = validate(config.data.path, config.schema, nan=config.data.nan)
    assert_it_says_where_in_words(the_finding(report, case), case)


def assert_it_says_where_in_words(found: Finding, case: Case) -> None:
    assert found.severity == case.severity
    assert found.remedy
    for words in case.says:
        assert words in found.message


@pytest.mark.parametrize("case", REFUSED, ids=by_name)
def test_a_malformed_panel_is_refused_with_the_whole_report(case: Case, tmp_path: Path) -> None:
    with pytest.raises(PanelError) as refused:
        Panel.from_frame(case.build(tmp_path), case.schema or SCHEMA, nan=case.nan)
    assert case.code in refused.value.report.codes
    assert the_finding(refused.value.report, case).message in str(refused.value)


@pytest.mark.parametrize("case", PLAN_CASES, ids=by_name)
def test_a_plan_that_does_not_follow_is_refused(case: Case, tmp_path: Path) -> None:
    panel = Panel.from_frame(good(), SCHEMA)
    with pytest.raises(PanelError) as refused:
        validate_plan(case.build(tmp_path), panel)
    assert_it_says_where(the_finding(refused.value.report, case), case)


def test_all_problems_come_in_one_report() -> None:
    frame = good().drop(columns="people")
    frame = pd.concat([frame.drop(index=[10, 50]), frame.iloc[[3]]])
    frame.loc[20, "tv_cost"] = -1
    frame.loc[60, "sales"] = np.nan
    frame.loc[61, "price"] = np.inf
    frame["visits"] = frame["visits"].astype(object)
    frame.loc[70, "visits"] = "many"
    report = validate(frame, SCHEMA)
    assert report.codes >= {
        "missing-column",
        "gap",
        "duplicate-row",
        "negative-spend",
        "missing-value",
        "infinite-value",
        "non-numeric",
    }
    assert [f.severity for f in report] == sorted([f.severity for f in report])
    for finding in report:
        assert finding.message in str(report)


def test_there_is_one_finding_per_kind_that_counts_its_stores() -> None:
    frame = good(26, 10)
    frame.loc[frame["day"] == "2024-01-03", "tv_cost"] = np.nan
    (found,) = [f for f in validate(frame, SCHEMA) if f.code == "missing-value"]
    assert "in 26 rows of 26 stores ('A', 'B', 'C', 'D', 'E' and 21 more)" in found.message
    assert (found.store, found.stores, found.rows) == ("A", tuple(string.ascii_uppercase), 26)


def test_a_store_without_any_target_is_not_taken_for_a_plan() -> None:
    frame = good(3, 10)
    frame.loc[frame["day"] >= "2024-01-09", "sales"] = np.nan
    (later,) = [f for f in validate(frame, SCHEMA) if f.code == "missing-value"]
    assert "future dates" in later.remedy
    frame = good(3, 10)
    frame.loc[frame[frame.columns[0]] == "B", "sales"] = np.nan
    (empty,) = [f for f in validate(frame, SCHEMA) if f.code == "missing-value"]
    assert empty.store == "B"
    assert "--skip-bad-stores" in empty.remedy


def test_the_text_of_an_error_is_capped_and_its_report_is_not() -> None:
    frame = good(26, 10)
    frame[["tv_cost", "web_cost", "web_views", "visits", "price"]] *= np.nan
    frame.loc[frame["day"] != "2024-01-03", ["tv_cost", "web_cost", "web_views"]] = 1.0
    frame.loc[frame["day"] != "2024-01-04", ["visits", "price"]] = 1.0
    with pytest.raises(PanelError) as refused:
        Panel.from_frame(frame, SCHEMA)
    assert len(refused.value.report.errors) == 5
    many = PanelError(refused.value.report.errors * 11)
    assert len(many.report.errors) == 55
    assert str(many).count("missing-value:") == 40
    assert "and 15 more" in str(many)


def test_a_report_is_a_table_of_named_columns() -> None:
    frame = good()
    frame.loc[50, "tv_cost"] = np.nan
    table = validate(frame, SCHEMA).to_frame()
    assert list(table.columns) == [
        "severity", "code", "column", "store", "date", "rows", "message", "remedy",
    ]  # fmt: skip
    row = table.iloc[0]
    assert (row["code"], row["store"], row["date"], row["rows"]) == (
        "missing-value",
        "B",
        "2024-01-11",
        1,
    )


def holes() -> pd.DataFrame:
    frame = good()
    frame.loc[[0, 50, 51, 119], "tv_cost"] = np.nan
    frame.loc[49, "tv_cost"], frame.loc[52, "tv_cost"] = 10.0, 40.0
    return frame


def test_zero_fills_missing_spend_and_is_recorded() -> None:
    panel = Panel.from_frame(holes(), SCHEMA, nan={"channels": "zero"})
    assert panel.data.values[[0, 50, 51, 119], 0].tolist() == [0, 0, 0, 0]
    notes = [f for f in panel.notices if f.code == "filled-with-zero"]
    assert [(f.column, f.stores, f.rows) for f in notes] == [("tv_cost", ("A", "B", "C"), 4)]


def test_interpolation_stays_within_a_store_and_is_recorded() -> None:
    panel = Panel.from_frame(holes(), SCHEMA, nan="interpolate")
    tv = panel.data.values[:, 0]
    assert tv[[50, 51]].tolist() == [20, 30]
    assert tv[0] == tv[1]  # nothing before: the first value is held
    assert tv[119] == tv[118]  # nothing after: the last one is
    (note,) = [f for f in panel.notices if f.code == "interpolated"]
    assert note.stores == ("A", "B", "C")


def test_a_policy_for_one_role_leaves_the_others_strict() -> None:
    frame = holes()
    frame.loc[5, "sales"] = np.nan
    report = validate(frame, SCHEMA, nan={"channels": "zero"})
    assert [f.column for f in report.errors] == ["sales"]


def test_missing_values_without_a_policy_are_an_error_that_names_the_policies() -> None:
    found = validate(holes(), SCHEMA).errors[0]
    assert "nan: {channels: zero}" in found.remedy


def test_future_rows_in_the_history_are_pointed_to_the_plan() -> None:
    frame = good()
    frame.loc[frame["day"] > "2024-02-04", "sales"] = np.nan
    assert "as a plan" in validate(frame, SCHEMA).errors[0].remedy


def test_columns_without_a_role_are_named_not_dropped_in_silence() -> None:
    notes = validate(good().assign(colour="red", mood=1.0), SCHEMA).notices
    assert [f.code for f in notes] == ["unused-column"]
    assert "'colour', 'mood'" in notes[0].message


def test_a_flag_without_a_role_is_a_warning_that_names_it() -> None:
    """A closure that is left out is booked to whatever else moved at the time."""
    frame = good()
    closed = (frame["day"] > frame["day"].iloc[-10]).astype(int)
    report = validate(frame.assign(closed=closed, mood=1.0), SCHEMA)
    assert [(f.code, f.column) for f in report.warnings] == [("unused-flag", "closed")]
    assert "controls" in report.warnings[0].remedy
    assert "'mood'" in report.notices[0].message
    listed = validate(frame.assign(closed=closed), {**SCHEMA, "controls": ["closed"]})
    assert "unused-flag" not in listed.codes


def test_a_flag_that_begins_late_in_a_long_table_is_a_flag() -> None:
    late = np.arange(30_000) >= 25_000
    frame = pd.DataFrame({"closed": late.astype(int), "price": 1.0 + late})
    source = open_source(frame, lambda _: False)
    assert [is_flag(source, name) for name in ("closed", "price")] == [True, False]


def test_braces_in_names_and_cells_do_not_disturb_the_messages() -> None:
    frame = good().rename(columns={"visits": "visits {n} {0}"}).replace({"shop": {"A": "{}"}})
    frame["visits {n} {0}"] = frame["visits {n} {0}"].astype(object)
    frame.loc[45, "visits {n} {0}"] = "{where"
    report = validate(frame, {**SCHEMA, "mediators": ["visits {n} {0}"]})
    assert report.codes == {"non-numeric"}
    assert "'{where'" in str(report)


def test_a_plan_gives_arrays_in_the_panels_order() -> None:
    panel = Panel.from_frame(good(), SCHEMA).select(["C", "A", "B"])
    table = plan(good())
    table["tv_cost"] = np.arange(15.0)
    found = validate_plan(table.sample(frac=1, random_state=0), panel)
    assert (found.series, found.horizon) == (("tv", "web"), 5)
    assert found.values.shape == (3, 5, 2)
    assert found.values[:, 0, 0].tolist() == [10, 0, 5]
    assert found.values[0, :, 1].tolist() == [0, 10, 20, 30, 40]
    assert (found.controls == 7.5).all()
    assert found.controls.shape == (3, 5, 1)


def test_a_plan_in_spend_becomes_exposure_at_the_stores_own_past_cost() -> None:
    history = good()
    history["web_cost"] = history["web_views"] / np.repeat([2.0, 4.0, 8.0], 40)
    panel = Panel.from_frame(history, SCHEMA)
    table = plan(history).drop(columns="web_views").assign(web_cost=3.0)
    found = validate_plan(table, panel)
    assert np.allclose(found.values[:, :, 1], np.array([[6.0], [12.0], [24.0]]))
    assert [f.code for f in found.notices] == ["spend-as-exposure"]


def test_a_plan_follows_histories_that_end_on_different_dates() -> None:
    history = good()
    history = history[~((history["shop"] == "B") & (history["day"] > "2024-01-20"))]
    found = validate_plan(plan(history), Panel.from_frame(history, SCHEMA))
    assert found.horizon == 5


@pytest.mark.parametrize(("freq", "first"), [("MS", "2021-03-01"), ("W-SUN", "2021-03-07")])
def test_a_plan_of_one_step_follows_a_weekly_or_monthly_history(freq: str, first: str) -> None:
    history = good(2, 30, freq, first)
    panel = Panel.from_frame(history, SCHEMA)
    assert validate_plan(plan(history, 1, freq), panel).horizon == 1
    late = plan(history, 2, freq).groupby("shop").tail(1)
    with pytest.raises(PanelError, match="plan-start"):
        validate_plan(late, panel)


def test_controls_whose_future_is_unknown_are_not_asked_of_a_plan() -> None:
    panel = Panel.from_frame(good(), {**SCHEMA, "controls": ["price"]})
    found = validate_plan(plan(good()).drop(columns="price"), panel)
    assert np.isnan(found.controls).all()


def test_a_plan_for_a_national_panel_needs_no_store() -> None:
    history = good(1).drop(columns="shop")
    panel = Panel.from_frame(history, {k: v for k, v in SCHEMA.items() if k != "store"})
    table = plan(good(1)).drop(columns="shop")
    assert validate_plan(table, panel).values.shape == (1, 5, 2)


def with_total(noise: float) -> pd.DataFrame:
    frame = good().assign(mail_cost=np.tile([1.0, 2.0, 5.0, 3.0], 30))
    rng = np.random.default_rng(1)
    total = frame[["tv_cost", "web_cost", "mail_cost"]].sum(axis=1)
    return frame.assign(all_cost=total + noise * rng.standard_normal(len(frame)))


def test_a_total_among_the_channels_is_named_and_what_only_resembles_one_is_not() -> None:
    names = ["tv_cost", "web_cost", "mail_cost", "all_cost"]
    schema = {"store": "shop", "date": "day", "target": "sales", "channels": names}
    found = the_one(validate(with_total(0.0), schema), "total-channel")
    assert found.column == "all_cost"
    assert found.severity == "warning"
    assert "sum of all other channels" in found.message
    assert "total-channel" not in validate(with_total(0.1), schema).codes


def test_a_control_that_rests_in_one_store_is_a_notice() -> None:
    frame = good()
    frame.loc[frame["shop"] == "B", "price"] = 7.0
    found = the_one(validate(frame, SCHEMA), "constant-control")
    assert (found.severity, found.store) == ("notice", "B")


def the_one(report: object, code: str) -> Finding:
    (found,) = (f for f in report if f.code == code)  # type: ignore[attr-defined]
    return found


def test_bad_stores_can_be_left_out_with_a_report() -> None:
    """Each for a reason of its own; what is left is the panel of the good ones."""
    frame = good(7, 40)
    frame.loc[5, "tv_cost"] = -1.0  # A
    frame.loc[45, "sales"] = np.nan  # B
    frame = frame.drop(index=[90, *range(160, 195)])  # C has a gap, E is short
    with pytest.raises(PanelError):
        Panel.from_frame(frame, SCHEMA)
    panel = Panel.from_frame(frame, SCHEMA, skip_bad_stores=True)
    assert panel.stores.tolist() == ["D", "F", "G"]
    only = Panel.from_frame(frame[frame["shop"].isin(["D", "F", "G"])], SCHEMA)
    np.testing.assert_array_equal(panel.data.values, only.data.values)
    (told,) = [f for f in panel.notices if f.code == "stores-left-out"]
    assert (told.severity, told.stores) == ("warning", ("A", "B", "C", "E"))
    for reason in ("negative-spend ('A')", "missing-value ('B')", "gap ('C')"):
        assert reason in told.message
    assert "short-history ('E')" in told.message


def test_what_is_wrong_with_the_whole_table_or_all_stores_is_not_left_out() -> None:
    frame = good(3, 40)
    with pytest.raises(PanelError, match="missing-column"):
        Panel.from_frame(frame.drop(columns="price"), SCHEMA, skip_bad_stores=True)
    frame["tv_cost"] = -1.0
    with pytest.raises(PanelError, match="negative-spend"):
        Panel.from_frame(frame, SCHEMA, skip_bad_stores=True)
