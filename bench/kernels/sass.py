"""What a compiled kernel consists of: its machine instructions, counted from a cubin.

Nothing is compiled or executed here. `edge_compile` compiles; nvdisasm and cuobjdump come with
Triton.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

from triton import knobs

_INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)(.*);")
_LABEL = re.compile(r"^(\.L_x?_?\w+):")
_BRANCH_TARGET = re.compile(r"`\((\.L_x?_?\w+)\)")
_TENSOR = ("HMMA", "HGMMA", "WGMMA", "UTCHMMA", "UTCQMMA")
_IDLE = ("NOP",)


class Counts(NamedTuple):
    """Instructions of one warp: all that are issued, and of these exponentials and the like."""

    issued: float
    special: float
    tensor: float

    def __add__(self, other: Counts) -> Counts:  # type: ignore[override]
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))

    def times(self, factor: float) -> Counts:
        return Counts(*(factor * value for value in self))


class Resources(NamedTuple):
    """registers of a thread; stack: bytes of local memory that a thread has, which is where
    registers are spilled."""

    registers: int
    stack: int


def resources(cubin: bytes) -> Resources:
    report = _run("cuobjdump", "-res-usage", cubin)
    registers, stack = (re.search(rf"{name}:(\d+)", report) for name in ("REG", "STACK"))
    assert registers, report
    assert stack, report
    return Resources(int(registers[1]), int(stack[1]))


def main_loop(cubin: bytes) -> Counts:
    """One trip of the longest loop that holds no other loop; the whole kernel if there is none."""
    names, loops = _parse(cubin)
    innermost = [
        (first, last)
        for first, last in loops
        if not any(first <= f and last >= t and (f, t) != (first, last) for f, t in loops)
    ]
    first, last = max(innermost, key=lambda loop: loop[1] - loop[0], default=(0, len(names) - 1))
    return _count(names[first : last + 1])


def straight(cubin: bytes, trips: float) -> Counts:
    """The whole kernel, where its loops are run `trips` times each."""
    names, loops = _parse(cubin)
    inside = [any(first <= i <= last for first, last in loops) for i in range(len(names))]
    repeated = _count([name for name, loop in zip(names, inside, strict=True) if loop])
    once = _count([name for name, loop in zip(names, inside, strict=True) if not loop])
    return once + repeated.times(trips)


def spills_in_loops(cubin: bytes) -> int:
    """Instructions inside loops that move registers to local memory or back."""
    names, loops = _parse(cubin)
    inside = {i for first, last in loops for i in range(first, last + 1)}
    return sum(names[i].startswith(("LDL", "STL")) for i in inside)


def _count(names: list[str]) -> Counts:
    names = [name for name in names if name not in _IDLE]
    return Counts(
        len(names),
        sum(name.startswith("MUFU") for name in names),
        sum(name.startswith(_TENSOR) for name in names),
    )


def _parse(cubin: bytes) -> tuple[list[str], list[tuple[int, int]]]:
    """Names of the instructions, and the loops as first and last index."""
    names: list[str] = []
    labels: dict[str, int] = {}
    branches: list[tuple[int, str]] = []
    for line in _run("nvdisasm", "-c", cubin).splitlines():
        if label := _LABEL.match(line):
            labels[label[1]] = len(names)
        elif found := _INSTRUCTION.match(line):
            target = _BRANCH_TARGET.search(found[2])
            if target and found[1].startswith("BRA"):
                branches.append((len(names), target[1]))
            names.append(found[1])
    loops = [(labels[to], at) for at, to in branches if labels[to] < at]
    return names, loops


def _run(program: str, option: str, cubin: bytes) -> str:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [_tool(program), option, file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@cache
def _tool(program: str) -> str:
    return str(Path(getattr(knobs.nvidia, program).path))
