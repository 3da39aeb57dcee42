"""A command imports what it needs and no more: most of what it takes to answer is imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# Answers of a saved model, and the packages that none of them needs.
QUESTION = """
import sys
from causalmmm import CausalMMM, Panel
model = CausalMMM.load(sys.argv[1])
panel = Panel.read(sys.argv[2], model.schema_)
model.predict(panel), model.graphs(panel), model.decompose(panel)
heavy = {"torch._dynamo", "torch._inductor", "torch.onnx", "sympy", "onnx", "scipy", "sklearn"}
print(sorted(heavy & set(sys.modules)))
"""


@pytest.mark.parametrize("words", [["--version"], ["fit", "--help"]], ids=" ".join)
def test_help_is_given_without_numpy(words: list[str]) -> None:
    code = "import sys; from causalmmm.cli import app; app({}, standalone_mode=False)\n" + (
        "print(sorted({{'numpy', 'pandas', 'torch'}} & set(sys.modules)))"
    )
    assert python(code.format(words)).splitlines()[-1] == "[]"


def test_a_saved_model_answers_without_the_compiler_of_torch(fitted: Any, tmp_path: Path) -> None:
    fitted.model.save(tmp_path / "run")
    fitted.panel.to_frame().to_csv(tmp_path / "panel.csv", index=False)
    answer = python(QUESTION, str(tmp_path / "run"), str(tmp_path / "panel.csv"))
    assert answer.splitlines()[-1] == "[]"


def python(code: str, *arguments: str) -> str:
    command = [sys.executable, "-P", "-W", "ignore", "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
