"""The offline tuner without a GPU: ranking by compiling, and the rewriting of the table."""

from __future__ import annotations

import pytest

pytest.importorskip("triton", reason="needs the optional extra triton")

from bench.kernels import edge_tune
from bench.kernels.edge_compile import Compiled

from causalmmm.kernels.edge.triton import tables
from causalmmm.kernels.edge.triton.tables import Launch

SOURCE = edge_tune.SOURCE.read_text(encoding="utf-8")


def rows_in(source: str) -> dict[tuple[str, str, int, int], Launch]:
    namespace: dict[str, object] = {"__name__": "causalmmm.kernels.edge.triton.tables"}
    exec(source, namespace)
    return {key: Launch(**vars(row)) for key, row in namespace["LAUNCHES"].items()}  # type: ignore[attr-defined]


def test_rewriting_rows_with_themselves_changes_nothing():
    assert edge_tune.rewrite(SOURCE, tables.LAUNCHES) == SOURCE


def test_a_row_is_replaced_or_added_and_all_else_stays():
    new = Launch(128, 8, stages=2, registers=200, stack=64, shared=99_328, microseconds=12.5)
    found = {("logits", "sm_90", 64, 2): new, ("logits", "sm_120", 64, 2): new}
    assert rows_in(edge_tune.rewrite(SOURCE, found)) == rows_in(SOURCE) | found


def test_a_source_without_the_table_is_refused():
    with pytest.raises(SystemExit, match="no table LAUNCHES"):
        edge_tune.rewrite("ROWS: Table = {}\n", {})


def test_tensor_cores_win_then_less_spilling_then_instructions_then_occupancy_then_what_is_there():
    launch = Launch(64, 4)

    def rank(registers, stack, shared, present=False, tensor=1, instructions=40.0):
        cost = Compiled(instructions, 2.0, registers, stack, shared, tensor)
        return edge_tune.rank(launch, cost, present)

    assert rank(255, 500, 100_000) < rank(64, 0, 10_000, tensor=0)
    assert rank(255, 0, 100_000) < rank(64, 32, 10_000)
    assert rank(255, 0, 100_000, instructions=30.0) < rank(64, 0, 10_000)
    assert rank(128, 0, 50_000, instructions=40.2) < rank(168, 0, 50_000)  # 16 warps, or 12
    assert rank(100, 0, 50_000) < rank(100, 0, 100_000)
    assert rank(100, 0, 50_000, present=True) < rank(100, 0, 50_000)


def test_a_row_is_ranked_by_compiling_and_written_with_its_measurements(tmp_path, monkeypatch):
    few = [Launch(64, 4), Launch(128, 4)]
    monkeypatch.setattr(edge_tune, "candidates", lambda *_: iter(few))
    copy = tmp_path / "tables.py"
    copy.write_text(SOURCE, encoding="utf-8")
    options = ["--compile-only", "--kernels", "inner", "--width", "32", "--bytes", "2"]
    edge_tune.main([*options, "--source", str(copy)])
    before, after = rows_in(SOURCE), rows_in(copy.read_text(encoding="utf-8"))
    row = after.pop(("inner", "sm_90", 32, 2))
    before.pop(("inner", "sm_90", 32, 2))
    assert after == before
    assert (row.rows, row.warps) in {(64, 4), (128, 4)}
    assert 16 <= row.registers <= 255
    assert 5 <= row.instructions <= 100
    assert 0 < row.shared <= tables.SHARED_BYTES
    assert row.microseconds is None


def test_timing_needs_a_gpu():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(SystemExit, match="no CUDA device"):
        edge_tune.main([])
