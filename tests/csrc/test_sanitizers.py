"""The C++ core under AddressSanitizer and UndefinedBehaviorSanitizer, without Python around it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The portable and, inside the driver, the 16-wide vector code; that of AVX2 and AVX-512 differs
# from these in compiler flags alone.
SOURCES = [
    *(ROOT / "csrc" / f"{name}.cpp" for name in ("cpu_level", "response_cpu", "scalar_rows")),
    ROOT / "csrc" / "portable_rows.cpp",
    ROOT / "tests" / "csrc" / "driver.cpp",
]
FLAGS = [
    *("-std=c++17", "-O0", "-Wno-psabi", "-ffp-contract=fast", f"-I{ROOT / 'csrc'}"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
]


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not on the PATH")
def test_core_reads_and_writes_only_its_own_memory(tmp_path: Path) -> None:
    _run(["g++", *FLAGS, *map(str, SOURCES), "-o", str(tmp_path / "driver")])
    assert _run([str(tmp_path / "driver")]).strip() == "505 cases"


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout
