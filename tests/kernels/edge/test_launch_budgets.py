"""Rows of the launch table compile for GPUs that need not be there, and keep to their budgets."""

from __future__ import annotations

from itertools import product

import pytest

pytest.importorskip("triton", reason="needs the optional extra triton")

from bench.kernels.edge_compile import (
    ARCHITECTURES,
    FUSED,
    KERNELS,
    compile_kernel,
    exceeded,
    modelled,
    sound,
)

from causalmmm.kernels.edge.triton import tables
from causalmmm.kernels.edge.triton.gradients import best_group

# Each takes seconds to compile, so these are samples: the fused kernels of the usual widths on
# every architecture, the widest ones and a few of one layer on one. `make triton-check` has all.
FUSED_KERNELS = [name for names in FUSED.values() for name in names]
ROWS = [(name, architecture, 64) for name in FUSED_KERNELS for architecture in ARCHITECTURES]
ROWS += [(name, tables.MEASURED, 32) for name in FUSED_KERNELS]
ROWS += [(name, tables.MEASURED, 128) for name in FUSED_KERNELS if "backward" not in name]
ROWS += [(name, tables.MEASURED, 256) for name in ("inner", "weight")]


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        yield


@pytest.mark.parametrize(("name", "architecture", "width"), ROWS)
def test_each_row_of_the_table_compiles_within_its_budget(name, architecture, width):
    launch = tables.LAUNCHES[name, architecture, width, 2]
    compiled = compile_kernel(name, width, 2, launch, architecture)
    assert not exceeded(launch, compiled)
    assert compiled.tensor > 0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_forward_kernels_of_the_usual_widths_spill_nothing(architecture):
    for name, width in product(FUSED["forward"], (32, 64)):
        assert tables.LAUNCHES[name, architecture, width, 2].stack == 0


def test_no_row_is_one_that_triton_compiles_wrongly():
    rows = tables.LAUNCHES.items()
    assert all(sound(name, width, size, row) for (name, _, width, size), row in rows)


def test_a_row_is_found_for_its_own_architecture_then_for_the_measured_one_if_it_fits(monkeypatch):
    own, lent = tables.Launch(128, 8, shared=90_000), tables.Launch(64, 4, shared=150_000)
    rows = {("mean", "sm_80", 64, 2): own, ("mean", "sm_90", 64, 2): lent}
    monkeypatch.setattr(tables, "LAUNCHES", rows)
    assert tables.find("mean", 64, 2, "sm_80", 166_912) is own
    assert tables.find("mean", 64, 2, "sm_89", 101_376) is None
    assert tables.find("mean", 64, 2, "sm_100") is lent
    monkeypatch.setitem(rows, ("mean", "sm_100", 32, 2), own)
    assert tables.find("mean", 64, 2, "sm_100") is None
    assert tables.find("mean", 32, 2) is None


def test_fewer_instructions_products_and_bytes_are_modelled_as_less_time():
    launch = tables.LAUNCHES["first backward", "sm_90", 64, 2]
    compiled = compile_kernel("first backward", 64, 2, launch)
    kernel = KERNELS["first backward"]
    now = modelled(kernel, 64, compiled)
    assert now > modelled(kernel, 64, compiled._replace(instructions=1.0))
    assert now < modelled(KERNELS["second backward"], 64, compiled)


@pytest.mark.parametrize("rows", [64, 128])
@pytest.mark.parametrize("nodes", range(2, 65))
def test_a_group_holds_whole_stores_and_fills_its_tiles(nodes, rows):
    padded, stores = best_group(nodes, rows)
    assert nodes <= stores * nodes <= padded <= tables.MAX_GROUP_NODES
    edges = stores * nodes**2
    assert edges / (-(-edges // rows) * rows) > 0.5
