"""Decisions from the command line: files that other commands take, and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from command_line import call, ok

from causalmmm.cli.output import readable

WEEKS = 6


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("decisions")
    ok("simulate", "--preset", "weekly-mmm", "--stores", 2, "--steps", 90, "--set", "channels=3",
       "-o", folder / "sim", "-q")  # fmt: skip
    ok("fit", "-c", folder / "sim" / "causalmmm.yml", "-o", folder / "run", "-q")
    return folder / "run"


def test_returns_and_paths_are_tables_in_a_file(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "roi.csv"
    ok("roi", run, "--total", "-o", out, "-q")
    table = pd.read_csv(out)
    assert table["channel"].tolist() == ["x0", "x1", "x2", "all channels"]
    assert (table["roi_lower"] <= table["roi_upper"]).all()
    assert call("roi", run, "--total", "-o", out, "-q").exit_code == 2, "a file is not overwritten"
    out = tmp_path / "paths.csv"
    ok("paths", run, "--store", "s0000001", "-o", out, "-q")
    assert set(pd.read_csv(out)["store"]) == {"s0000001"}


def test_an_optimised_plan_goes_into_predict_and_compare(run: Path, tmp_path: Path) -> None:
    best, careful = tmp_path / "best.csv", tmp_path / "careful.csv"
    said = ok("optimize", run, "--horizon", WEEKS, "--bound", "x0=0.9:1.1", "-o", best).output
    assert "expected gain" in said
    assert "above zero with probability" in said
    shown = ok("optimize", run, "--horizon", WEEKS, "--json")
    assert json.loads(shown.stdout)[-1]["channel"] == "all channels"
    assert "expected gain" in shown.stderr
    assert "add what is known of 'control0', 'control1'" in said
    ok("optimize", run, "--horizon", WEEKS, "--quantile", 0.1, "-o", careful, "-q")
    plan = pd.read_csv(best)
    assert len(plan) == 2 * WEEKS
    known = plan.assign(control0=0.0, control1=0.0)
    known.to_csv(tmp_path / "known.csv", index=False)
    ok("predict", run, "--plan", tmp_path / "known.csv", "-o", tmp_path / "forecast.csv", "-q")
    ok("compare", run, careful, best, "-o", tmp_path / "compare.csv", "-q")
    table = pd.read_csv(tmp_path / "compare.csv").set_index("plan")
    assert table.index.tolist() == ["careful", "best"]
    assert table.loc["careful", "outcome_change"] == 0
    one = ("--store", "s0000001", "-o", tmp_path / "one.csv", "-q")
    ok("compare", run, careful, best, *one)
    spend = known.loc[known["shop_id"] == "s0000001", ["x0", "x1", "x2"]].to_numpy().sum()
    whole = known[["x0", "x1", "x2"]].to_numpy().sum()
    one_table = pd.read_csv(tmp_path / "one.csv").set_index("plan")
    assert one_table.loc["best", "spend"] == pytest.approx(spend, rel=1e-5)
    assert table.loc["best", "spend"] == pytest.approx(whole, rel=1e-5)


def test_bounds_and_groups_come_from_tables(run: Path, tmp_path: Path) -> None:
    groups, bounds, best = (tmp_path / f"{name}.csv" for name in ("groups", "bounds", "best"))
    groups.write_text("store,group\ns0000001,north\n")
    bounds.write_text("store,channel,min,max,unit\nnorth,x1,0.5,0.5,share\n,x0,,1,share\n")
    said = ok("optimize", run, "--horizon", WEEKS, "--bounds", bounds, "--groups", groups,
              "-o", best).output  # fmt: skip
    assert "bounds that bind" in said
    assert "north" in said
    table = pd.read_csv(best)
    assert len(table) == 2 * WEEKS
    both = call("optimize", run, "--bounds", bounds, "--bound", "x0=0:1")
    assert both.exit_code == 2
    returns = tmp_path / "roi.csv"
    ok("roi", run, "--groups", groups, "-o", returns, "-q")
    assert set(pd.read_csv(returns)["store"]) == {"north"}
    groups.write_text("store,group\ns0000001,north\ns0000001,south\n")
    refused = call("roi", run, "--groups", groups)
    assert "in the groups 'north' and 'south'" in " ".join(refused.stderr.split())


def german(table: pd.DataFrame, path: Path) -> Path:
    """The table as a German program exports it, in Windows' encoding."""
    swap = str.maketrans(",.", ".,")
    texts = {
        name: table[name].map("{:,.6f}".format).str.translate(swap)
        for name in table.select_dtypes("number")
    }
    table.assign(**texts).to_csv(path, sep=";", index=False, encoding="cp1252")
    return path


def test_every_table_of_a_question_is_written_as_its_panel_is(run: Path, tmp_path: Path) -> None:
    panel = pd.read_csv(run.parent / "sim" / "panel.csv")
    panel["shop_id"] = panel["shop_id"].replace("s0000001", "Köln")
    bounds = pd.DataFrame({"store": ["west"], "channel": ["x1"], "max": [1000.5]})
    groups = pd.DataFrame({"store": ["Köln"], "group": ["west"]})
    row = {"store": "Köln", "channel": "x0", "start": "2022-05-02", "end": "2022-06-26"}
    tests = pd.DataFrame([{**row, "lift": 1000.5, "lift_se": 100.25}])
    tables = {"panel": panel, "bounds": bounds, "groups": groups, "tests": tests}
    german_way = ["--set", "data.decimal=','", "--set", "data.thousands='.'",
                  "--set", "data.encoding=cp1252"]  # fmt: skip
    found = {}
    for way, settings in (("plain", []), ("german", german_way)):
        folder = tmp_path / way
        folder.mkdir()
        for name, table in tables.items():
            if settings:
                german(table, folder / f"{name}.csv")
            else:
                table.to_csv(folder / f"{name}.csv", index=False)
        asked = ["--data", folder / "panel.csv", *settings]
        limited = ["--bounds", folder / "bounds.csv", "--groups", folder / "groups.csv"]
        plan = folder / "plan.csv"
        ok("optimize", run, *asked, "--horizon", WEEKS, *limited, "-o", plan, "-q")
        for other in ("optimized", "compared"):
            (folder / f"{other}.csv").write_bytes(plan.read_bytes())
        ok("compare", run, plan, folder / "optimized.csv", *asked, "-o", folder / "beside.csv")
        returns, lifts = folder / "roi.csv", folder / "calibrated"
        ok("roi", run, *asked, *limited[2:], "-o", returns, "-q")
        told = ok("calibrate", run, folder / "tests.csv", "-o", lifts, *asked, "--json").stdout
        beside = pd.read_csv(folder / "beside.csv")
        found[way] = beside, pd.read_csv(returns), json.loads(told)["experiments"][0]["lift"]
    assert (tmp_path / "german" / "plan.csv").read_bytes().startswith(b"shop_id;ds;")
    for plain, written in zip(*(found[way][:2] for way in ("plain", "german")), strict=True):
        pd.testing.assert_frame_equal(plain, written, rtol=1e-5, atol=1e-3)
    assert found["plain"][2] == found["german"][2] == 1000.5


def test_settings_of_the_data_hold_without_a_file_and_those_of_a_fit_are_refused(
    run: Path,
) -> None:
    assert "no encoding" in call("roi", run, "--total", "--set", "data.encoding=latin-99").stderr
    refused = call("roi", run, "--total", "--set", "model.epochs=3")
    assert refused.exit_code == 2
    assert "a fitted model keeps" in " ".join(refused.stderr.split())


def test_the_next_experiment_is_a_ranked_table(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "tests.csv"
    ok("next-experiment", run, "--horizon", WEEKS, "--steps", 3, "--bound", "x0=1:1", "-o", out,
       "-q")  # fmt: skip
    table = pd.read_csv(out)
    assert table["removed"].is_monotonic_decreasing
    assert len(table) == 3 * 3 * 2  # ALL and two stores, three channels, two windows


def test_experiments_make_a_model_of_their_own(run: Path, tmp_path: Path) -> None:
    table = tmp_path / "experiments.csv"
    table.write_text(
        "store,channel,start,end,lift,lift_se\n"
        "ALL,x0,2022-05-02,2022-06-26,1000,100\ns0000001,x1,2022-05-02,2022-06-26,500,100\n"
    )
    out = tmp_path / "calibrated"
    done = ok("calibrate", run, table, "-o", out, "--json")
    told = json.loads(done.stdout)["experiments"]
    warned = " ".join(done.stderr.split())
    assert "warning: The experiment x1 in s0000001" in warned
    assert ".py" not in warned, "a warning is no line of code"
    assert [row["channel"] for row in told] == ["x0", "x1"]
    assert told[0]["after"] == pytest.approx(1000, abs=300)
    answers = [ok("roi", model, "--total").stdout for model in (run, out)]
    assert answers[0] != answers[1]
    table.write_text(table.read_text().replace("ALL", "north"))
    refused = call("calibrate", run, table, "-o", tmp_path / "other")
    assert refused.exit_code == 2
    assert "no store 'north'" in " ".join(refused.stderr.split())
    assert not (tmp_path / "other").exists()


def test_a_terminal_shows_columns_with_four_digits() -> None:
    values = {"channel": ["tv", "radio"], "spend": [453058.02, 0.0], "roi": [1.2345, 0.0]}
    frame = pd.DataFrame(values)
    shown = readable(frame).split("\n")
    assert shown[0].split() == ["channel", "spend", "roi"]
    assert shown[1].split() == ["tv", "453,058", "1.234"]
    assert shown[2].split() == ["radio", "0", "0"]
    assert readable(pd.concat([frame] * 30)).endswith("... and 20 more rows; -o FILE has all")


def test_a_misspelt_channel_of_a_plan_is_named_wherever_plans_are_read(
    run: Path, tmp_path: Path
) -> None:
    plan = tmp_path / "plan.csv"
    assert call("optimize", run, "--horizon", "4", "-o", plan).exit_code == 0
    wrong = pd.read_csv(plan).rename(columns={"x0": "x_0"})
    wrong = wrong.assign(control0=0.0, control1=0.0)
    wrong.to_csv(tmp_path / "wrong.csv", index=False)
    for arguments in (
        ("compare", run, plan, tmp_path / "wrong.csv"),
        ("predict", run, "--horizon", "4", "--plan", tmp_path / "wrong.csv"),
        ("optimize", run, "--horizon", "4", "--plan", tmp_path / "wrong.csv"),
    ):
        done = call(*arguments)
        assert done.exit_code == 0, done.output
        assert "'x_0'. Did you mean 'x0'?" in " ".join(done.stderr.split())


def test_wrong_questions_are_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "groups.csv").write_text("store,group\nnowhere,north\n")
    for arguments, words in (
        (("roi", run, "--start", "soon"), "start is a date like"),
        (("optimize", run, "--bound", "x0=1"), "CHANNEL=LOW:HIGH"),
        (("optimize", run, "--bound", "x9=0:1"), "is paid for. Paid channels: 'x0', 'x1'"),
        (("optimize", run, "--budget", "1e15"), "The budget 1,000,000,000,000,000 is more than"),
        (("roi", run, "--groups", tmp_path / "groups.csv"), "Stores of the panel: 's0000000'"),
    ):
        done = call(*arguments, "-o", tmp_path / "out.csv")
        assert done.exit_code == 2, done.output
        assert words in " ".join(done.stderr.replace("│", " ").split())
        assert not (tmp_path / "out.csv").exists()
