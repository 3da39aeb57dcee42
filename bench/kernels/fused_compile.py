"""What the Triton kernels of one program a store become on a GPU that need not be there.

    python -m bench.kernels.fused_compile --out bench/results

Records what the operators launch for the sizes of training, compiles that ahead of time, and reads
registers, local memory (where registers are spilled) and shared memory from the cubin. Nothing is
executed.
"""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from bench.kernels import sass
from bench.lib.record import Row, record, table
from causalmmm.kernels import (
    calendar,
    evidence,
    heads,
    launching,
    likelihood,
    posterior,
    response,
)

# Triton decides when a kernel is defined whether it is interpreted: import them before `recorded`.
for _part in ("calendar", "evidence", "heads", "likelihood", "posterior", "response"):
    importlib.import_module(f"causalmmm.kernels.{_part}.triton.launch")

ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
_POINTERS = {
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.uint8: "*u8",
    torch.int32: "*i32",
}


@dataclass(frozen=True)
class Sizes:
    """Series, steps, lags, response components, calendar terms, prototypes, features of a pair and
    rank of effects of training."""

    nodes: int
    steps: int
    lags: int = 7
    components: int = 6
    terms: int = 14
    prototypes: int = 8
    features: int = 27
    rank: int = 8

    def __str__(self) -> str:
        return f"N={self.nodes} T={self.steps}"


SHAPES = (Sizes(8, 100), Sizes(16, 128), Sizes(16, 180))


class Launch(NamedTuple):
    """A kernel, the types of its arguments, its compile-time arguments and its warps."""

    kernel: Any
    types: tuple[str, ...]
    fixed: tuple[tuple[str, int], ...]
    warps: int


class Compiled(NamedTuple):
    """Warps of a program; registers of a thread; bytes of its local memory, where registers are
    spilled, and instructions inside loops that go there; bytes of shared memory."""

    warps: int
    registers: int
    stack: int
    spills_in_loops: int
    shared: int


@contextmanager
def recorded() -> Iterator[list[Launch]]:
    """Within this context the fused operators take their Triton forms on CPU tensors, and launches
    are written down instead."""
    launches: list[Launch] = []

    def write_down(kernel: Any, _: object, *arguments: Any, tile: int, **fixed: int) -> None:
        types = tuple(_type(argument) for argument in arguments)
        warps = launching.warps_for(tile)
        launches.append(Launch(kernel, types, tuple(fixed.items()), warps))

    with (
        mock.patch.dict(os.environ, {"TRITON_INTERPRET": "1"}),
        mock.patch.object(launching, "launch", write_down),
    ):
        yield launches


def _type(argument: object) -> str:
    if isinstance(argument, Tensor):
        return _POINTERS[argument.dtype]
    return "fp32" if isinstance(argument, float) else "i32"


def operators(s: Sizes) -> dict[str, Callable[[], object]]:
    """A call of every operator for these sizes, with its gradient where it has one."""
    stores, n, t, d, q = 2, s.nodes, s.steps, s.components, s.terms
    scales = (10.0, 8.0, 0.01)
    mask, spend = torch.ones(stores, t, dtype=torch.bool), torch.ones(n, dtype=torch.bool)

    def some(*shape: int) -> Tensor:
        return torch.zeros(shape, requires_grad=True)

    series, pairs = some(stores, n, t), some(stores, n, n)
    triples = torch.zeros(stores, n, n, n)
    solver, basis, beta = some(stores, q, t), some(stores, t, q), some(n, n, d)
    responses, log_noise = some(stores, n, d, t - 1), some(stores, n)
    past, known = series.detach(), pairs.detach()
    regression = [past, some(n, s.lags), responses, solver, basis, beta, log_noise, past, mask]
    regression = [x.detach() for x in regression]
    errors = (series, responses, pairs, pairs, beta, solver, basis, some(stores, n, s.lags))
    prototypes = (some(s.prototypes, n, n), some(s.prototypes), pairs, some(n, n, 2), 9.0)
    calls = {
        "calendar": lambda: calendar.calendar_residuals(
            *(past, basis.detach(), mask, mask, spend, some(n, q), some(q))
        ),
        "window statistics": lambda: evidence.window_statistics(
            *(past, past, past, mask, s.lags, scales)
        ),
        "response terms": lambda: evidence.response_terms(
            *(x.detach() for x in regression), scales
        ),
        "mean field": lambda: evidence.coordinate_ascent(known, triples, known, 0.3, 3),
        "mixture prior": lambda: posterior.mixture_prior(*prototypes),
        "heads of pairs": lambda: heads.pair_heads(
            torch.zeros(stores, n, n, s.features),
            *(some(stores, n, s.rank), some(stores, n, s.rank), some(stores, n, n, 2)),
            *(some(1, s.features), some(1), some(2, s.features), some(n, n)),
        ),
        "sampled effects": lambda: posterior.sampled_effects(
            *(pairs, pairs, some(stores, n, n, 2), known, 0.3)
        ),
        "delays": lambda: response.delayed(some(stores, n, d, t), [1] * d, t - 1),
        "likelihood": lambda: likelihood.response_nll(*(*errors, log_noise, mask, mask, past)),
    }
    return {name: lambda call=call: _differentiated(call()) for name, call in calls.items()}


def _differentiated(results: Tensor | tuple[Tensor, ...]) -> None:
    """Asks for the gradient of the sum of all that has one."""
    results = (results,) if isinstance(results, Tensor) else results
    if differentiable := [result.double().sum() for result in results if result.requires_grad]:
        sum(differentiable).backward()  # type: ignore[union-attr]


def launches(sizes: Sizes) -> list[tuple[str, Launch]]:
    """Every operator's name with each of its launches."""
    found = []
    for name, call in operators(sizes).items():
        with recorded() as written:
            call()
        assert written, f"{name} launched nothing"
        found += [(name, launch) for launch in written]
    return found


@cache
def compiled(launch: Launch, architecture: str) -> Compiled:
    """What a launch becomes; each once in a process."""
    fixed, types = dict(launch.fixed), iter(launch.types)
    signature: dict[str, str] = {}
    values: dict[tuple[int], Any] = {}
    aligned: dict[tuple[int], list[list[Any]]] = {}
    for index, argument in enumerate(launch.kernel.arg_names):
        if argument in fixed:
            signature[argument], values[(index,)] = "constexpr", fixed[argument]
            continue
        signature[argument] = next(types)
        if signature[argument].startswith("*"):
            aligned[(index,)] = [["tt.divisibility", 16]]
    assert next(types, None) is None, f"{launch.kernel.__name__}: more arguments than it has"
    binary = triton.compile(
        ASTSource(launch.kernel, signature, values, aligned),
        target=GPUTarget("cuda", int(architecture.removeprefix("sm_")), 32),
        options={"num_warps": launch.warps},
    )
    cubin = binary.asm["cubin"]
    registers, stack = sass.resources(cubin)
    spills = sass.spills_in_loops(cubin) if stack else 0
    return Compiled(launch.warps, registers, stack, spills, binary.metadata.shared)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--architecture", nargs="+", choices=ARCHITECTURES, default=ARCHITECTURES)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    rows: list[Row] = [
        {"operator": name, "kernel": launch.kernel.__name__}
        | {"architecture": architecture, "shape": str(sizes)}
        | compiled(launch, architecture)._asdict()
        for sizes in SHAPES
        for name, launch in launches(sizes)
        for architecture in options.architecture
    ]
    keys = ["operator", "kernel", "architecture", "shape"]
    print(table(rows, keys, [*Compiled._fields]))
    if options.out:
        record(options.out, "fused_compiled", rows, vars(options))


if __name__ == "__main__":
    main()
