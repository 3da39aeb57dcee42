"""``causalmmm report`` writes the page and its tables, and replaces nothing unasked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from causalmmm.cli import app

if TYPE_CHECKING:
    import pandas as pd

    from causalmmm import CausalMMM, Panel


@pytest.fixture(scope="module")
def folder(
    weekly: tuple[CausalMMM, Panel], planned: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    place = tmp_path_factory.mktemp("run")
    weekly[0].save(place / "m")
    weekly[1].to_frame().to_csv(place / "panel.csv", index=False)
    planned.to_csv(place / "plan.csv", index=False)
    return place


def test_a_page_and_its_tables_are_written_once(folder: Path) -> None:
    out = folder / "report.html"
    command = ["report", str(folder / "m"), "--data", str(folder / "panel.csv"), "-o", str(out)]
    command += ["--plan", str(folder / "plan.csv"), "--tables", str(folder / "tables"), "--json"]
    command += ["--title", "What moves us"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["stores"] == 3
    assert told["bytes"] == out.stat().st_size < 5e6
    assert "<h1>What moves us</h1>" in out.read_text(encoding="utf-8")
    assert (folder / "tables" / "budget.csv").is_file()
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 2
    assert "--force" in again.output


def test_a_page_is_not_written_under_the_name_of_another_format(folder: Path) -> None:
    done = CliRunner().invoke(app, ["report", str(folder / "m"), "-o", str(folder / "r.pdf")])
    assert done.exit_code == 2
    assert "name it .html" in " ".join(done.output.replace("│", " ").split())
    assert not (folder / "r.pdf").exists()


def test_a_missing_package_is_named_with_its_extra(folder: Path) -> None:
    code = (
        "import sys; sys.modules['plotly'] = None; from causalmmm.cli import main; "
        "sys.argv = ['causalmmm', 'report', 'm', '-o', 'r.html']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False, cwd=folder
    )
    assert done.returncode == 2
    assert "pip install 'causalmmm[report]'" in done.stderr
