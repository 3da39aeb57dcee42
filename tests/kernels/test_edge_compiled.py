"""Every row of the launch table compiles for sm_90 and keeps to its budget; nothing is executed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

triton = pytest.importorskip("triton", reason="needs the optional extra triton")

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.backends.nvidia.compiler import get_ptxas  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from causalmmm.kernels.edge import configs  # noqa: E402
from causalmmm.kernels.edge import triton_kernels as device  # noqa: E402

SLACK = 1.05  # between versions of Triton
SHARED_BYTES = 232_448  # what one block of an H100 or H200 may have
FEATURES = {"F": 8, "FP": 16}
TYPES = {"K": 2, "KP": 2}
DRAW = {"NOISE": True, "HARD": False}
FORWARD, BACKWARD = {"BACKWARD": False}, {"BACKWARD": True}

# name -> table, kernel, compile-time arguments
KERNELS = {
    "mean": (configs.MEAN, device.edge_mean_fwd_kernel, FEATURES),
    "sample": (configs.SAMPLE, device.edge_sample_fwd_kernel, {**FEATURES, **TYPES, **DRAW}),
    "state": (configs.LAYER, device.edge_state_kernel, {**FEATURES, **FORWARD}),
    "state backward": (configs.LAYER, device.edge_state_kernel, {**FEATURES, **BACKWARD}),
    "inner": (configs.LAYER, device.edge_inner_kernel, {}),
    "outer": (configs.LAYER, device.edge_outer_kernel, {**TYPES, **DRAW, **FORWARD}),
    "outer backward": (
        configs.LAYER,
        device.edge_outer_kernel,
        {**TYPES, **BACKWARD, "NOISE": False, "HARD": False},
    ),
    "stage inner": (configs.LAYER, device.edge_stage_kernel, {**FEATURES, "KIND": "inner"}),
    "stage state": (configs.LAYER, device.edge_stage_kernel, {**FEATURES, "KIND": "state"}),
    "stage first": (configs.LAYER, device.edge_stage_kernel, {**FEATURES, "KIND": "first"}),
    "weight": (configs.WEIGHT, device.weight_grad_kernel, {}),
}
# Of the kernels that share a row of LAYER, the heaviest is compiled for every row, the other heavy
# ones for every bfloat16 row, the light ones once.
SOME = {"outer backward", "stage first"}
ONCE = {"state", "inner", "outer", "stage inner", "stage state"}
ROWS = [
    (name, *row)
    for name, (table, *_) in KERNELS.items()
    for row in table
    if row == (64, 2) or not (name in ONCE or (name in SOME and row[1] == 4))
]

ALWAYS_FLOAT = {"p_prior", "p_temperature", "p_z", "p_logits", "p_kl", "p_mean", "p_rstd"}
ALWAYS_FLOAT |= {"p_weight", "p_bias"}


class Compiled(NamedTuple):
    registers: int
    spill: int
    shared: int
    tensor_core_instructions: int


def compile_row(name: str, width: int, size: int) -> Compiled:
    table, kernel, options = KERNELS[name]
    launch = table[width, size]
    fixed = {**options, "H": width, "BM": launch.rows, "EMULATE": False}
    fixed["PRECISION"] = "tf32x3" if size == 4 else "ieee"
    if name == "weight":
        block = min(width, configs.WEIGHT_BLOCK)
        fixed.update(G=width, BH=block, BG=block)
    number = {2: "*bf16", 4: "*fp32"}[size]
    floats = set(ALWAYS_FLOAT)
    if name.startswith("outer"):
        floats |= {"p_above"} if fixed["BACKWARD"] else {"p_first", "p_second"}
    types = {"p_seed": "*i64", "p_store": "*i64", **dict.fromkeys(floats, "*fp32")}
    signature, constants, aligned = {}, {}, {}
    for index, argument in enumerate(kernel.arg_names):
        if argument in fixed:
            signature[argument], constants[(index,)] = "constexpr", fixed[argument]
        elif argument.startswith("p_"):
            signature[argument] = types.get(argument, number)
            aligned[(index,)] = [["tt.divisibility", 16]]
        else:
            signature[argument] = "i32"
    compiled = triton.compile(
        ASTSource(kernel, signature, constants, aligned),
        target=GPUTarget("cuda", 90, 32),
        options={"num_warps": launch.warps, "num_stages": launch.stages},
    )
    ptx = compiled.asm["ptx"]
    return Compiled(*resources(ptx), compiled.metadata.shared, ptx.count("wgmma.mma_async"))


def resources(ptx: str) -> tuple[int, int]:
    """Registers a thread and bytes spilled, as ptxas reports them."""
    command = [get_ptxas(90).path, "-v", "--gpu-name=sm_90a", "-o", "/dev/null", "/dev/stdin"]
    report = subprocess.run(command, input=ptx, capture_output=True, text=True, check=True).stderr
    registers = re.search(r"Used (\d+) registers", report)
    spill = re.search(r"(\d+) bytes spill stores", report)
    assert registers, report
    assert spill, report
    return int(registers[1]), int(spill[1])


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


@pytest.mark.parametrize(("name", "width", "size"), ROWS)
def test_each_row_of_the_table_compiles_within_its_budget(name, width, size):
    launch = KERNELS[name][0][width, size]
    found = compile_row(name, width, size)
    assert found.shared <= SHARED_BYTES
    assert found.registers <= launch.registers * SLACK
    assert found.spill <= launch.spill * SLACK
    if width >= 64:
        assert found.tensor_core_instructions > 0
