"""What the Triton kernels of the edge operators become on a GPU that need not be there.

    python -m bench.kernels.edge_compile --out bench/results         # counts, and a model
    python -m bench.kernels.edge_compile --check --architecture sm_80 sm_90 sm_100

Compiles the launch table ahead of time, reads machine code, registers and local memory from the
cubin, and adds up what a pass takes: for every kernel, its products on the tensor cores plus the
scarcest of instructions, special functions and memory. That is a lower bound of the schedule, not a
measurement: the passes of 2026-11-26 took twice theirs. Nothing is executed. Sizes are those of
training: 27 features, 16 nodes, 2 edge types. --check holds every row of the table to its budget.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from bench.kernels import sass
from bench.kernels.edge_roofline import H200
from bench.lib.record import Row, record, table
from causalmmm.kernels.edge.triton import bwd_kernels, fwd_kernels, layer_kernels, tables

# Bytes of shared memory that a block may have.
SHARED_BYTES = {"sm_80": 166_912, "sm_90": tables.SHARED_BYTES, "sm_100": tables.SHARED_BYTES}
ARCHITECTURES = tuple(SHARED_BYTES)
FEATURES, NODES, TYPES = 27, 16, 2
SLACK = 1.05  # of a budget, between versions of Triton

_F = {"F": FEATURES, "FP": 32}
_K = {"K": TYPES, "KP": 2}
_GROUP = {"N": NODES, "NP": NODES}
_GRADS = {"FROM_MEAN": True, "FROM_STATES": True}


@dataclass(frozen=True)
class Kernel:
    """function, its compile-time arguments, and per edge: products of H x H, further products as
    [columns] with H, tensors of H numbers that it moves, and other bytes."""

    function: Any
    options: Mapping[str, Any]
    squares: int
    columns: int
    moved: int
    other_bytes: int
    looped: bool = False  # its innermost loop takes a tile a trip
    floats: frozenset[str] = field(default=frozenset())  # pointers to float32 beside the usual


_FEATURE_BYTES, _TYPE_BYTES, _MOMENT_BYTES = 2 * FEATURES, 4 * TYPES, 8
_MOVED_F = _FEATURE_BYTES + _MOMENT_BYTES
_LAYER = layer_kernels.edge_layer_bwd_kernel
_NO_F = {"F": 0, "FP": 0}

KERNELS: dict[str, Kernel] = {
    "mean": Kernel(
        fwd_kernels.edge_mean_fwd_kernel, {**_F, "KEEP": True}, 1, 32, 1, _MOVED_F, looped=True
    ),
    "logits": Kernel(
        fwd_kernels.edge_logits_fwd_kernel,
        {**_F, **_K, "KEPT": False},
        3,
        32,
        0,
        _FEATURE_BYTES + _TYPE_BYTES,
        looped=True,
    ),
    "logits, kept": Kernel(
        fwd_kernels.edge_logits_fwd_kernel,
        {**_F, **_K, "KEPT": True},
        2,
        0,
        1,
        _TYPE_BYTES,
        looped=True,
    ),
    "second backward": Kernel(
        bwd_kernels.edge_second_bwd_kernel,
        {**_GROUP, "K": TYPES},
        6,
        4 * NODES + 48,
        2,
        _TYPE_BYTES,
        looped=True,
        floats=frozenset({"p_grad_out"}),
    ),
    "first backward": Kernel(
        bwd_kernels.edge_first_bwd_kernel,
        {**_F, **_GROUP, **_GRADS, "FEATURES_GRAD": False},
        2,
        6 * NODES + 16 + 64,
        2,
        _MOVED_F,
        looped=True,
    ),
    "state": Kernel(layer_kernels.edge_state_kernel, _F, 1, 32, 1, _MOVED_F),
    "inner": Kernel(layer_kernels.edge_inner_fwd_kernel, {}, 1, 0, 2, 0),
    "outer": Kernel(layer_kernels.edge_outer_fwd_kernel, _K, 1, 0, 1, _TYPE_BYTES),
    "outer backward": Kernel(
        layer_kernels.edge_outer_bwd_kernel,
        {"K": TYPES},
        1,
        0,
        3,
        _TYPE_BYTES,
        floats=frozenset({"p_grad_out"}),
    ),
    "norm backward": Kernel(layer_kernels.edge_norm_bwd_kernel, _GRADS, 0, 0, 3, _MOMENT_BYTES),
    "layer backward, inner": Kernel(_LAYER, {**_NO_F, "KIND": "inner"}, 1, 0, 3, 0),
    "layer backward, states": Kernel(_LAYER, {**_NO_F, "KIND": "states"}, 1, 0, 2, 0),
    "layer backward, first": Kernel(_LAYER, {**_F, "KIND": "first"}, 1, 32, 3, _FEATURE_BYTES),
    "weight": Kernel(layer_kernels.edge_weight_bwd_kernel, {}, 1, 0, 2, 0, looped=True),
}
_ALWAYS_FLOAT = {"p_moments", "p_logits"}

# Kernels of a pass where e is kept: fused, and layer by layer.
FUSED = {
    "forward": ["mean", "logits, kept"],
    "backward": ["second backward", "first backward"],
}
LAYERED = {
    "forward": ["state", "inner", "outer"],
    "backward": [
        *("inner", "outer backward", "weight", "layer backward, inner"),
        *("weight", "layer backward, states", "norm backward", "layer backward, first", "weight"),
    ],
}


class Compiled(NamedTuple):
    """Of one launch. instructions: that a lane issues for each edge and unit of the width, special:
    of these exponentials and the like; registers, stack and shared as in `tables.Launch`; tensor:
    instructions of a warp for the tensor cores, a tile."""

    instructions: float
    special: float
    registers: int
    stack: int
    shared: int
    tensor: int


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--architecture", nargs="+", choices=ARCHITECTURES, default=ARCHITECTURES)
    parser.add_argument("--width", type=int, nargs="+", default=[32, 64, 128, 256])
    parser.add_argument("--check", action="store_true", help="hold every row to its budget")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    if options.check:
        check(options.architecture, options.width)
        return
    rows: list[Row] = []
    for architecture in options.architecture:
        for width in options.width:
            rows += counts(architecture, width)
    values = ["instructions", "registers", "stack", "nanoseconds"]
    print(table(rows, ["architecture", "width", "pass", "kernel"], values))
    if options.out:
        name = "_".join(["edge_compiled", *options.architecture])
        record(options.out, name, rows, vars(options))


def check(architectures: Sequence[str], widths: Sequence[int]) -> None:
    """Compile every row of the table; exit with those that exceed their budgets."""
    wrong = []
    for (name, architecture, width, size), launch in tables.LAUNCHES.items():
        if architecture in architectures and width in widths:
            found = exceeded(launch, compile_kernel(name, width, size, launch, architecture))
            wrong += [f"{name} {architecture} H={width} {size} bytes: {text}" for text in found]
    if wrong:
        raise SystemExit("\n".join(wrong))


def exceeded(launch: tables.Launch, compiled: Compiled) -> list[str]:
    """What a launch takes beyond its budget in the table."""
    return [
        f"{name} {getattr(compiled, name):g}, budget {getattr(launch, name):g}"
        for name in ("instructions", "registers", "stack", "shared")
        if getattr(compiled, name) > getattr(launch, name) * SLACK
    ]


def counts(architecture: str, width: int) -> list[Row]:
    """Rows of all kernels of both passes in bfloat16 with e kept, and of their sums."""
    rows: list[Row] = []
    for what in FUSED:
        fused = all((k, architecture, width, 2) in tables.LAUNCHES for k in FUSED[what])
        names = (FUSED if fused else LAYERED)[what]
        if any(find(name, width, architecture) is None for name in names):
            continue  # no kernels for this width there
        total = 0.0
        for name in names:
            launch = find(name, width, architecture)
            assert launch is not None
            compiled = compile_kernel(name, width, 2, launch, architecture)
            nanoseconds = modelled(KERNELS[name], width, compiled)
            total += nanoseconds
            row: Row = {"architecture": architecture, "width": width, "pass": what, "kernel": name}
            row |= {"rows": launch.rows, "warps": launch.warps, **compiled._asdict()}
            row |= {"bytes": moved(KERNELS[name], width), "nanoseconds": nanoseconds}
            rows.append(row)
        bytes_moved = sum(row["bytes"] for row in rows if row["pass"] == what)
        rows.append(
            {"architecture": architecture, "width": width, "pass": what, "kernel": "all"}
            | {"bytes": bytes_moved, "nanoseconds": total}
        )
    return rows


def find(name: str, width: int, architecture: str) -> tables.Launch | None:
    return tables.find(name, width, 2, architecture, SHARED_BYTES[architecture])


def moved(kernel: Kernel, width: int) -> float:
    """Bytes an edge of the schedule, in bfloat16."""
    return 2 * kernel.moved * width + kernel.other_bytes


def modelled(kernel: Kernel, width: int, compiled: Compiled) -> float:
    """Nanoseconds an edge on an H200, if products overlap with nothing, and all else does."""
    flop = 2 * kernel.squares * width**2 + 2 * kernel.columns * width
    scarcest = max(
        compiled.instructions * width / H200.instructions,
        compiled.special * width / H200.exponentials,
        moved(kernel, width) / H200.memory,
    )
    return (flop / H200.tensor + scarcest) * 1e9


def sound(kernel: str, width: int, size: int, launch: tables.Launch) -> bool:
    """Whether Triton compiles products of this launch rightly. With numbers of four bytes and eight
    warps on 64 rows it does not (3.6, sm_90): relative errors of 2e-4 instead of 1e-6, at times a
    read outside the tensors."""
    rows = min(tables.WEIGHT_BLOCK, width) if kernel == "weight" else launch.rows
    return size < 4 or launch.warps < 8 or rows > 64


@cache
def compile_kernel(
    name: str, width: int, size: int, launch: tables.Launch, architecture: str = tables.MEASURED
) -> Compiled:
    """One kernel of `KERNELS`, for numbers of `size` bytes; each once in a process."""
    kernel = KERNELS[name]
    fixed, block = {**kernel.options, **_fixed(launch, width, size)}, min(width, 128)
    if name == "weight":
        fixed.update(G=width, BH=block, BG=block)
    source = ASTSource(kernel.function, *_signature(kernel, fixed, size))
    capability = int(architecture.removeprefix("sm_"))
    compiled = triton.compile(
        source,
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": launch.warps, "num_stages": launch.stages},
    )
    cubin = compiled.asm["cubin"]
    trips = width // (launch.depth or width)
    of_warp = sass.main_loop(cubin) if kernel.looped else sass.straight(cubin, trips)
    blocks = (width // block) ** 2 if name == "weight" else 1
    of_lane = of_warp.times(32 * launch.warps * blocks / (launch.rows * width))
    return Compiled(
        of_lane.issued,
        of_lane.special,
        *sass.resources(cubin),
        compiled.metadata.shared,
        int(of_warp.tensor),
    )


def _fixed(launch: tables.Launch, width: int, size: int) -> dict[str, Any]:
    """Compile-time arguments that all kernels share, as `host.settings` and `layers` give them."""
    precision = "tf32x3" if size == 4 else "ieee"
    depth = launch.depth or width
    return {"H": width, "BM": launch.rows, "BK": depth, "PRECISION": precision, "EMULATE": False}


def _signature(
    kernel: Kernel, fixed: Mapping[str, Any], size: int
) -> tuple[dict[str, str], dict[tuple[int], Any], dict[tuple[int], list[list[Any]]]]:
    """Types of the arguments, values of those known at compile time, alignment of pointers."""
    number = {2: "*bf16", 4: "*fp32"}[size]
    signature: dict[str, str] = {}
    constants: dict[tuple[int], Any] = {}
    aligned: dict[tuple[int], list[list[Any]]] = {}
    for index, argument in enumerate(kernel.function.arg_names):
        if argument in fixed:
            signature[argument], constants[(index,)] = "constexpr", fixed[argument]
        elif argument.startswith("p_"):
            is_float = argument in _ALWAYS_FLOAT | kernel.floats or argument.endswith("_sums")
            signature[argument] = "*fp32" if is_float else number
            aligned[(index,)] = [["tt.divisibility", 16]]
        else:
            signature[argument] = "i32"
    return signature, constants, aligned


if __name__ == "__main__":
    main()
