"""Chooses the launches of the Triton edge kernels; rewrites kernels/edge/triton/tables.py.

    python -m bench.kernels.edge_tune                          # on a GPU: times every candidate
    python -m bench.kernels.edge_tune --compile-only           # anywhere: ranks them by compiling
    python -m bench.kernels.edge_tune --tables SAMPLE --width 128 --bytes 2 --dry-run

Every candidate of a row is compiled but those that Triton gets wrong (`edge_compile.sound`); what
does not fit shared memory is left out. On a GPU, the eight that spill least are put into the table
in turn, and the operator that the row serves is timed with a cold cache. Its result must be that of
the row before. Without a GPU the row goes to the candidate that uses the tensor cores of sm_90 and
spills least, then to the one with most warps on a multiprocessor; ties keep what is there. Each row
is written with what was measured. Run the tests and `make triton-check` afterwards: they hold every
row to its budget.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import torch
from triton import knobs

from bench.kernels.edge_compile import KERNELS, Compiled, compile_kernel, sound
from causalmmm.kernels.edge.triton import tables
from causalmmm.kernels.edge.triton.tables import Launch

TABLES = ("MEAN", "SAMPLE", "LAYER", "WEIGHT")
SOURCE = Path(__file__).parents[2] / "kernels" / "edge" / "triton" / "tables.py"
SHORTLIST = 8
REGISTERS, SHARED, WARPS = 65_536, 233_472, 64  # of an sm_90 multiprocessor
TOLERANCE = {2: 2e-2, 4: 3e-5}  # of a result against that of the row before, by bytes of a number
ROUND_UP = {"registers": 8, "spill": 32, "shared": 1024}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES)
    parser.add_argument("--width", type=int, nargs="+", default=[32, 64, 128, 256])
    parser.add_argument("--bytes", type=int, nargs="+", choices=[2, 4], default=[2, 4])
    parser.add_argument("--compile-only", action="store_true", help="rank without a GPU")
    parser.add_argument("--dry-run", action="store_true", help="print, change nothing")
    parser.add_argument("--source", type=Path, default=SOURCE)
    options = parser.parse_args(arguments)
    timed = not options.compile_only
    if timed and not torch.cuda.is_available():
        raise SystemExit("no CUDA device: use --compile-only to rank by compiling")
    architecture = tables.MEASURED
    if timed:
        major, minor = torch.cuda.get_device_capability()
        architecture = f"sm_{major}{minor}"
    rows: dict[str, dict[tuple[str, int, int], Launch]] = {name: {} for name in options.tables}
    for name, width, size in product(options.tables, options.width, options.bytes):
        now = tables.find(getattr(tables, name), width, size, architecture)
        if now is None:
            continue
        row = best(name, width, size, now, architecture, timed)
        print(f"{name} {architecture} H={width} {size} bytes: {written(row)}", flush=True)
        rows[name][architecture, width, size] = row
    changed = rewrite(options.source.read_text(encoding="utf-8"), rows)
    if options.dry_run:
        print(changed)
    else:
        options.source.write_text(changed, encoding="utf-8")


def best(table: str, width: int, size: int, now: Launch, architecture: str, timed: bool) -> Launch:
    """The best candidate of one row, with its measurements."""
    compiled = {}
    for launch in candidates(table, now, width, size):
        cost = compile_all(table, width, size, launch, architecture)
        if cost is not None:
            compiled[launch] = cost
    ranked = sorted(compiled, key=lambda launch: rank(launch, compiled[launch], launch == now))
    if not ranked:
        raise SystemExit(f"{table}, H = {width}, {size} bytes: no candidate fits shared memory")
    chosen, microseconds = ranked[0], None
    if timed:
        times = timings(table, width, size, ranked[:SHORTLIST], architecture)
        chosen = min(times, key=times.__getitem__)
        microseconds = round(times[chosen], 1)
    return with_measurements(chosen, compiled[chosen], microseconds)


def candidates(table: str, now: Launch, width: int, size: int) -> Iterator[Launch]:
    """What there is beforehand first, then the grid; without measurements, so that rows compare."""
    plain = Launch(now.rows, now.warps, now.stages, now.depth)
    yield plain
    depths = {now.depth, 32, 64} if now.depth else {0}
    for rows, warps, stages, depth in product((32, 64, 128), (4, 8), (1, 2, 3), sorted(depths)):
        launch = Launch(rows, warps, stages, depth)
        if launch != plain and depth <= width and sound(table, width, size, launch):
            yield launch


def compile_all(
    table: str, width: int, size: int, launch: Launch, architecture: str
) -> Compiled | None:
    """The worst of all kernels that the row serves; None if one of them does not fit."""
    costs = []
    with fresh_triton_cache():
        for name, (owner, *_) in KERNELS.items():
            if owner == table:
                cost = compile_kernel(name, width, size, launch, architecture)
                if cost.shared > tables.SHARED_BYTES:
                    return None
                costs.append(cost)
    worst = [max(values) for values in zip(*costs, strict=True)]
    return Compiled(*worst[:3], min(cost.tensor_core_instructions for cost in costs))


@contextmanager
def fresh_triton_cache() -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder, knobs.cache.scope():
        knobs.cache.dir = folder
        yield


def rank(launch: Launch, cost: Compiled, present: bool) -> tuple[float, ...]:
    """Smaller is better: without tensor cores, spilling, warps that a multiprocessor holds, .."""
    threads = 32 * launch.warps
    blocks = min(REGISTERS // (cost.registers * threads), SHARED // (cost.shared + 1024))
    warps = min(blocks * launch.warps, WARPS)
    idle = cost.tensor_core_instructions == 0
    return (idle, cost.spill, -warps, not present, launch.stages, -launch.rows)


def with_measurements(launch: Launch, cost: Compiled, microseconds: float | None) -> Launch:
    rounded = {name: -(-getattr(cost, name) // step) * step for name, step in ROUND_UP.items()}
    rounded["registers"] = min(rounded["registers"], 255)
    return dataclasses.replace(launch, **rounded, microseconds=microseconds)


def timings(
    table: str, width: int, size: int, launches: Sequence[Launch], architecture: str
) -> dict[Launch, float]:
    """Microseconds of the operator that the row serves, for every launch; checks its results."""
    from bench.kernels.edge_sweep import cold

    work = serving(table, width, {2: torch.bfloat16, 4: torch.float32}[size])
    rows = getattr(tables, table)
    key, before = (architecture, width, size), dict(rows)
    expected, times = work(), {}
    try:
        for launch in launches:
            rows[key] = launch
            for got, right in zip(work(), expected, strict=True):
                error = (got.double() - right.double()).norm() / right.double().norm()
                if not error < TOLERANCE[size]:
                    raise SystemExit(f"{table} {launch} differs by {float(error):.1e}")
            times[launch] = cold(work, rounds=15) * 1e3
    finally:
        rows.clear()
        rows.update(before)
    return times


def serving(table: str, width: int, dtype: torch.dtype) -> Callable[[], list[torch.Tensor]]:
    """A call that spends its time in the kernels of the table: 4,096 stores of 16 nodes."""
    from bench.kernels.edge_formulations import Operators

    stores, nodes, features = 4096, 16, 8
    torch.manual_seed(0)
    model = Operators(nodes, width, features).cuda().to(dtype)
    h = torch.randn(stores, nodes, width, device="cuda", dtype=dtype)
    f = torch.randn(stores, nodes, nodes, features, device="cuda", dtype=dtype)
    first = model.sender1(h), model.receiver1(h), model.pass1.weight, model.pass1.bias

    def mean() -> list[torch.Tensor]:
        with torch.no_grad():
            return [model.mean(first, f, model.feature.weight)]

    def sample() -> list[torch.Tensor]:
        with torch.no_grad():
            return list(model(h, f))

    def backward() -> list[torch.Tensor]:
        model.zero_grad()
        z, kl = model(h, f)
        (z[..., -1].square().sum() + kl.sum()).backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    return {"MEAN": mean, "SAMPLE": sample}.get(table, backward)


def rewrite(source: str, found: Mapping[str, Mapping[tuple[str, int, int], Launch]]) -> str:
    """The module's text with the rows of its tables replaced or added; all else as it was."""
    lines = source.splitlines(keepends=True)
    tables = [
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and node.target.id in found
    ]
    missing = set(found) - {node.target.id for node in tables}  # type: ignore[union-attr]
    if missing:
        raise SystemExit(f"no table {', '.join(sorted(missing))} in the source")
    for node in reversed(tables):
        assert isinstance(node.target, ast.Name)
        assert node.value is not None
        name = node.target.id
        rows = eval(ast.unparse(node.value), {"Launch": Launch})
        rows.update(found[name])
        order = sorted(rows, key=lambda key: (key[0], key[2], key[1]))
        text = [f'    ("{a}", {w}, {s}): {written(rows[a, w, s])},\n' for a, w, s in order]
        block = [f"{name}: Table = {{\n", *text, "}\n"]
        lines[node.lineno - 1 : node.end_lineno] = block
    return "".join(lines)


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
