"""The benchmark scripts of the edge operators run, and record what they say they do."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest
from bench.kernels import edge_roofline, edge_sweep
from bench.kernels.edge_sweep import NAMES, PASSES, main

SMALL = ["--device", "cpu", "--nodes", "3", "--width", "32", "--stores", "2", "4"]


def recorded(folder: Path) -> list[dict[str, str]]:
    with (folder / "edge_sweep_cpu.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_sweep_records_every_cell_and_draws_it(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="needs the optional extra plot")
    monkeypatch.setattr(edge_sweep, "SECONDS_A_CELL", 0.0)  # the fewest rounds
    main([*SMALL, "--out", str(tmp_path)])
    rows = recorded(tmp_path)
    assert len(rows) == 2 * len(NAMES) * len(PASSES)
    for row in rows:
        assert float(row["milliseconds"]) > 0
        assert float(row["floor_milliseconds"]) > 0
        assert bool(row["share_of_floor"]) == (row["formulation"] == "operators")
    assert (tmp_path / "edge_sweep_cpu.png").stat().st_size > 10_000


def test_what_the_sweep_does_not_reach_in_time_is_recorded_as_such(tmp_path):
    pytest.importorskip("matplotlib", reason="needs the optional extra plot")
    main([*SMALL, "--minutes", "0", "--out", str(tmp_path)])
    assert {row["note"] for row in recorded(tmp_path)} == {"not reached within the time limit"}


def test_the_floor_is_the_time_of_the_scarcest_resource():
    device = edge_roofline.Device(tensor=1e6, memory=1e3, exponentials=1e9, instructions=1e9)
    work = edge_roofline.Work(flop=2e6, bytes=1e3, exponentials=1e9, instructions=5e8)
    assert work.floor(device) == 2.0


def test_what_the_gpu_check_needs_is_named_where_it_is_missing():
    script = Path(__file__).parents[3] / "bench" / "kernels" / "gpu_needs.py"
    bare = [sys.executable, "-S", str(script)]  # without the installed packages
    done = subprocess.run(bare, capture_output=True, text=True, env={"PATH": ""}, check=False)
    assert done.returncode == 1
    for what in ("Python package torch", "Python package pybind11", "program nvcc"):
        assert what in done.stdout
    if all(map(util.find_spec, ("triton", "scikit_build_core"))) and shutil.which("nvcc"):
        found = subprocess.run([sys.executable, str(script)], capture_output=True, check=False)
        assert b"nvcc" not in found.stdout
