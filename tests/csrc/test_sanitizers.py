"""The C++ core under AddressSanitizer and UndefinedBehaviorSanitizer, without Python around it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Driver -> the files of the core it runs, flags, what it prints. That is the portable and, inside
# the driver, the 16-wide vector code; that of AVX2 and AVX-512 differs in compiler flags alone.
CORES = {
    "driver": (
        [
            *("common/cpu_level", "response/response_cpu"),
            *("response/scalar_rows", "response/portable_rows"),
        ],
        [],
        "505 cases",
    ),
    "edge_driver": (
        ["common/cpu_level", "edge/edge_cpu", "edge/portable_edges"],
        ["-DCAUSALMMM_X86"],
        "144 cases",
    ),
    "evidence_driver": (
        ["common/cpu_level", "evidence/evidence_cpu", "evidence/portable_evidence"],
        ["-DCAUSALMMM_X86"],
        "24 cases",
    ),
    "likelihood_driver": (
        [
            *("common/cpu_level", "likelihood/likelihood_cpu"),
            *("likelihood/portable_likelihood", "response/delay_cpu"),
        ],
        ["-DCAUSALMMM_X86"],
        "12 cases",
    ),
    "calendar_driver": (
        ["common/cpu_level", "calendar/calendar_cpu", "calendar/portable_calendar"],
        ["-DCAUSALMMM_X86"],
        "27 cases",
    ),
    "posterior_driver": (
        ["common/cpu_level", "posterior/posterior_cpu", "posterior/portable_posterior"],
        ["-DCAUSALMMM_X86"],
        "8 cases",
    ),
}
FLAGS = [
    *("-std=c++17", "-O0", "-Wno-psabi", "-ffp-contract=fast", f"-I{ROOT / 'csrc'}"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
]


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not on the PATH")
@pytest.mark.parametrize("driver", CORES)
def test_core_reads_and_writes_only_its_own_memory(driver: str, tmp_path: Path) -> None:
    core, flags, expected = CORES[driver]
    sources = [*(ROOT / "csrc" / f"{name}.cpp" for name in core), ROOT / f"tests/csrc/{driver}.cpp"]
    _run(["g++", *FLAGS, *flags, *map(str, sources), "-o", str(tmp_path / driver)])
    assert _run([str(tmp_path / driver)]).strip() == expected


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout
