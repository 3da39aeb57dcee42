"""The fused operators' Triton kernels where there is no GPU: interpreted, and compiled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="needs the optional extra triton")
pytest.importorskip("causalmmm._C", reason="needs the compiled extension")

from bench.kernels.fused_compile import ARCHITECTURES, Launch, Sizes, compiled, launches

TESTS = Path(__file__).parent.parent
FILES = (
    *("engine/evidence/test_compiled.py", "engine/nn/test_compiled.py"),
    *("kernels/likelihood/test_likelihood.py", "kernels/response/test_delay.py"),
)
STACK_BYTES = 64  # what registers may be spilled, and outside of loops only


@pytest.mark.parametrize("name", FILES)
def test_kernels_agree_with_float64_in_the_interpreter(name: str) -> None:
    """Runs the operators' own tests, in a process in which nothing has imported Triton before."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(TESTS / name)]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout.splitlines()[-1]


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        yield


def cases() -> list[tuple[str, Launch]]:
    """Eight series on every architecture; of sixteen on the newest but one."""
    small = [(a, launch) for _, launch in launches(Sizes(8, 100)) for a in ARCHITECTURES]
    return small + [("sm_90", launch) for _, launch in launches(Sizes(16, 128))]


@pytest.mark.parametrize(
    ("architecture", "launch"),
    cases(),
    ids=lambda x: getattr(getattr(x, "kernel", x), "__name__", x),
)
def test_no_loop_of_a_kernel_spills_registers(architecture: str, launch: Launch) -> None:
    found = compiled(launch, architecture)
    assert found.spills_in_loops == 0
    assert found.stack <= STACK_BYTES
