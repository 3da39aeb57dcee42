"""Tests of trust from the command line: a table, a picture, and an exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from command_line import call


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trust")
    for arguments in (
        ("simulate", "--preset", "weekly-mmm", "--stores", 2, "--steps", 80, "--set", "channels=2",
         "-o", folder / "sim", "-q"),
        ("fit", "-c", folder / "sim" / "causalmmm.yml", "-o", folder / "run", "-q"),
    ):  # fmt: skip
        done = call(*arguments)
        assert done.exit_code == 0, done.output
    return folder / "run"


def test_verdicts_are_shown_and_written(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "trust.csv"
    done = call("evaluate", run, "--tests", "cv,placebo", "--horizon", 39, "-o", out)
    assert done.exit_code == 0, done.output
    assert "1 test (placebo) needs 1 fit of 2 stores x 80 steps" in done.stderr
    table = pd.read_csv(out)
    assert table["test"].tolist() == ["cv", "placebo", "placebo"]
    assert table["passed"].tolist()[1:] == [True, True]
    done = call("evaluate", run, "--tests", "cv,refresh", "--horizon", 39, "--json", "-q")
    assert [row["test"] for row in json.loads(done.stdout)] == ["cv", "refresh", "refresh"]
    picture = tmp_path / "trust.svg"
    done = call("evaluate", run, "--tests", "refresh", "-o", picture, "-q")
    assert done.exit_code == 0, done.output
    assert "<svg" in picture.read_text()


def test_a_missed_threshold_is_exit_code_one(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("causalmmm.evaluation.trials.REFRESHED", -1.0)
    done = call("evaluate", run, "--tests", "refresh")
    assert done.exit_code == 1, done.output
    assert "<= -1" in done.stdout
    assert "NO" in done.stdout


def test_wrong_questions_are_refused(run: Path, tmp_path: Path) -> None:
    for arguments, words in (
        (("--tests", "placebo,structre"), "there is no test 'structre'"),
        (("--tests", "nonsense"), "with thresholds 'refresh', 'perturbation', 'placebo'"),
        (("--tests", "placebo", "--truth", tmp_path), "ask for it alone"),
        (("--tests", "placebo", "--format", "png"), "needs an output file"),
        (("--tests", "holdout", "-o", tmp_path / "a.png"), "unsupported format 'png'"),
    ):
        done = call("evaluate", run, *arguments)
        assert done.exit_code == 2, done.output
        assert words in " ".join(done.stderr.replace("│", " ").split())
