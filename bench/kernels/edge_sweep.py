"""The edge passes over a grid of sizes: time, peak memory, and share of the roofline, with a plot.

    python -m bench.kernels.edge_sweep --out bench/results                  # a GPU: the whole grid
    python -m bench.kernels.edge_sweep --graphs --stores 128 1024 --out bench/results   # replayed
    python -m bench.kernels.edge_sweep --device cpu --out bench/results     # a reduced one

Beside the operators: the same passes in eager PyTorch (concatenated with BatchNorm; factorised with
LayerNorm), and under torch.compile for the sizes given by --compile, in the same dtype. Caches are
flushed before each timed step. With --graphs all are timed as replays of CUDA graphs, which is how
training runs them: from Python, launching the kernels of a small step takes longer than they do.
Results are checked against eager PyTorch before anything is timed (the tests marked gpu check
more). A formulation that does not fit the memory gets no time, and what is not reached within
--minutes is recorded as such; small sizes come first.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from statistics import median

import torch
from torch import nn

from bench.kernels import edge_roofline as roofline
from bench.kernels.edge_formulations import ENCODERS, check, training_step
from bench.lib import memory
from bench.lib.record import Row, record, table

FEATURES = 27  # as in training with two lags
NAMES = ("operators", "factorised, LayerNorm", "concatenated, BatchNorm")
PASSES = ("forward", "forward and backward")
BY = ["stores", "nodes", "width", "pass", "formulation"]
GRID = {
    "cuda": ([8, 16, 32, 64], [32, 64, 128, 256], [128, 1024, 8192, 65536]),
    "cpu": ([8, 16], [32, 64], [64, 512]),
}
CPU_MEMORY = 6 << 30  # eager formulations that would keep more than this are left out
SECONDS_A_CELL = 0.5  # of timed rounds, of which there are 3 to 10


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=list(GRID), default="cuda")
    parser.add_argument("--nodes", type=int, nargs="+")
    parser.add_argument("--width", type=int, nargs="+")
    parser.add_argument("--stores", type=int, nargs="+")
    parser.add_argument("--dtype", help="default: bfloat16 on a GPU, float32 on a CPU")
    where = "128x16x32 8192x16x64 8192x16x128"
    parser.add_argument("--compile", default=where, help="stores x nodes x width ..; '' for none")
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--graphs", action="store_true", help="on a GPU: replay, do not launch")
    parser.add_argument("--threads", type=int, default=1, help="on a CPU")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    device = options.device
    if options.graphs and device != "cuda":
        parser.error("--graphs are CUDA graphs")
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA device: nothing was measured (--device cpu runs a reduced grid)")
    options.dtype = options.dtype or {"cuda": "bfloat16", "cpu": "float32"}[device]
    dtype = getattr(torch, options.dtype)
    nodes, width, stores = (
        chosen or default
        for chosen, default in zip(
            (options.nodes, options.width, options.stores), GRID[device], strict=True
        )
    )
    for h in width:
        check(device, dtype, h)
    rates = roofline.this_gpu() if device == "cuda" else roofline.this_cpu()
    compiled = options.compile.split() if device == "cuda" else []
    sizes = sorted(product(stores, nodes, width), key=lambda s: s[0] * s[1] ** 2 * s[2])
    deadline = time.monotonic() + 60 * options.minutes
    rows: list[Row] = []
    for size in sizes:
        names = list(NAMES)
        if "x".join(map(str, size)) in compiled:
            names += [f"{name}, compiled" for name in NAMES[1:]]
        size_rows = cells(size, names, dtype, device, rates, deadline, options.graphs)
        print(table(size_rows, BY, ["milliseconds", "peak_mib", "share_of_floor"]), flush=True)
        rows += size_rows
    if options.out:
        name = f"edge_sweep_{device}" + "_graphs" * options.graphs
        record(options.out, name, rows, vars(options))
        draw(options.out / f"{name}.csv")


def cells(
    size: tuple[int, int, int],
    names: Sequence[str],
    dtype: torch.dtype,
    device: str,
    rates: roofline.Device | None,
    deadline: float,
    graphs: bool,
) -> list[Row]:
    """Both passes of every formulation at one size."""
    stores, nodes, width = size
    counts = [f(*size, FEATURES, dtype.itemsize) for f in (roofline.forward, roofline.backward)]
    floors: dict[str, float] = {}
    if rates is not None:
        ahead, back = (count.floor(rates) for count in counts)
        floors = {"forward": ahead, "forward and backward": ahead + back}
    rows: list[Row] = []
    for name in names:
        for what in PASSES:
            row: Row = {"pass": what, "formulation": name, "stores": stores, "nodes": nodes}
            row |= {"width": width, "dtype": str(dtype).removeprefix("torch.")}
            if time.monotonic() > deadline:
                row["note"] = "not reached within the time limit"
            elif device == "cpu" and name != "operators" and kept(size) > CPU_MEMORY:
                row["note"] = "does not fit"
            else:
                row |= measure(name, what, size, dtype, device, graphs)
            if "milliseconds" in row and floors:
                row["floor_milliseconds"] = floors[what] * 1e3
                if name == "operators":
                    row["share_of_floor"] = floors[what] * 1e3 / row["milliseconds"]
            rows.append(row)
    ours = {r["pass"]: r.get("milliseconds") for r in rows if r["formulation"] == "operators"}
    for row in rows:
        if "milliseconds" in row and ours[row["pass"]]:
            row["times_as_long"] = row["milliseconds"] / ours[row["pass"]]
    return rows


def kept(size: tuple[int, int, int]) -> int:
    """Estimate of the bytes that eager PyTorch keeps of a float32 step."""
    stores, nodes, width = size
    return 20 * 4 * stores * nodes**2 * width


def measure(
    name: str, what: str, size: tuple[int, int, int], dtype: torch.dtype, device: str, graphs: bool
) -> Row:
    stores, nodes, width = size
    torch.manual_seed(0)
    try:
        model: nn.Module = ENCODERS[name.removesuffix(", compiled")](nodes, width, FEATURES)
        model = model.to(device, dtype)
        if name.endswith("compiled"):
            torch.compiler.reset()
            model = torch.compile(model)  # type: ignore[assignment]
        h = torch.randn(stores, nodes, width, device=device, dtype=dtype, requires_grad=True)
        features = torch.randn(stores, nodes, nodes, FEATURES, device=device, dtype=dtype)

        def infer() -> None:
            with torch.no_grad():
                model(h, features)

        work = infer if what == "forward" else training_step(model, h, features)
        work()
        bytes_needed = peak(work, device)
        timed = as_graph(work) if graphs else work
        return {"milliseconds": cold(timed, device), "peak_mib": bytes_needed / 2**20}
    except torch.OutOfMemoryError:
        return {"note": "does not fit"}
    finally:
        model = h = features = work = timed = None  # type: ignore[assignment]
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()


def as_graph(work: Callable[[], None]) -> Callable[[], None]:
    """The kernels of one call, launched together."""
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    gc.collect()
    torch.cuda.empty_cache()
    with torch.cuda.graph(graph, stream=stream):
        work()
    return graph.replay


def peak(work: Callable[[], None], device: str) -> float:
    """Bytes that one call allocates at most, above what is allocated before it."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    ctypes.CDLL(None).malloc_trim(0)
    return memory.growth(work)


def cold(work: Callable[[], object], device: str = "cuda", rounds: int | None = None) -> float:
    """Median milliseconds, with the caches flushed before each round."""
    flush = torch.empty(256 << 20, dtype=torch.int8, device=device)
    clock = gpu_clock if device == "cuda" else cpu_clock
    flush.zero_()
    first = clock(work)
    rounds = rounds or int(min(10, max(3, 1e3 * SECONDS_A_CELL / first)))
    times = []
    for _ in range(rounds):
        flush.zero_()
        times.append(clock(work))
    return median(times)


def gpu_clock(work: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    work()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def cpu_clock(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


def draw(results: Path) -> None:
    """The recorded CSV as a picture beside it: a panel for each width, time against edges."""
    try:
        from bench.kernels.edge_plot import plot
    except ImportError as missing:
        print(f"no picture: {missing}; later: python -m bench.kernels.edge_plot {results}")
        return
    print(f"drawn: {plot(results)}")


if __name__ == "__main__":
    main()
