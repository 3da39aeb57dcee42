"""A command imports what it needs and no more: most of what it takes to answer is imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# Commands as a user runs them, the packages that none of them needs, and how many modules they
# import that torch and pandas do not.
COMMANDS = """
import sys
import pandas, torch
before = set(sys.modules)
from causalmmm.cli import app
run, panel, out = sys.argv[1:]
for command in ("graph", "predict", "decompose"):
    app([command, run, "--data", panel, "--out", out], standalone_mode=False)
heavy = {"torch._dynamo", "torch._inductor", "torch.onnx", "sympy", "onnx", "scipy", "sklearn"}
heavy |= {"matplotlib", "plotly", "holidays", "onnxruntime", "networkx"}
print(sorted(heavy & set(sys.modules)), len(set(sys.modules) - before), sep="; ")
"""
MOST_MODULES = 450  # some 400 today: 155 of causalmmm, the rest typer, rich, pydantic and narwhals


@pytest.mark.parametrize("words", [["--version"], ["fit", "--help"]], ids=" ".join)
def test_help_is_given_without_numpy(words: list[str]) -> None:
    code = "import sys; from causalmmm.cli import app; app({}, standalone_mode=False)\n" + (
        "print(sorted({{'numpy', 'pandas', 'torch'}} & set(sys.modules)))"
    )
    assert python(code.format(words)).splitlines()[-1] == "[]"


def test_commands_that_answer_import_no_compiler_of_torch_and_few_modules(
    fitted: Any, tmp_path: Path
) -> None:
    fitted.model.save(tmp_path / "run")
    fitted.panel.to_frame().to_csv(tmp_path / "panel.csv", index=False)
    files = (str(tmp_path / name) for name in ("run", "panel.csv", "answer.csv"))
    heavy, modules = python(COMMANDS, *files).splitlines()[-1].split("; ")
    assert heavy == "[]"
    assert int(modules) <= MOST_MODULES


def python(code: str, *arguments: str) -> str:
    command = [sys.executable, "-P", "-W", "ignore", "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
