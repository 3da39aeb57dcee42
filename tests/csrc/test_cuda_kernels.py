"""The CUDA kernels without a GPU: what the compiler reports, and their arithmetic lane by lane.

What only a GPU can show is in tests/kernels/response/test_gpu.py.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"

pytestmark = pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not on the PATH")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """By architecture: the machine code as a file, and the compiler's report."""
    folder = tmp_path_factory.mktemp("cubin")
    # one process per architecture, side by side
    compilers = {
        arch: subprocess.Popen(
            [
                *("nvcc", "-std=c++17", "-O3", "-ftz=true", "-cubin", f"-arch={arch}"),
                *("-Xptxas", "-v", f"-I{CSRC}", "-o", str(folder / arch)),
                str(CSRC / "response" / "response_cuda.cu"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for arch in ("sm_80", "sm_90", "sm_100")
    }
    artefacts = {}
    for arch, compiler in compilers.items():
        report, _ = compiler.communicate(timeout=300)
        assert compiler.returncode == 0, report[-4000:]
        artefacts[arch] = str(folder / arch), report
    return artefacts


def test_no_kernel_uses_the_stack_or_spills_registers(built: dict[str, tuple[str, str]]) -> None:
    for arch, (_, report) in built.items():
        kernels = set(re.findall(r"Compiling entry function '(\S+)'", report))
        usage = re.findall(
            r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", report
        )
        assert len(kernels) == 14, arch
        assert usage == [("0", "0", "0")] * 14, f"{arch}\n{report}"


def test_no_kernel_holds_the_comparison_that_ptxas_misreads(
    built: dict[str, tuple[str, str]],
) -> None:
    """See `load` in response_warp.cuh."""
    triton = pytest.importorskip("triton", reason="its disassembler is needed")
    for arch, (code, _) in built.items():
        text = _run([triton.knobs.nvidia.nvdisasm.path, code])
        assert "SHFL" in text, arch
        assert "VIMNMX.RELU" not in text, arch


def test_kernels_run_lane_by_lane_agree_with_the_plain_loops(tmp_path: Path) -> None:
    sources = [
        ROOT / "tests" / "csrc" / "emulated_warp.cpp",
        CSRC / "common" / "cpu_level.cpp",
        *(CSRC / "response" / f"{name}.cpp" for name in ("response_cpu", "scalar_rows")),
        CSRC / "response" / "portable_rows.cpp",
    ]
    program = str(tmp_path / "emulated")
    flags = ("-x", "c++", "-std=c++17", "-O1", f"-I{CSRC}")
    _run(["nvcc", *flags, *map(str, sources), "-o", program])
    assert _run([program]).strip() == "272 cases"


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout
