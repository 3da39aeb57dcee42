"""What works where an optional package is missing, and what is said where it does not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from malformed import good

WITHOUT = """
import json, sys
for package in sys.argv[1].split():
    sys.modules[package] = None
from typer.testing import CliRunner
from causalmmm.cli import app
done = [CliRunner().invoke(app, command.split()) for command in sys.argv[2:]]
print(json.dumps([[run.exit_code, run.output] for run in done]))
"""


def without(packages: str, *commands: str, folder: Path) -> list[tuple[int, str]]:
    """Exit code and output of commands where some packages cannot be imported."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", WITHOUT, packages, *commands],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
    )
    return [(code, " ".join(said.split())) for code, said in json.loads(done.stdout)]


def test_data_are_drawn_described_and_checked_without_torch(tmp_path: Path) -> None:
    good().to_csv(tmp_path / "sales.csv", index=False)
    codes = [
        code
        for code, _ in without(
            "torch triton safetensors",
            "simulate --preset paper-small --stores 3 --steps 40 -o shops",
            "init sales.csv -o mmm.yml",
            "validate -c mmm.yml --set model.epochs=3",
            "validate -c mmm.yml --set model.structure=auto",
            "validate -c mmm.yml --set model.structure=guess",
            "validate -c mmm.yml --set model.epochs=many",
            "info --json",
            folder=tmp_path,
        )
    ]
    assert codes == [0, 0, 0, 0, 1, 1, 0]


def test_every_command_that_needs_torch_says_how_to_install_it(tmp_path: Path, fitted: Any) -> None:
    good().to_csv(tmp_path / "sales.csv", index=False)
    fitted.model.save(tmp_path / "m")
    commands = [f"{name} m" for name in ("predict", "graph", "decompose", "curves", "evaluate")]
    commands += [
        "fit sales.csv -o new",
        "fit sales.csv -o new --device cuda",
        "demo -o d",
        "export m -o f",
    ]
    for command, (code, said) in zip(
        commands, without("torch", *commands, folder=tmp_path), strict=True
    ):
        assert code == 2, command
        assert said.startswith("refused: ")
        assert said.endswith("needs the package torch: pip install 'causalmmm[torch]'"), command
    assert {path.name for path in tmp_path.iterdir()} == {"sales.csv", "m"}


@pytest.mark.parametrize(
    ("missing", "code", "extra"),
    [
        ("torch", "from causalmmm import CausalMMM", "torch"),
        ("torch", "import causalmmm; causalmmm.load('model')", "torch"),
        ("onnxruntime", "from causalmmm.runtime import OnnxModel", "runtime"),
    ],
)
def test_what_needs_a_missing_package_names_the_extra(missing: str, code: str, extra: str) -> None:
    blocked = f"import sys; sys.modules[{missing!r}] = None; import causalmmm; {code}"
    done = subprocess.run(
        [sys.executable, "-P", "-c", blocked], capture_output=True, text=True, check=False
    )
    said = f"needs the package {missing}: pip install 'causalmmm[{extra}]'"
    assert done.stderr.splitlines()[-1].endswith(said), done.stderr
