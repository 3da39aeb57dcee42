"""The edge operators on a GPU: first their correctness there, then time, memory and roofline.

    python bench/kernels/edge_gpu.py --out bench/results            # the sweep of the targets
    python bench/kernels/edge_gpu.py --check                        # correctness alone

Beside the operators: the same passes in eager PyTorch (concatenated with BatchNorm; factorised with
LayerNorm) and under torch.compile, in the same dtype. The second-level cache is flushed before each
timed step. A formulation that does not fit the memory gets no time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
import edge_roofline as roofline  # noqa: E402
from edge_formulations import ENCODERS, check, loss  # noqa: E402
from record import Row, record, table  # noqa: E402

from causalmmm.kernels import edge_sample  # noqa: E402
from causalmmm.kernels.edge import ops  # noqa: E402
from causalmmm.kernels.edge.noise import edge_words  # noqa: E402

FEATURES = 8
NAMES = ("operators", "factorised, LayerNorm", "concatenated, BatchNorm")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, nargs="+", default=[8, 16, 32, 64])
    parser.add_argument("--width", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--stores", type=int, nargs="+", default=[1024, 8192, 65536])
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--check", action="store_true", help="correctness alone")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device: nothing was measured")
    correctness()
    if options.check:
        return
    dtype = getattr(torch, options.dtype)
    rows: list[Row] = []
    for nodes, width, stores in product(options.nodes, options.width, options.stores):
        rows += sizes(stores, nodes, width, dtype, options)
        print(table(rows[-1:], ["formulation", "stores", "nodes", "width"], ["milliseconds"]))
    values = ["milliseconds", "times_as_long", "peak_mib", "share_of_floor"]
    print(table(rows, ["stores", "nodes", "width", "pass", "formulation"], values))
    if options.out:
        record(options.out, "edge_gpu", rows, vars(options))


def correctness() -> None:
    """Against eager PyTorch, bit equality of repeats and of noise, and replay of a CUDA graph."""
    for width, dtype in product((32, 64, 128, 256), (torch.float32, torch.bfloat16, torch.float16)):
        check("cuda", dtype, width)
    torch.manual_seed(0)
    model = ENCODERS["operators"](7, 64, FEATURES).cuda().bfloat16()
    h, features = problem(300, 7, 64, torch.bfloat16)
    runs = []
    for _ in range(2):
        model.zero_grad()
        z, kl = model(h, features)
        loss(z, kl).backward()
        runs.append([z, kl, *(p.grad.clone() for p in model.parameters())])
    require(all(map(torch.equal, *runs)), "equal inputs give equal bits")
    store = torch.arange(40) + 2**33
    words = edge_words(5, store.cuda(), 9, 4).cpu()
    require(torch.equal(words, edge_words(5, store, 9, 4)), "noise is that of the CPU")
    replay()
    print("correct: outputs, gradients, repeatability, noise, CUDA graph")


def replay() -> None:
    """One captured graph gives, for each seed put into its tensor, what an ordinary call gives."""

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, device="cuda") / shape[-1] ** 0.5

    width, node = 64, (5, 6, 64)
    shapes = [node, node, (width, width), (width,), node, node]
    shapes += [(width, width), (width, width), (width,), (2, width), (2,), (6, 6, 2)]
    tensors, seed = [draw(*shape) for shape in shapes], torch.tensor(1, device="cuda")
    tau = torch.tensor(0.5, device="cuda")
    store = torch.arange(5, device="cuda")

    def call() -> Tensor:
        return ops.edge_sample(*tensors, None, None, tau, seed, store, False)[0]

    call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = call()
    for number in (1, 2, 2**40):
        seed.fill_(number)
        graph.replay()
        expected = edge_sample(*tensors, temperature=0.5, seed=number, store=store).z
        require(torch.equal(captured, expected), f"replay with seed {number}")


def require(holds: bool, what: str) -> None:
    if not holds:
        raise SystemExit(f"failed: {what}")


def problem(stores: int, nodes: int, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    h = torch.randn(stores, nodes, width, device="cuda", dtype=dtype, requires_grad=True)
    return h, torch.randn(stores, nodes, nodes, FEATURES, device="cuda", dtype=dtype)


def sizes(
    stores: int, nodes: int, width: int, dtype: torch.dtype, options: argparse.Namespace
) -> list[Row]:
    """Forward alone, and forward with backward, of every formulation."""
    args, element = (stores, nodes, width, FEATURES), dtype.itemsize
    ahead, back = roofline.forward(*args, element), roofline.backward(*args, element)
    floors = {"forward": ahead.floor(), "forward and backward": ahead.floor() + back.floor()}
    found: dict[tuple[str, str], Row] = {}
    for name in NAMES:
        kinds = [name] if name == "operators" or options.no_compile else [name, f"{name}, compiled"]
        for kind in kinds:
            torch.compiler.reset()
            model = ENCODERS[name](nodes, width, FEATURES).cuda().to(dtype)
            if kind != name:
                model = torch.compile(model)
            for what in floors:
                found[what, kind] = measure(model, what, (stores, nodes, width), dtype, options)
    rows = []
    for (what, kind), row in found.items():
        ours = found[what, "operators"]
        same = {"stores": stores, "nodes": nodes, "width": width, "dtype": options.dtype}
        row = {"pass": what, "formulation": kind, **same, **row}
        if "milliseconds" in row and "milliseconds" in ours:
            row["times_as_long"] = row["milliseconds"] / ours["milliseconds"]
            row["share_of_floor"] = floors[what] * 1e3 / row["milliseconds"]
        rows.append(row)
    return rows


def measure(
    model: nn.Module,
    what: str,
    size: tuple[int, int, int],
    dtype: torch.dtype,
    options: argparse.Namespace,
) -> Row:
    h, features = problem(*size, dtype)

    def train() -> None:
        model.zero_grad()
        h.grad = None
        loss(*model(h, features)).backward()

    def infer() -> None:
        with torch.no_grad():
            model(h, features)

    work = infer if what == "forward" else train
    try:
        work()
        work()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        memory = (torch.cuda.max_memory_allocated() - before) / 2**20
        return {"milliseconds": cold(work, options.rounds), "peak_mib": memory}
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
        return {"note": "does not fit"}


def cold(work: Callable[[], None], rounds: int) -> float:
    """Median milliseconds, with the second-level cache flushed before each round."""
    flush = torch.empty(256 << 20, dtype=torch.int8, device="cuda")
    times = []
    for _ in range(rounds):
        flush.zero_()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return median(times)


if __name__ == "__main__":
    main()
