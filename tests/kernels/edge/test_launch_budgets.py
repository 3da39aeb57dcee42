"""Every row of the launch table compiles for sm_90 and keeps to its budget; nothing is executed."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("triton", reason="needs the optional extra triton")

from bench.kernels.edge_compile import KERNELS, compile_kernel, sound
from bench.kernels.edge_tune import TABLES

from causalmmm.kernels.edge.triton import tables

SLACK = 1.05  # between versions of Triton
# Of the kernels that share a row of LAYER, the heaviest is compiled for every row, the other heavy
# ones for every bfloat16 row, the light ones once.
SOME = {"outer backward", "layer backward, first"}
ONCE = {"state", "inner", "outer", "layer backward, inner", "layer backward, state"}
ROWS = [
    (name, width, size)
    for name, (table, *_) in KERNELS.items()
    for architecture, width, size in getattr(tables, table)
    if architecture == tables.MEASURED
    and ((width, size) == (64, 2) or not (name in ONCE or (name in SOME and size == 4)))
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


@pytest.mark.parametrize(("name", "width", "size"), ROWS)
def test_each_row_of_the_table_compiles_within_its_budget(name, width, size):
    launch = tables.find(getattr(tables, KERNELS[name][0]), width, size)
    compiled = compile_kernel(name, width, size, launch)
    assert compiled.shared <= min(launch.shared * SLACK, tables.SHARED_BYTES)
    assert compiled.registers <= launch.registers * SLACK
    assert compiled.spill <= launch.spill * SLACK
    if width >= 64:
        assert compiled.tensor_core_instructions > 0


@pytest.mark.parametrize("table", TABLES)
def test_no_row_is_one_that_triton_compiles_wrongly(table):
    rows = getattr(tables, table)
    assert all(sound(table, width, size, row) for (_, width, size), row in rows.items())


def test_a_row_is_found_for_its_own_architecture_then_for_the_measured_one_if_it_fits():
    own, lent = tables.Launch(128, 8, shared=90_000), tables.Launch(64, 4, shared=150_000)
    table = {("sm_80", 64, 2): own, ("sm_90", 64, 2): lent}
    assert tables.find(table, 64, 2, "sm_80", 166_912) is own
    assert tables.find(table, 64, 2, "sm_89", 101_376) is None
    assert tables.find(table, 64, 2, "sm_100") is lent
    assert tables.find(table, 32, 2) is None
