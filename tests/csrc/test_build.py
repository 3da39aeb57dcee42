"""What the compiled module reports about itself is true."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

_C = pytest.importorskip(
    "causalmmm._C", reason="the extension is not built (source tree without `pip install`)"
)


def test_version_of_the_module_is_that_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert _C.build_info()["version"] == project["project"]["version"]


def test_cpu_level_is_one_that_the_processor_has() -> None:
    level = _C.build_info()["cpu_level"]
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    if {"avx2", "fma", "avx512f", "avx512dq", "avx512bw", "avx512vl"} <= flags:
        assert level == "avx512"
    elif {"avx2", "fma"} <= flags:
        assert level == "avx2"
    else:
        assert level == "portable"
