"""The wheel with [runtime] alone, in an environment of its own that has no torch: see `make
runtime-check`, which builds one and the other."""

from __future__ import annotations

import json
import os
import subprocess
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from causalmmm import Panel
from causalmmm.runtime import OnnxModel
from causalmmm.scoring import answer_schema

PYTHON = Path(os.environ.get("CAUSALMMM_RUNTIME_PYTHON", ""))
pytestmark = pytest.mark.skipif(
    not PYTHON.is_file(), reason="needs an installation without torch: make runtime-check"
)


def run(code: str, *arguments: object) -> str:
    command = [PYTHON, "-P", "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    line = [PYTHON.with_name("causalmmm"), *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_nothing_heavy_is_installed() -> None:
    code = """
from importlib.metadata import distributions
print(*sorted(found.name.lower() for found in distributions()))
"""
    found = set(run(code).split())
    assert {"causalmmm", "onnxruntime", "pyarrow"} <= found
    heavy = {"torch", "triton", "safetensors", "scipy", "onnx", "matplotlib"}
    assert not found & heavy


def test_an_exported_file_answers_as_here(exported: Path, panel: Panel, tmp_path: Path) -> None:
    panel.to_frame().to_csv(tmp_path / "panel.csv", index=False)
    code = """
import sys
from causalmmm.runtime import OnnxModel
model = OnnxModel(sys.argv[1])
print(getattr(model, sys.argv[3])(sys.argv[2]).to_csv(index=False))
"""
    model = OnnxModel(exported)
    for question in ("graphs", "predict"):
        text = run(code, exported, tmp_path / "panel.csv", question)
        found = pd.read_csv(StringIO(text), dtype={"store": str})
        expected = getattr(model, question)(panel)
        assert list(found) == list(expected)
        for name, values in expected.items():
            if values.dtype.kind == "f":
                np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-5)
            else:
                assert (found[name] == values.astype(str)).all()


def test_a_parquet_data_set_is_scored(exported: Path, panel: Panel, tmp_path: Path) -> None:
    for part, stores in enumerate(np.array_split(panel.stores, 3)):
        folder = tmp_path / "panel" / f"region={part}"
        folder.mkdir(parents=True)
        panel.to_frame(stores.tolist()).to_parquet(folder / "part-0.parquet", index=False)
    done = command(
        *("score", exported, "--input", tmp_path / "panel", "--output", tmp_path / "scores"),
        *("--workers", 2, "--json"),
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["partitions"] == 3
    found = pq.read_table(tmp_path / "scores")
    assert set(found.column_names) >= set(answer_schema("forecasts").names)
    assert found.num_rows == len(OnnxModel(exported).predict(panel))


def test_data_are_described_and_checked(panel: Panel, tmp_path: Path) -> None:
    panel.to_frame().to_csv(tmp_path / "panel.csv", index=False)
    assert command("init", tmp_path / "panel.csv", "-o", tmp_path / "mmm.yml").returncode == 0
    assert command("validate", "-c", tmp_path / "mmm.yml").returncode == 0


@pytest.mark.parametrize(
    ("line", "extra"), [("fit panel.csv -o model", "torch"), ("serve model.onnx", "serve")]
)
def test_the_rest_says_what_to_install(line: str, extra: str) -> None:
    done = command(*line.split())
    assert done.returncode == 2
    assert done.stderr.startswith("refused: ")
    assert done.stderr.rstrip().endswith(f"pip install 'causalmmm[{extra}]'")
    assert len(done.stderr.splitlines()) == 1
