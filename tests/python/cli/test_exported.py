"""The command line asks an exported file as it asks a model directory, without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from command_line import ok, refused
from rounding import assert_same_table

if TYPE_CHECKING:
    from causalmmm import Panel

pytest.importorskip("onnx", reason="needs the optional extra onnx")
pytest.importorskip("onnxruntime", reason="needs the optional extra runtime")

WITHOUT_TORCH = """
import sys
from causalmmm.cli import app
app(sys.argv[1:], standalone_mode=False)
assert "torch" not in sys.modules
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A panel of weeks, its model and the file of it."""
    folder = tmp_path_factory.mktemp("exported-answers")
    ok("simulate", "--preset", "weekly-mmm", "--stores", 2, "--steps", 90, "--set", "channels=2",
       "-o", folder / "sim", "-q")  # fmt: skip
    ok("fit", "-c", folder / "sim" / "causalmmm.yml", "-o", folder / "run", "-q")
    ok("export", folder / "run", "-o", folder / "model.onnx", "-q")
    return folder


@pytest.mark.parametrize(
    "question",
    [("roi",), ("roi", "--total"), ("paths", "--store", "s0000001"), ("decompose",)],
    ids=" ".join,
)
def test_a_file_gives_the_tables_of_its_model(
    folder: Path, tmp_path: Path, question: tuple[str, ...]
) -> None:
    command, *options = question
    ok(command, folder / "run", *options, "-o", tmp_path / "model.csv", "-q")
    ok(command, folder / "model.onnx", "--data", folder / "sim" / "panel.csv", *options,
       "-o", tmp_path / "file.csv", "-q")  # fmt: skip
    ours, theirs = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("model", "file"))
    assert_same_table(ours, theirs)


def test_a_file_answers_where_torch_is_never_imported(folder: Path, tmp_path: Path) -> None:
    asked = ["roi", folder / "model.onnx", "--data", folder / "sim" / "panel.csv", "--total"]
    words = [*map(str, asked), "-o", str(tmp_path / "roi.csv"), "-q"]
    command = [sys.executable, "-P", "-W", "ignore", "-c", WITHOUT_TORCH, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(pd.read_csv(tmp_path / "roi.csv")) == 3


def test_what_a_file_lacks_is_said(folder: Path, tmp_path: Path) -> None:
    file, data = folder / "model.onnx", folder / "sim" / "panel.csv"
    assert "an exported file names no data: pass --data or -c" in refused("roi", file)
    assert "answers on the CPU, not on 'cuda'" in refused(
        "decompose", file, "--data", data, "--device", "cuda"
    )
    assert "a fitted model keeps its own" in refused(
        "roi", file, "--data", data, "--set", "model.draws=50"
    )
    assert "There is no file" in refused("paths", tmp_path / "gone.onnx", "--data", data)
    assert "is no ONNX model" in refused("roi", data, "--data", data)
    said = refused("optimize", file, "--data", data)
    assert "is a file, not a model directory" in said
    assert "an exported file answers 'roi', 'paths', 'decompose'" in said


def test_a_file_of_the_amortised_model_says_what_it_leaves_out(
    exported: Path, panel: Panel, tmp_path: Path
) -> None:
    data = tmp_path / "panel.csv"
    panel.to_frame().to_csv(data, index=False)
    for question in ("roi", "paths"):
        said = refused(question, exported, "--data", data)
        assert f"does not answer {question}: that needs joint draws of effects" in said
        assert "Fit with regime='regression'" in said
    ok("decompose", exported, "--data", data, "-o", tmp_path / "parts.csv", "-q")
    assert set(pd.read_csv(tmp_path / "parts.csv")["store"].astype(str)) == set(panel.stores)
