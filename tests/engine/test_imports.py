"""The rooms of the engine import in one direction, and without torch where none is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import causalmmm.engine

ROOT = Path(causalmmm.engine.__file__).parent
# Each room may import itself and the rooms before it; training and predict not each other.
ROOMS = ("spec", "ops", "batches", "evidence", "prior", "nn", "training", "predict",
         "regression", "decisions", "export")  # fmt: skip


def imported(file: Path) -> set[str]:
    """Absolute names of what a file imports from ``causalmmm``."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    return {name for name in names if name.split(".")[0] == "causalmmm"}


def test_every_room_has_its_place() -> None:
    assert {path.parent.name for path in ROOT.glob("*/*.py")} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_what_lies_below_them(room: str) -> None:
    below = set(ROOMS[: ROOMS.index(room) + 1]) - ({"training"} if room == "predict" else set())
    files = list((ROOT / room).glob("*.py"))
    assert files
    for file in files:
        for name in imported(file):
            package, *rest = name.split(".")[1:]
            assert package in ("engine", "kernels"), f"{file.name} imports {name}"
            assert package == "kernels" or rest[0] in below, f"{file.name} imports {name}"


def test_settings_calendar_and_series_load_without_torch() -> None:
    program = "import sys\n" + "".join(
        f"import causalmmm.engine.spec.{name}\n" for name in ("calendar", "config", "series")
    )
    program += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
