"""Chooses the launches of the Triton edge kernels; rewrites kernels/edge/triton/tables.py.

    python -m bench.kernels.edge_tune                          # on a GPU: times every candidate
    python -m bench.kernels.edge_tune --compile-only           # anywhere: ranks them by compiling
    python -m bench.kernels.edge_tune --compile-only --architecture sm_80 sm_100
    python -m bench.kernels.edge_tune --kernels logits --width 128 --bytes 2 --dry-run

Every candidate of a row is compiled but those that Triton gets wrong (`edge_compile.sound`); what
does not fit shared memory is left out. On a GPU, the four best are put into the table in turn, and
the operator that the row serves is timed with a cold cache; its result must be that of the row
before. Without a GPU the row goes to the candidate that uses the tensor cores and spills least, of
these to one with few instructions, of these to the one with most warps on a multiprocessor; ties
keep what is there. Each row is written with what was counted and measured. Run the tests and
`python -m bench.kernels.edge_compile --check` afterwards: they hold every row to its budget.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import cast

import torch

from bench.kernels.edge_compile import (
    ARCHITECTURES,
    FEATURES,
    KERNELS,
    SHARED_BYTES,
    Compiled,
    compile_kernel,
    sound,
)
from causalmmm.kernels.edge.triton import tables
from causalmmm.kernels.edge.triton.tables import Launch

SOURCE = Path(__file__).parents[2] / "kernels" / "edge" / "triton" / "tables.py"
SHORTLIST = 4
REGISTERS, SHARED, WARPS = 65_536, 233_472, 64  # of a multiprocessor
TOLERANCE = {2: 2e-2, 4: 3e-5}  # of a result against that of the row before, by bytes of a number
ROUND_UP = {"instructions": 0.5, "registers": 8, "stack": 32, "shared": 1024}
Key = tuple[str, str, int, int]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kernels", nargs="+", choices=list(KERNELS), default=list(KERNELS))
    parser.add_argument("--width", type=int, nargs="+", default=[32, 64, 128, 256])
    parser.add_argument("--bytes", type=int, nargs="+", choices=[2, 4], default=[2, 4])
    parser.add_argument("--compile-only", action="store_true", help="rank without a GPU")
    parser.add_argument("--as-they-are", action="store_true", help="count anew, choose nothing")
    parser.add_argument("--architecture", nargs="+", choices=ARCHITECTURES)
    parser.add_argument("--dry-run", action="store_true", help="print, change nothing")
    parser.add_argument("--source", type=Path, default=SOURCE)
    options = parser.parse_args(arguments)
    timed = not (options.compile_only or options.as_they_are)
    if timed and not torch.cuda.is_available():
        raise SystemExit("no CUDA device: use --compile-only to rank by compiling")
    architectures = options.architecture or [this_architecture() if timed else tables.MEASURED]
    rows: dict[Key, Launch] = {}
    sizes = product(options.kernels, architectures, options.width, options.bytes)
    for name, architecture, width, size in sizes:
        now = tables.find(name, width, size, architecture) or tables.find(name, width, size)
        if now is None:
            continue
        grid = [plain(now)] if options.as_they_are else candidates(name, now, width, size)
        row = best(name, width, size, grid, architecture, timed)
        if row is None:
            print(f"{name} {architecture} H={width} {size} bytes: no candidate fits", flush=True)
            continue
        print(f"{name} {architecture} H={width} {size} bytes: {written(row)}", flush=True)
        rows[name, architecture, width, size] = row
    changed = rewrite(options.source.read_text(encoding="utf-8"), rows)
    if options.dry_run:
        print(changed)
    else:
        options.source.write_text(changed, encoding="utf-8")


def this_architecture() -> str:
    major, minor = torch.cuda.get_device_capability()
    return f"sm_{major}{minor}"


def best(
    kernel: str, width: int, size: int, grid: Iterable[Launch], architecture: str, timed: bool
) -> Launch | None:
    """The best candidate of one row, with what was counted and measured; the first is that of now.
    None if none fits."""
    compiled = {}
    for launch in grid:
        cost = compile_kernel(kernel, width, size, launch, architecture)
        if cost.shared <= SHARED_BYTES[architecture] and cost.registers > 16:  # else an empty one
            compiled[launch] = cost
    first = next(iter(compiled), None)
    ranked = sorted(compiled, key=lambda launch: rank(launch, compiled[launch], launch == first))
    if not ranked:
        return None
    chosen, microseconds = ranked[0], None
    if timed:
        times = timings(kernel, width, size, ranked[:SHORTLIST], architecture)
        chosen = min(times, key=times.__getitem__)
        microseconds = round(times[chosen], 1)
    return with_measurements(chosen, compiled[chosen], microseconds)


def plain(launch: Launch) -> Launch:
    """Without measurements, so that rows compare."""
    return Launch(launch.rows, launch.warps, launch.stages, launch.depth)


def candidates(kernel: str, now: Launch, width: int, size: int) -> Iterator[Launch]:
    """What there is beforehand first, then the grid, in which a warp has 16 rows: with fewer, two
    warpgroups would repeat what comes before a product. Sums of weights have a tile of 64."""
    yield plain(now)
    depths = {now.depth, 32, 64} if now.depth else {0}
    tiles = [(64, 4), (64, 8)] if kernel == "weight" else [(64, 4), (128, 8)]
    for (rows, warps), depth in product(tiles, sorted(depths)):
        launch = Launch(rows, warps, now.stages, depth)
        if launch != plain(now) and depth <= width and sound(kernel, width, size, launch):
            yield launch


def rank(launch: Launch, cost: Compiled, present: bool) -> tuple[float, ...]:
    """Smaller is better: without tensor cores, spilling, instructions, warps at a time, .."""
    threads = 32 * launch.warps
    blocks = min(REGISTERS // (cost.registers * threads), SHARED // (cost.shared + 1024))
    warps = min(blocks * launch.warps, WARPS)
    few = int(10 * math.log2(max(cost.instructions, 1)))  # steps of 7 %
    return (cost.tensor == 0, cost.stack, few, -warps, not present, -launch.rows)


def with_measurements(launch: Launch, cost: Compiled, microseconds: float | None) -> Launch:
    rounded = {
        name: math.ceil(getattr(cost, name) / step) * step for name, step in ROUND_UP.items()
    }
    rounded["registers"] = min(rounded["registers"], 255)
    return dataclasses.replace(launch, **rounded, microseconds=microseconds)


def timings(
    kernel: str, width: int, size: int, launches: Sequence[Launch], architecture: str
) -> dict[Launch, float]:
    """Microseconds of the operator that the row serves, for every launch; checks its results."""
    from bench.kernels.edge_sweep import cold

    work = serving(kernel, width, {2: torch.bfloat16, 4: torch.float32}[size])
    rows = cast("dict[Key, Launch]", tables.LAUNCHES)
    key, before = (kernel, architecture, width, size), dict(rows)
    expected, times = work(), {}
    try:
        for launch in launches:
            rows[key] = launch
            for got, right in zip(work(), expected, strict=True):
                error = (got.double() - right.double()).norm() / right.double().norm()
                if not error < TOLERANCE[size]:
                    raise SystemExit(f"{kernel} {launch} differs by {float(error):.1e}")
            times[launch] = cold(work, rounds=15) * 1e3
    finally:
        rows.clear()
        rows.update(before)
    return times


def serving(kernel: str, width: int, dtype: torch.dtype) -> Callable[[], list[torch.Tensor]]:
    """A call that spends its time in kernels such as this: 4,096 stores of 16 nodes."""
    from bench.kernels.edge_formulations import Operators

    stores, nodes, features = 4096, 16, FEATURES
    torch.manual_seed(0)
    model = Operators(nodes, width, features).cuda().to(dtype)
    h = torch.randn(stores, nodes, width, device="cuda", dtype=dtype)
    f = torch.randn(stores, nodes, nodes, features, device="cuda", dtype=dtype)

    def sample() -> list[torch.Tensor]:
        with torch.no_grad():
            return list(model(h, f))

    def backward() -> list[torch.Tensor]:
        model.zero_grad()
        z, kl = model(h, f)
        (z[..., -1].square().sum() + kl.sum()).backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    return backward if "backward" in kernel or kernel == "weight" else sample


def rewrite(source: str, found: Mapping[Key, Launch]) -> str:
    """The module's text with these rows of its table replaced or added; all else as it was."""
    lines = source.splitlines(keepends=True)
    tables_in = [
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and node.target.id == "LAUNCHES"
    ]
    if not tables_in:
        raise SystemExit("no table LAUNCHES in the source")
    node = tables_in[0]
    assert node.value is not None
    rows: dict[Key, Launch] = eval(ast.unparse(node.value), {"Launch": Launch}) | dict(found)
    names = list(KERNELS)
    order = sorted(rows, key=lambda key: (names.index(key[0]), key[3], key[2], int(key[1][3:])))
    text = [_line(key, written(rows[key])) for key in order]
    lines[node.lineno - 1 : node.end_lineno] = ["LAUNCHES: Table = {\n", *text, "}\n"]
    return "".join(lines)


def _line(key: Key, launch: str) -> str:
    kernel, architecture, width, size = key
    line = f'    ("{kernel}", "{architecture}", {width}, {size}): {launch},\n'
    if len(line) > 101:  # as the formatter breaks it
        head, arguments = launch.removesuffix(")").split("(")
        line = line.replace(launch, f"{head}(\n        {arguments}\n    )")
    return line


def written(launch: Launch) -> str:
    """As it stands in the table: fields that are not the default's."""
    fields = dataclasses.fields(launch)
    shown = [f"{launch.rows}, {launch.warps}"]
    shown += [
        f"{field.name}={getattr(launch, field.name)}"
        for field in fields[2:]
        if getattr(launch, field.name) != field.default
    ]
    return f"Launch({', '.join(shown)})"


if __name__ == "__main__":
    main()
