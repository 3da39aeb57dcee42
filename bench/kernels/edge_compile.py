"""What the Triton kernels of the edge operators become on a GPU that need not be there.

Compiles a row of the launch table ahead of time and reads what ptxas and Triton report. Nothing is
executed. The tests hold every row to its budget with this, the tuner ranks candidates.
"""

from __future__ import annotations

import re
import subprocess
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource

from causalmmm.kernels.edge.triton import fwd_kernels, layer_kernels, tables

FEATURES = {"F": 8, "FP": 16}
TYPES = {"K": 2, "KP": 2}
DRAW = {"NOISE": True, "HARD": False}
FORWARD, BACKWARD = {"BACKWARD": False}, {"BACKWARD": True}

# name -> table, kernel, compile-time arguments
KERNELS: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "mean": ("MEAN", fwd_kernels.edge_mean_fwd_kernel, FEATURES),
    "sample": ("SAMPLE", fwd_kernels.edge_sample_fwd_kernel, {**FEATURES, **TYPES, **DRAW}),
    "state": ("LAYER", layer_kernels.edge_state_kernel, {**FEATURES, **FORWARD}),
    "state backward": ("LAYER", layer_kernels.edge_state_kernel, {**FEATURES, **BACKWARD}),
    "inner": ("LAYER", layer_kernels.edge_inner_fwd_kernel, {}),
    "outer": ("LAYER", layer_kernels.edge_outer_kernel, {**TYPES, **DRAW, **FORWARD}),
    "outer backward": (
        "LAYER",
        layer_kernels.edge_outer_kernel,
        {**TYPES, **BACKWARD, "NOISE": False, "HARD": False},
    ),
    "layer backward, inner": (
        "LAYER",
        layer_kernels.edge_layer_bwd_kernel,
        {**FEATURES, "KIND": "inner"},
    ),
    "layer backward, state": (
        "LAYER",
        layer_kernels.edge_layer_bwd_kernel,
        {**FEATURES, "KIND": "state"},
    ),
    "layer backward, first": (
        "LAYER",
        layer_kernels.edge_layer_bwd_kernel,
        {**FEATURES, "KIND": "first"},
    ),
    "weight": ("WEIGHT", layer_kernels.edge_weight_bwd_kernel, {}),
}

ALWAYS_FLOAT = {"p_prior", "p_temperature", "p_z", "p_logits", "p_kl", "p_mean", "p_rstd"}
ALWAYS_FLOAT |= {"p_weight_sums", "p_bias_sums"}


def sound(table: str, width: int, size: int, launch: tables.Launch) -> bool:
    """Whether Triton compiles products of this launch rightly. With numbers of four bytes and eight
    warps on 64 rows it does not (3.6, sm_90): relative errors of 2e-4 instead of 1e-6, at times a
    read outside the tensors."""
    rows = min(tables.WEIGHT_BLOCK, width) if table == "WEIGHT" else launch.rows
    return size < 4 or launch.warps < 8 or rows > 64


class Compiled(NamedTuple):
    registers: int
    spill: int
    shared: int
    tensor_core_instructions: int


def compile_kernel(
    name: str, width: int, size: int, launch: tables.Launch, architecture: str = tables.MEASURED
) -> Compiled:
    """One kernel of `KERNELS`, for numbers of `size` bytes."""
    table, kernel, options = KERNELS[name]
    capability = int(architecture.removeprefix("sm_"))
    fixed = {**options, "H": width, "BM": launch.rows, "EMULATE": False}
    if table == "LAYER":
        fixed["BK"] = launch.depth or width
    fixed["PRECISION"] = "tf32x3" if size == 4 else "ieee"
    if name == "weight":
        block = min(width, tables.WEIGHT_BLOCK)
        fixed.update(G=width, BH=block, BG=block)
    number = {2: "*bf16", 4: "*fp32"}[size]
    floats = set(ALWAYS_FLOAT)
    if name.startswith("outer"):
        forward_outputs = {"p_z_or_grad", "p_logits_or_state"}
        floats |= {"p_grad_out"} if fixed["BACKWARD"] else forward_outputs
    types = {"p_seed": "*i64", "p_shop_id": "*i64", **dict.fromkeys(floats, "*fp32")}
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
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": launch.warps, "num_stages": launch.stages},
    )
    ptx = compiled.asm["ptx"]
    used = _resources(ptx, capability)
    return Compiled(*used, compiled.metadata.shared, ptx.count("wgmma.mma_async"))


def _resources(ptx: str, capability: int) -> tuple[int, int]:
    """Registers a thread and bytes spilled, as ptxas reports them."""
    name = f"sm_{capability}" + "a" * (capability >= 90)
    command = [get_ptxas(capability).path, "-v", f"--gpu-name={name}", "-o", "/dev/null"]
    report = subprocess.run(
        [*command, "/dev/stdin"], input=ptx, capture_output=True, text=True, check=True
    ).stderr
    registers = re.search(r"Used (\d+) registers", report)
    spill = re.search(r"(\d+) bytes spill stores", report)
    assert registers, report
    assert spill, report
    return int(registers[1]), int(spill[1])
