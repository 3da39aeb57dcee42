"""Lists what `make gpu-check VENV=off` would miss with this interpreter; exits 1 if anything.

    python bench/kernels/gpu_needs.py

The standard library alone, so that it runs where nothing is installed.
"""

from __future__ import annotations

import shutil
import sys
from importlib.util import find_spec

PACKAGES = {  # module: what to install
    "torch": "torch (2.11 or later, built for CUDA)",
    "triton": "triton (3.6 or later)",
    "numpy": "numpy",
    "pip": "pip",
    "pybind11": "pybind11",
    "scikit_build_core": "scikit-build-core",
    "pytest": "pytest",
    "pytest_benchmark": "pytest-benchmark",
}
PROGRAMS = {
    "nvcc": "CUDA's compiler",
    "cmake": "3.24 or later",
    "ninja": "1.11 or later",
    "c++": "a C++ compiler of GCC 12 or later, or Clang",
}


def missing() -> list[str]:
    packages = [what for name, what in PACKAGES.items() if find_spec(name) is None]
    programs = [f"{name} ({what})" for name, what in PROGRAMS.items() if not shutil.which(name)]
    return [f"Python package {p}" for p in packages] + [f"program {p}" for p in programs]


if __name__ == "__main__":
    lines = missing()
    for line in lines:
        print(f"gpu-check: missing {line}")
    if not lines and find_spec("matplotlib") is None:
        print("gpu-check: without matplotlib no picture is drawn")
    sys.exit(bool(lines))
