"""Coverage is counted by the rooms of the source tree, from what coverage.py wrote."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from bench.system.coverage import main, room_of, rooms


@pytest.mark.parametrize(
    ("path", "room"),
    [
        ("/x/python/causalmmm/data/plan.py", "python/causalmmm/data"),
        ("/x/python/causalmmm/files.py", "python/causalmmm"),
        ("/x/engine/nn/model.py", "engine/nn"),
        ("/x/kernels/memory.py", "kernels"),
        ("/venv/lib/site-packages/causalmmm/engine/nn/model.py", "engine/nn"),
        ("/venv/lib/site-packages/causalmmm/cli/common.py", "python/causalmmm/cli"),
        ("/home/causalmmm/checkout/python/causalmmm/dates.py", "python/causalmmm"),
    ],
)
def test_a_file_belongs_to_its_folder_in_the_source_tree(path: str, room: str) -> None:
    assert room_of(path) == room


def test_rooms_sum_their_files_and_all_of_them() -> None:
    files = [("/x/engine/nn/a.py", 10, 5), ("/x/engine/nn/b.py", 30, 30), ("/x/kernels/c.py", 0, 0)]
    assert rooms(files) == [
        {"room": "engine/nn", "lines": 40, "run": 35, "percent": 87.5},
        {"room": "kernels", "lines": 0, "run": 0, "percent": 0.0},
        {"room": "all", "lines": 40, "run": 35, "percent": 87.5},
    ]


def test_what_coverage_wrote_is_read(tmp_path: Path) -> None:
    source = tmp_path / "engine" / "nn" / "half.py"
    source.parent.mkdir(parents=True)
    source.write_text(
        "def f(x):\n    if x:\n        return 1\n    return 2\n\n\nanswer = f(True)\n"
    )
    measure = ["-m", "coverage", "run", f"--data-file={tmp_path / 'data'}", str(source)]
    subprocess.run([sys.executable, *measure], check=True, cwd=tmp_path)
    found = {"room": "engine/nn", "lines": 5, "run": 4, "percent": 80.0}
    assert main([str(tmp_path / "data")])[0] == found
