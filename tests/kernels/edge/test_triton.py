"""The Triton kernels of the edge operators where there is no GPU: in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="needs the optional extra triton")


def test_kernels_agree_with_float64_in_the_interpreter():
    """Runs `interpreted.py`, in a process in which nothing has imported Triton before."""
    tests = Path(__file__).with_name("interpreted.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_neither_import_nor_a_call_on_the_cpu_loads_the_triton_kernels():
    code = (
        "import sys, torch; from causalmmm.kernels import edge_mean\n"
        "assert 'triton' not in sys.modules  # torch itself may load it later, on the first call\n"
        "x = torch.zeros(1, 2, 4); edge_mean(x, x, torch.eye(4), torch.zeros(4))\n"
        "assert 'causalmmm.kernels.edge.triton.launch' not in sys.modules"
    )
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
