"""The command line does what its help says, and refuses without a traceback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import networkx as nx
import pandas as pd
import pytest
import yaml
from command_line import call, ok, refused
from malformed import CASES, REFUSED, SCHEMA, Case, good, plan, write

import causalmmm
from causalmmm import Panel, Schema
from causalmmm.cli.common import terminal
from causalmmm.cli.output import table_text
from causalmmm.engine.training.checkpoint import save_checkpoint
from causalmmm.files import PARTIAL, exclusive

if TYPE_CHECKING:
    from conftest import Fitted

COMMANDS = (
    "init", "validate", "simulate", "fit", "predict", "graph", "decompose", "curves", "evaluate",
    "roi", "paths", "optimize", "compare", "export", "score", "info", "demo", "pretrain",
)  # fmt: skip
TINY = ["--set", "model.epochs=2", "--set", "model.draws=20", "--device", "cpu"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def simulated(folder: Path) -> Path:
    out = folder / "sim"
    ok("simulate", "--preset", "paper-small", "--stores", 4, "--steps", 50, "--seed", 3,
       "--set", "channels=2", "-o", out, "-q")  # fmt: skip
    return out


@pytest.fixture(scope="module")
def fitted_folder(folder: Path, simulated: Path) -> Path:
    out = folder / "runs" / "a"
    ok("fit", "-c", simulated / "causalmmm.yml", "-o", out, "--holdout", 10, "-q", *TINY)
    return out


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    empty = tmp_path / "here"
    empty.mkdir()
    monkeypatch.chdir(empty)
    return empty


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    assert f"causalmmm {command} " in ok(command, "--help").output


def test_score_names_its_files_as_the_other_commands_do(tmp_path: Path) -> None:
    text = ok("score", "--help").output
    assert "--data" in text
    assert "--out" in text
    assert "--input" not in text
    assert "--output" not in text
    for data, out in (("--data", "-o"), ("--data", "--out"), ("--input", "--output")):
        said = refused("score", tmp_path / "m.onnx", data, tmp_path, out, tmp_path / "scores")
        assert "m.onnx" in said
    assert "pass --data" in refused("score", tmp_path / "m.onnx", "-o", tmp_path / "scores")
    assert "pass --data" in refused("score", tmp_path / "m.onnx", "--data", tmp_path)


def test_a_picture_is_in_the_format_that_is_named(fitted_folder: Path, here: Path) -> None:
    one = ["graph", fitted_folder, "--store", "s0000001", "-q"]
    ok(*one, "--format", "svg", "-o", "picture")
    assert "<svg" in Path("picture").read_text()


def test_the_first_words_are_help() -> None:
    text = call().output
    for command in COMMANDS:
        assert command in text
    assert ok("--version").stdout.startswith("causalmmm ")


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name.replace(" ", "-"))
def test_malformed_panels_are_found_by_validate_and_refused_by_fit(
    case: Case, tmp_path: Path
) -> None:
    config = write(case, tmp_path)
    found = call("validate", "-c", config)
    assert found.exit_code == 1, found.output
    assert "Traceback" not in found.output
    stopped = call("fit", "-c", config, "-o", tmp_path / "model", *TINY)
    assert stopped.exit_code == 2, stopped.output
    assert "Traceback" not in stopped.output
    assert isinstance(stopped.exception, SystemExit)
    assert not (tmp_path / "model").exists()
    for said in (found.stderr, stopped.stderr):
        assert case.code in said
        for words in case.says:
            assert words in said


@pytest.mark.parametrize(
    "case",
    [c for c in CASES if c.severity == "warning"],
    ids=lambda case: case.name.replace(" ", "-"),
)
def test_warnings_are_printed_and_do_not_refuse(case: Case, tmp_path: Path) -> None:
    done = ok("validate", "-c", write(case, tmp_path))
    assert case.code in done.stderr


def test_a_malformed_panel_is_refused_by_the_real_program(tmp_path: Path) -> None:
    config = write(REFUSED[0], tmp_path)
    program = [sys.executable, "-c", "from causalmmm.cli import main; main()"]
    done = subprocess.run(
        [*program, "fit", "-c", str(config), "-o", str(tmp_path / "model")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 2
    assert REFUSED[0].code in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_validate_speaks_json_and_writes_tables(tmp_path: Path) -> None:
    config = write(REFUSED[0], tmp_path)
    done = call("validate", "-c", config, "--json", "-o", tmp_path / "found.csv")
    answer = json.loads(done.stdout)
    assert done.exit_code == 1
    assert answer["ok"] is False
    assert {f["code"] for f in answer["findings"]} >= {REFUSED[0].code}
    assert REFUSED[0].code in set(pd.read_csv(tmp_path / "found.csv")["code"])


def test_refusals_speak_json_too(tmp_path: Path) -> None:
    config = write(REFUSED[0], tmp_path)
    done = call("fit", "-c", config, "-o", tmp_path / "model", "--json")
    assert done.exit_code == 2
    assert json.loads(done.stdout)["findings"][0]["code"] == REFUSED[0].code


def test_validate_finds_wrong_parameters_and_the_file_together(tmp_path: Path) -> None:
    good().to_csv(tmp_path / "good.csv", index=False)
    done = call("validate", tmp_path / "good.csv", "--set", "model.epochs=many")
    assert done.exit_code == 1
    assert "model.epochs" in done.stderr
    assert call("validate", tmp_path / "good.csv", "--set", "model.epoch=3").exit_code == 1


def test_init_writes_what_validate_accepts(here: Path) -> None:
    good().to_csv("sales.csv", index=False)
    printed = ok("init", "sales.csv").stdout
    assert yaml.safe_load(printed)["schema"]["target"] == "sales"
    ok("init", "sales.csv", "-o", "conf/mmm.yml")
    assert yaml.safe_load(Path("conf/mmm.yml").read_text())["data"]["path"] == "../sales.csv"
    ok("validate", "-c", "conf/mmm.yml")
    assert "already" in refused("init", "sales.csv", "-o", "conf/mmm.yml")
    ok("init", "sales.csv", "-o", "conf/mmm.yml", "--force")


def test_a_simulation_is_a_panel_its_truth_and_a_configuration(simulated: Path) -> None:
    names = {str(p.relative_to(simulated)) for p in simulated.rglob("*") if p.is_file()}
    assert names == {
        "panel.csv", "causalmmm.yml", "truth/edges.csv", "truth/truth.json", "truth/truth.npz",
    }  # fmt: skip
    panel = Panel.read(simulated / "panel.csv")
    assert (panel.n_stores, panel.nodes) == (4, ["x0", "x1", "pv", "gmv"])
    ok("validate", "-c", simulated / "causalmmm.yml")


def test_simulations_repeat_by_seed_in_either_format(simulated: Path, tmp_path: Path) -> None:
    ok("simulate", "--preset", "paper-small", "--stores", 4, "--steps", 50, "--seed", 3,
       "--set", "channels=2", "--format", "parquet", "-o", tmp_path / "s")  # fmt: skip
    parquet = pd.read_parquet(tmp_path / "s" / "panel.parquet")
    text = pd.read_csv(simulated / "panel.csv", parse_dates=["ds"])
    pd.testing.assert_frame_equal(parquet, text, check_dtype=False, rtol=1e-5)


def test_what_cannot_be_simulated_is_said(simulated: Path, tmp_path: Path) -> None:
    assert "known: airmmm" in refused("simulate", "--preset", "none", "-o", tmp_path / "s")
    assert "already" in refused("simulate", "-o", simulated)
    assert "unknown setting" in refused("simulate", "--set", "chanels=1", "-o", tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_fit_writes_one_model_directory_and_nothing_else(
    simulated: Path, fitted_folder: Path, here: Path
) -> None:
    assert {p.name for p in fitted_folder.iterdir()} == {"model.json", "model.safetensors"}
    assert [p.name for p in fitted_folder.parent.iterdir()] == ["a"]
    header = json.loads((fitted_folder / "model.json").read_text())
    assert header["parameters"]["epochs"] == 2
    assert header["trained_on"]["rows"] == 4 * 40
    done = ok("fit", "-c", simulated / "causalmmm.yml", "-o", here / "m", "--seed", 9, "--json",
              *TINY)  # fmt: skip
    assert json.loads(done.stdout)["epochs"] == 2
    assert "epoch 2/2" in done.stderr
    assert [p.name for p in here.iterdir()] == ["m"]
    assert json.loads((here / "m" / "model.json").read_text())["parameters"]["seed"] == 9


def test_fit_does_not_replace_what_is_there(simulated: Path, fitted_folder: Path) -> None:
    before = (fitted_folder / "model.json").read_bytes()
    config = simulated / "causalmmm.yml"
    assert "--force" in refused("fit", "-c", config, "-o", fitted_folder)
    assert "not touched" in refused("fit", "-c", config, "-o", simulated, "--force")
    assert (fitted_folder / "model.json").read_bytes() == before


def test_a_run_goes_on_from_its_own_checkpoint_only(simulated: Path, tmp_path: Path) -> None:
    run = ["fit", "-c", simulated / "causalmmm.yml", "-q", *TINY, "--checkpoint"]
    ok(*run, tmp_path / "c", "-o", tmp_path / "once")
    ok(*run, tmp_path / "c", "-o", tmp_path / "again", "--resume")
    once, again = (tmp_path / name / "model.safetensors" for name in ("once", "again"))
    assert once.read_bytes() == again.read_bytes()
    (tmp_path / "junk").write_text("no checkpoint")
    last = ["-o", tmp_path / "m", "--resume"]
    assert "wrong-checkpoint" in refused(*run, tmp_path / "junk", *last)
    assert "wrong-checkpoint" in refused(*run, tmp_path / "c", *last, "--set", "model.hidden=8")
    assert not (tmp_path / "m").exists()


def test_a_fit_goes_on_from_an_earlier_model(
    simulated: Path, fitted_folder: Path, here: Path
) -> None:
    run = ["fit", "-c", simulated / "causalmmm.yml", "-o", here / "m", "-q", *TINY]
    ok(*run, "--from", fitted_folder)
    before, after = (
        json.loads((folder / "model.json").read_text()) for folder in (fitted_folder, here / "m")
    )
    assert after["calendar"] == before["calendar"]
    said = refused(*run, "--force", "--from", fitted_folder, "--set", "model.hidden=12")
    assert "other-model" in said
    assert "hidden" in said


def test_a_run_that_is_stopped_says_how_to_go_on_and_does(
    simulated: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM after the first epoch, as a scheduler sends it; then the same with --resume."""
    run = ["fit", "-c", simulated / "causalmmm.yml", "-q", *TINY, "-o"]
    with monkeypatch.context() as patched:

        def stopped(*arguments: Any) -> None:
            save_checkpoint(*arguments)
            os.kill(os.getpid(), signal.SIGTERM)

        patched.setattr("causalmmm.engine.training.loop.save_checkpoint", stopped)
        done = call(*run, here / "a")
    assert done.exit_code == 128 + signal.SIGTERM
    assert "stopped by SIGTERM" in done.stderr
    assert "run the same command with --resume" in done.stderr
    assert [p.name for p in here.iterdir()] == ["a.checkpoint"]
    ok(*run, here / "a", "--resume")
    assert [p.name for p in here.iterdir()] == ["a"]  # the checkpoint has served
    ok(*run, here / "whole")
    a, whole = (here / name / "model.safetensors" for name in ("a", "whole"))
    assert a.read_bytes() == whole.read_bytes()


def test_a_short_store_is_found_by_validate_and_can_be_left_out(here: Path) -> None:
    """Validation asks for what the fit needs; without the option one store refuses the rest."""
    frame = good(4, 40)
    short = frame["shop"] == "B"
    frame[~short | (frame.groupby("shop").cumcount() < 11)].to_csv("data.csv", index=False)
    found = call("validate", "data.csv")
    assert "Store 'B': 11 steps" in found.stderr
    assert found.exit_code == 1
    assert "--skip-bad-stores" in refused("fit", "data.csv", "-o", "m", *TINY)
    done = ok("fit", "data.csv", "-o", "m", "--skip-bad-stores", *TINY, "--json")
    assert json.loads(done.stdout)["stores"] == 3
    assert "1 store left out: short-history ('B')" in done.stderr
    said = ok("graph", "m", "--json")  # the same stores of the same file
    assert {graph["store"] for graph in json.loads(said.stdout)} == {"A", "C", "D"}
    assert "changed" not in said.stderr


def test_two_fits_into_one_place_are_refused_before_training(simulated: Path, here: Path) -> None:
    with exclusive(here / "a"):
        said = refused("fit", "-c", simulated / "causalmmm.yml", "-q", *TINY, "-o", here / "a")
    assert "Another run is writing" in said
    assert list(here.iterdir()) == []


def test_places_that_cannot_be_written_are_refused_before_work(
    fitted_folder: Path, here: Path
) -> None:
    for out in ("/proc/forecast.csv", fitted_folder / "model.json" / "forecast.csv"):
        assert "Nothing can be written below" in refused("predict", fitted_folder, "-o", out)
    leftover = here / f".f.csv-{'0' * 12}{PARTIAL}"
    leftover.write_text("half a file of a run that was killed")
    ok("predict", fitted_folder, "--horizon", 1, "-o", here / "f.csv", "-q")
    assert [p.name for p in here.iterdir()] == ["f.csv"]
    assert "horizon must be 1 to 2000" in refused("predict", fitted_folder, "--horizon", 10**9)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "no data: pass a file"),
        (["-c", "nowhere.yml"], "does not exist"),
        (["data.csv", "--device", "gpu"], "unknown device 'gpu'"),
        (["data.csv", "--device", "cuda:99"], "device 'cuda:99' is not available"),
        (["data.csv", "--resume"], "there is no checkpoint 'model.checkpoint'"),
        (["data.csv", "--holdout", "38"], "40 steps from 2024-01-01, fewer than 57"),
        (["data.csv", "--set", "model.epochs"], "does not set anything"),
        (["data.csv", "--set", "model.forbidden=[[nope, sales]]"], "'nope'"),
        (["data.csv", "--set", "model.prior=3"], "probability"),
        (["data.csv", "--wizard"], "No such option"),
    ],
)
def test_wrong_usage_of_fit_is_refused(arguments: list[str], says: str, here: Path) -> None:
    good().to_csv("data.csv", index=False)
    assert says in refused("fit", *arguments, "-o", "model")
    assert [p.name for p in here.iterdir()] == ["data.csv"]


def test_predict_continues_the_file_on_which_the_model_was_fitted(fitted_folder: Path) -> None:
    text = ok("predict", fitted_folder, "--horizon", 3, "--level", "50,90", "-q").stdout
    frame = pd.read_csv(StringIO(text))
    assert list(frame.columns) == [
        "store", "date", "series", "mean", "lower_50", "upper_50", "lower_90", "upper_90",
    ]  # fmt: skip
    assert len(frame) == 4 * 4 * 3
    assert frame["date"].min() == "2024-02-20"


def test_forecasts_are_written_in_the_format_of_the_suffix(fitted_folder: Path, here: Path) -> None:
    store = "s0000001"
    for name in ("f.csv", "f.parquet", "f.json", "f.png", "f.svg"):
        ok("predict", fitted_folder, "--horizon", 2, "--store", store, "-o", name, "-q")
    frames = [pd.read_csv("f.csv"), pd.read_parquet("f.parquet"), pd.read_json("f.json")]
    for frame in frames:
        assert set(frame["store"]) == {store}
        assert frame["mean"].tolist() == pytest.approx(frames[0]["mean"].tolist())
    assert Path("f.png").read_bytes().startswith(b"\x89PNG")
    assert "already" in refused("predict", fitted_folder, "-o", "f.csv")
    assert "unsupported format 'xlsx'" in refused("predict", fitted_folder, "-o", "f.xlsx")
    assert "one --store" in refused("predict", fitted_folder, "-o", "g.png")
    assert "invalid levels 'a,b'" in refused("predict", fitted_folder, "--level", "a,b")


def test_a_plan_is_followed_and_a_wrong_one_refused(here: Path) -> None:
    good().to_csv("data.csv", index=False)
    plan(good()).to_csv("plan.csv", index=False)
    plan(good()).groupby("shop").tail(4).to_csv("late.csv", index=False)
    plan(good(4)).to_csv("other.csv", index=False)
    tree = {"schema": SCHEMA, "data": {"path": "data.csv"}}
    Path("mmm.yml").write_text(yaml.safe_dump(tree))
    ok("fit", "-c", "mmm.yml", "-o", "m", "-q", *TINY)
    text = ok("predict", "m", "--plan", "plan.csv", "--store", "B", "-q").stdout
    frame = pd.read_csv(StringIO(text))
    assert frame.query("series == 'tv'")["mean"].tolist() == pytest.approx([1, 2, 3, 4, 5])
    assert "plan-start" in refused("predict", "m", "--plan", "late.csv")
    plan(good()).query("shop == 'B'").to_csv("one.csv", index=False)
    assert "--store" in refused("predict", "m", "--plan", "one.csv")
    assert ok("predict", "m", "--plan", "one.csv", "--store", "B", "-q").stdout == text
    told = refused("predict", "m", "--plan", "other.csv", "--store", "A")
    assert "unknown-store" in told
    assert "Stores of the panel: 'A'" in told


def test_a_warning_of_the_library_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.warn(UserWarning("effects are too large"), UserWarning, "fit.py", 3)
    terminal.warn(FutureWarning("a keyword goes away"), FutureWarning, "pandas.py", 4)
    said = capsys.readouterr().err
    assert said.startswith("warning: effects are too large\n")
    assert "pandas.py:4: FutureWarning: a keyword goes away" in said


def test_what_is_known_of_edges_is_set_in_the_configuration(
    simulated: Path, tmp_path: Path
) -> None:
    known = ["--set", "model.edge_prior={x0: {gmv: 0}}", "--set", "model.required=[[x1, gmv]]"]
    config = simulated / "causalmmm.yml"
    ok("fit", "-c", config, "-o", tmp_path / "m", "-q", *TINY, *known)
    text = ok("graph", tmp_path / "m", "--threshold", 0, "-q").stdout
    edges = pd.read_csv(StringIO(text)).set_index(["source", "target"])["probability"]
    assert (edges["x0", "gmv"] == 0).all()
    assert (edges["x1", "gmv"] == 1).all()
    said = refused("fit", "-c", config, "-o", tmp_path / "n", "--set", "model.edge_prior={x0: 1}")
    assert "{source: {target: probability}}" in said


def test_graphs_leave_in_every_format(fitted_folder: Path, here: Path) -> None:
    one = ["graph", fitted_folder, "--threshold", 0, "-q", "--store", "s0000002"]
    table = pd.read_csv(StringIO(ok(*one).stdout))
    assert len(table) == 12
    for name in ("g.json", "g.graphml", "g.dot", "g.png", "g.parquet"):
        ok(*one, "-o", name)
    graph = nx.read_graphml("g.graphml")
    assert graph.number_of_edges() == 12
    assert graph.nodes["gmv"]["role"] == "target"
    edge = table.query("source == 'x0' and target == 'gmv'").iloc[0]
    assert graph.edges["x0", "gmv"]["probability"] == pytest.approx(edge["probability"], rel=1e-5)
    record = json.loads(Path("g.json").read_text())
    assert record["store"] == "s0000002"
    assert len(record["edges"]) == 12
    dot = Path("g.dot").read_text()
    assert dot.startswith('digraph "s0000002" {')
    assert dot.count(" -> ") == 12


def test_curves_and_decompositions_of_one_store_are_drawn(fitted_folder: Path, here: Path) -> None:
    for command in ("curves", "decompose"):
        one = [command, fitted_folder, "--store", "s0000001"]
        ok(*one, "-o", f"{command}.png", "-q")
        assert Path(f"{command}.png").read_bytes().startswith(b"\x89PNG")
        assert json.loads(ok(*one, "-o", f"{command}.svg", "--json").stdout)["ok"]
        assert "already" in refused(*one, "-o", f"{command}.png")
        assert "one --store" in refused(command, fitted_folder, "-o", "more.png")


def test_graphs_of_a_table_come_without_a_fit(simulated: Path, here: Path) -> None:
    config = simulated / "causalmmm.yml"
    settings = yaml.safe_load(config.read_text())["data"]
    table = (simulated / Path(settings["path"]).name).resolve()
    every = ["graph", table, "-c", config, "--threshold", 0, "-q"]
    ok(*every, "-o", "edges.csv")
    edges = pd.read_csv("edges.csv")
    assert list(edges) == ["store", "source", "target", "probability", "prior", "evidence"]
    assert len(edges) == 4 * 12
    one = json.loads(ok(*every, "--store", "s0000002", "--json").stdout)
    alike = edges[edges["store"] == "s0000002"].set_index(["source", "target"])
    for edge in one["edges"]:
        row = alike.loc[(edge["source"], edge["target"])]
        assert edge["probability"] == pytest.approx(row["probability"], abs=1e-6)
    ok(*every, "--store", "s0000002", "-o", "g.png")
    known = ["--set", "model.forbidden=[['*', x0]]", "--set", "model.required=[[x0, gmv]]"]
    ok(*every, *known, "-o", "known.csv")
    known_edges = pd.read_csv("known.csv").set_index(["source", "target"])["probability"]
    assert (known_edges.loc[("x0", "gmv")] == 1).all()
    assert (known_edges.xs("x0", level="target") == 0).all()
    assert "--data belongs to a fitted model" in refused(*every, "--data", table)


def test_a_prior_is_pretrained_into_a_folder_that_is_not_replaced_unasked(here: Path) -> None:
    tiny = ["pretrain", "--laws", 4, "--epochs", 1, "--width", 8, "--work", here / "work"]
    made = json.loads(ok(*tiny, "-o", "prior", "--json").stdout)
    assert made["settings"]["laws"] == 4
    assert {path.name for path in Path("prior").iterdir()} == {
        "weights.safetensors", "record.json"
    }  # fmt: skip
    assert json.loads(Path("prior/record.json").read_text())["sha256"] == made["sha256"]
    assert "already exists" in refused(*tiny, "-o", "prior")


def test_the_prior_is_exported_for_the_columns_of_a_table(simulated: Path, here: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="needs the optional extra onnx")
    config = simulated / "causalmmm.yml"
    settings = yaml.safe_load(config.read_text())["data"]
    table = (simulated / Path(settings["path"]).name).resolve()
    one = ["export", table, "-c", config, "-o", "prior.onnx", "-q"]
    ok(*one)
    about = json.loads(onnx.load("prior.onnx").metadata_props[0].value)
    assert about["nodes"][-1] == "gmv"
    assert len(about["before"]) == len(about["nodes"]) == 4
    assert "belong to a fitted model" in refused(*one, "--force", "--check")


def test_graphs_of_all_stores_fill_a_table_or_a_folder(fitted_folder: Path, here: Path) -> None:
    every = ["graph", fitted_folder, "--threshold", 0, "-q"]
    ok(*every, "-o", "all.csv")
    assert len(pd.read_csv("all.csv")) == 4 * 12
    assert len(json.loads(ok(*every, "--json").stdout)) == 4
    ok(*every, "--format", "dot", "-o", "graphs")
    assert len(list(Path("graphs").iterdir())) == 4
    assert "need an output folder" in refused(*every, "--format", "graphml")
    told = refused(*every, "--store", "s9")
    assert "no store 's9'" in told
    assert "Stores of the panel: " in told


def test_store_names_cannot_leave_the_folder(fitted: Fitted, here: Path) -> None:
    frame = fitted.panel.to_frame()
    names = {str(s): f"../{s}/x" for s in fitted.panel.stores}
    frame["shop_id"] = frame["shop_id"].map(names)
    frame.to_csv("data.csv", index=False)
    fitted.model.save(here / "m")
    ok("graph", "m", "--data", "data.csv", "--format", "dot", "-o", "graphs")
    assert len(list((here / "graphs").iterdir())) == 12
    assert {p.name for p in here.iterdir()} == {"data.csv", "m", "graphs"}


def test_evaluate_shows_or_writes_metrics(
    fitted_folder: Path, simulated: Path, tmp_path: Path
) -> None:
    ask = ["evaluate", fitted_folder, "--horizon", 10, "--truth", simulated / "truth"]
    shown = ok(*ask).stdout
    for words in ("structure", "auroc", "seasonal naive", "wape", "coverage_80"):
        assert words in shown
    ok(*ask, "-o", tmp_path / "metrics.csv")
    metrics = pd.read_csv(tmp_path / "metrics.csv")
    assert set(metrics["test"]) == {"structure", "holdout"}
    assert json.loads(ok(*ask, "--tests", "cv", "--origins", 1, "--json").stdout)
    assert "Did you mean 'holdout'" in refused(*ask, "--tests", "hold-out")
    assert "contains no truth.json" in refused(*ask[:-1], tmp_path)


def test_evaluate_warns_when_nothing_was_held_out(simulated: Path, fitted_folder: Path) -> None:
    said = ok("evaluate", fitted_folder, "--horizon", 12).stderr
    assert "fitted on steps until" in said
    assert "fitted on steps until" not in ok("evaluate", fitted_folder, "--horizon", 10).stderr


def test_a_model_that_lost_its_data_asks_for_them(
    fitted_folder: Path, simulated: Path, tmp_path: Path
) -> None:
    assert str(simulated.parent) not in (fitted_folder / "model.json").read_text()
    shutil.copytree(fitted_folder, tmp_path / "m")  # the path is relative to the model
    said = refused("graph", tmp_path / "m")
    assert "moved or no longer exist; pass --data" in said
    ok("graph", tmp_path / "m", "--data", simulated / "panel.csv")
    assert "no directory" in refused("graph", tmp_path / "nothing")


def test_a_model_and_its_data_may_move_together_and_a_change_of_the_data_is_told(
    fitted_folder: Path, simulated: Path, tmp_path: Path
) -> None:
    shutil.copytree(fitted_folder, tmp_path / "runs" / "a")
    shutil.copytree(simulated, tmp_path / "sim")
    data = tmp_path / "sim" / "panel.csv"
    assert "changed" not in ok("graph", tmp_path / "runs" / "a").stderr
    text = data.read_text()
    first = text.splitlines()[1]
    data.write_text(text.replace(first, first.rpartition(",")[0] + ",1.5"))
    said = ok("graph", tmp_path / "runs" / "a").stderr
    assert "have changed since (other values in the same rows)" in said
    frame = pd.read_csv(StringIO(text))
    frame[frame.iloc[:, 0] != frame.iloc[0, 0]].to_csv(data, index=False)
    said = ok("graph", tmp_path / "runs" / "a").stderr
    assert "have changed since (stores 4 then, 3 now; rows 160 then, 120 now)" in said


def test_info_describes_a_model_and_the_installation(fitted_folder: Path) -> None:
    facts: dict[str, Any] = json.loads(ok("info", fitted_folder, "--json").stdout)
    assert facts["series"] == {"x0": "channel", "x1": "channel", "pv": "mediator", "gmv": "target"}
    assert facts["epochs"] == 2
    assert "gmv: target" in ok("info", fitted_folder).stdout
    installed = json.loads(ok("info", "--json").stdout)
    assert installed["torch"]
    assert "compiled module" in installed
    assert "no model directory" in refused("info", fitted_folder.parent)


def test_the_demo_leaves_pictures_tables_and_metrics(here: Path) -> None:
    done = ok("demo", "-o", "demo", "--stores", 3, "--epochs", 1, "--device", "cpu")
    assert {p.name for p in Path("demo").iterdir()} == {
        "graph.png", "forecast.png", "graphs.csv", "forecast.csv", "metrics.json", "model",
    }  # fmt: skip
    assert [p.name for p in here.iterdir()] == ["demo"]
    metrics = json.loads(Path("demo/metrics.json").read_text())
    wape = metrics["holdout"]["gmv"]["28"]["seasonal naive"]["wape"]
    assert f"seasonal naive {wape:.1%}" in done.stdout
    ok("demo", "-o", "demo", "--stores", 3, "--epochs", 1, "--device", "cpu", "-q")
    Path("demo/notes.txt").write_text("mine")
    assert "notes.txt" in refused("demo", "-o", "demo")


def test_the_package_names_what_users_need() -> None:
    for name in ("CausalMMM", "Panel", "Schema", "load", "simulate", "validate"):
        assert getattr(causalmmm, name)
    assert causalmmm.Schema is Schema


def test_contributions_and_curves_are_tables(fitted_folder: Path, here: Path) -> None:
    ok("decompose", fitted_folder, "--store", "s0000000", "-o", here / "parts.csv", "-q")
    parts = pd.read_csv(here / "parts.csv")
    assert set(parts["component"]) == {"baseline", "own past", "x0", "x1", "pv", "remainder"}
    ok("curves", fitted_folder, "--channel", "x0", "--points", 5, "-o", here / "x0.json", "-q")
    curves = pd.read_json(here / "x0.json")
    assert len(curves) == 4 * 5
    assert "no channel 'pv'" in refused("curves", fitted_folder, "--channel", "pv")


def test_names_that_a_spreadsheet_would_run_are_text_in_csv() -> None:
    names = ["=1+1", "@x", "+cmd|' /C'!A0", "-2", "-2+3", "A", "\tx", "+4.5"]
    frame = pd.DataFrame({"store": names, "mean": range(8)})
    lines = table_text(frame, "csv").splitlines()[1:]
    cells = [line.rpartition(",")[0].strip('"') for line in lines]
    assert cells == ["'=1+1", "'@x", "'+cmd|' /C'!A0", "-2", "'-2+3", "A", "'\tx", "+4.5"]
    assert "'=1" not in table_text(frame, "json")
