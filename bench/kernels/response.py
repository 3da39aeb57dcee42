"""Speed of the response operator, beside PyTorch formulations of it and a plain copy, in one run.

    python -m bench.kernels.response --out bench/results                   # CPU, 1 and 2 threads
    python -m bench.kernels.response --device cuda --out bench/results     # 1e8 elements on a GPU

Timed by pytest-benchmark; the table and the recorded rows are the fastest round of each case. Bytes
are those that must move: x and the response in a forward pass; x and two gradients in a backward
one. Formulations are checked against the operator before they are timed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.kernels import formulations
from bench.lib.record import Row, record, table
from causalmmm.kernels import adstock_hill
from causalmmm.kernels.response import backend

Case = Callable[..., torch.Tensor]


def operator(*inputs: torch.Tensor) -> torch.Tensor:
    return adstock_hill(*inputs)[0]


EAGER: dict[str, Case] = {
    "loop over time": formulations.loop_by_index,
    "loop over time, unbound": formulations.loop,
    "log-depth scan": formulations.scan,
    "chunked matrix product": formulations.chunked,
}
FORWARD_ONLY: dict[str, Case] = {"loop over time, in place": formulations.loop_in_place}
COMPILED = {
    "torch.compile of the loop": "loop over time, unbound",
    "torch.compile of the scan": "log-depth scan",
}


class Session:
    """The cases of this run and the rows measured so far, as a pytest plugin."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.rows: list[Row] = []

    def cases(self) -> list[tuple[str, str, int]]:
        """(formulation, pass, threads)."""
        names = ["copy", "operator"]
        if self.options.device == "cpu":
            names += [*EAGER, *FORWARD_ONLY]
            names += [] if self.options.no_compile else [*COMPILED]
        else:
            names += ["log-depth scan"]
        cases = []
        for threads in self.options.threads:
            for name in names:
                timed_at_all_threads = name in ("copy", "operator")
                if threads == self.options.threads[0] or timed_at_all_threads:
                    cases.append((name, "forward", threads))
                    if name != "copy" and name not in FORWARD_ONLY:
                        cases.append((name, "forward and backward", threads))
        return cases

    def inputs(self) -> list[torch.Tensor]:
        g = torch.Generator().manual_seed(0)
        rows, steps, device = self.options.rows, self.options.steps, self.options.device
        dtype = getattr(torch, self.options.dtype)
        x = torch.rand(rows, steps, generator=g).add_(0.01)
        params = [torch.rand(rows, 1, generator=g) for _ in range(3)]
        decay, slope, half = params[0] * 0.95, params[1] * 2 + 0.6, params[2] + 0.3
        return [x.to(device, dtype), decay.to(device), slope.to(device), half.to(device)]

    # pytest hooks
    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        metafunc.parametrize(("name", "what", "threads"), self.cases())

    @pytest.fixture
    def session(self) -> Session:
        return self


def test_speed(session: Session, benchmark: Any, name: str, what: str, threads: int) -> None:
    inputs = session.inputs()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        seconds = _time(benchmark, name, what, inputs)
    finally:
        torch.set_num_threads(before)
    elements = inputs[0].numel()
    moved = {"forward": 2, "forward and backward": 5}[what] * elements * inputs[0].element_size()
    session.rows.append(
        {
            "formulation": name,
            "pass": what,
            "threads": threads,
            "dtype": session.options.dtype,
            "rows": inputs[0].shape[0],
            "steps": inputs[0].shape[1],
            "milliseconds": seconds * 1e3,
            "gigabytes_per_second": moved / seconds / 1e9,
        }
    )


def _time(benchmark: Any, name: str, what: str, inputs: list[torch.Tensor]) -> float:
    """Seconds of the fastest round."""
    wait = torch.cuda.synchronize if inputs[0].is_cuda else (lambda: None)
    if name == "copy":
        target = torch.empty_like(inputs[0])
        work = lambda: target.copy_(inputs[0])  # noqa: E731
    else:
        function = _function(name)
        with torch.no_grad():
            tolerance = 1e-5 if inputs[0].dtype == torch.float32 else 2e-2
            torch.testing.assert_close(
                function(*inputs), operator(*inputs), atol=tolerance, rtol=0, check_dtype=False
            )
        if what == "forward":
            work = torch.no_grad()(lambda: function(*inputs))
        else:
            leaves = [v.requires_grad_() for v in inputs]
            weight = torch.ones_like(inputs[0])
            work = lambda: torch.autograd.grad(function(*leaves), leaves, weight)  # noqa: E731

    def once() -> None:
        work()
        wait()

    slow = "loop over time" in name and what != "forward"
    benchmark.pedantic(once, rounds=5 if slow else 20, warmup_rounds=2)
    return float(benchmark.stats.stats.min)


def _function(name: str) -> Case:
    if name == "operator":
        return operator
    if name in COMPILED:
        return torch.compile(EAGER[COMPILED[name]])
    return {**EAGER, **FORWARD_ONLY}[name]


def ratios(rows: list[Row]) -> list[Row]:
    """Adds how many times as long as the operator each case takes, at the same pass and threads,
    and the operator's bandwidth as a share of the copy's."""
    ours = {(r["pass"], r["threads"]): r for r in rows if r["formulation"] == "operator"}
    copies = {r["threads"]: r for r in rows if r["formulation"] == "copy"}
    for row in rows:
        operator_row = ours[row["pass"], row["threads"]]
        row["times_operator"] = row["milliseconds"] / operator_row["milliseconds"]
        copy = copies[row["threads"]]
        row["share_of_copy"] = row["gigabytes_per_second"] / copy["gigabytes_per_second"]
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    options.rows = options.rows or (4096 if options.device == "cpu" else 195_312)
    if backend(torch.empty(1, device=options.device)) != "compiled":
        print("the extension is not built for this device: there is nothing to measure")
        return 2
    session = Session(options)
    quiet = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib", "--benchmark-disable-gc"]
    status = pytest.main([__file__, *quiet, "-o", "python_files=response.py"], plugins=[session])
    if status != 0:
        return int(status)
    rows = ratios(session.rows)
    columns = ["milliseconds", "gigabytes_per_second", "times_operator", "share_of_copy"]
    print(table(rows, ["formulation", "pass", "threads"], columns))
    name = f"response-{options.device}-{options.dtype}"
    record(options.out, name, rows, {**vars(options), "torch_threads": options.threads})
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--rows", type=int, help="4096 on a CPU, 195312 (1e8 elements) on a GPU")
    parser.add_argument("--steps", type=int, default=512)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
