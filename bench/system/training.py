"""One training update: with the operators, by plain PyTorch, and by torch.compile of that.

    python -m bench.system.training --out bench/results
    python -m bench.system.training --compile --shapes 8x100x32 --out bench/results   # minutes

CPU seconds on one thread, so that other work on the machine matters little; formulations take
turns, and of each the fastest update counts. ``draw`` is the time in which the windows are drawn,
``launches`` the operators of an update that compute something (views are free).
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import causalmmm.engine.nn.decoder as decoder
import causalmmm.engine.nn.encoder as encoder
import causalmmm.kernels.calendar as calendar
import causalmmm.kernels.evidence as evidence
import causalmmm.kernels.likelihood as likelihood
import causalmmm.kernels.posterior as posterior
import causalmmm.kernels.response as responses
from bench.kernels.edge_epoch import plain_mean, plain_sample
from bench.lib.record import Row, record, table
from causalmmm import CausalMMM, simulate
from causalmmm.engine.batches.batch import Batch
from causalmmm.engine.batches.windows import Windows
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.spec.config import TrainConfig
from causalmmm.engine.training.cuda_graphs import Updates
from causalmmm.engine.training.schedule import parameter_groups, stores_per_update
from causalmmm.kernels.response import reference as response

OPTIONS: dict[str, Any] = {
    "rate": 1e-3,
    "temperature": 1.0,
    "seed": 1,
    "kl_weight": 1.0,
    "store_log_bf": None,
}


# Operators that return memory or mark a time without computing anything.
_FREE = ("aten._unsafe_view", "aten.empty", "aten.new_empty", "profiler.")


class Launches(TorchDispatchMode):
    """Counts operators that compute something, as on a GPU each is at least one kernel; views and
    fresh memory are free."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        returned = function._schema.returns
        views = any(r.alias_info is not None and not r.alias_info.is_write for r in returned)
        if not views and not str(function).startswith(_FREE):
            self.counts[str(function)] += 1
        return function(*args, **(kwargs or {}))


@contextmanager
def plain_pytorch() -> Iterator[None]:
    """Every operator of the model in its plain form."""
    places = [
        (encoder, "edge_mean", plain_mean),
        (encoder, "edge_sample", plain_sample),
        (decoder, "adstock_hill", response.adstock_hill),
        *(
            (module, "BUILT", False)
            for module in (calendar, evidence, likelihood, posterior, responses)
        ),
    ]
    before = [getattr(module, name) for module, name, _ in places]
    for module, name, value in places:
        setattr(module, name, value)
    try:
        yield
    finally:
        for (module, name, _), value in zip(places, before, strict=True):
            setattr(module, name, value)


def setting(nodes: int, steps: int, hidden: int) -> tuple[CausalModel, Windows, int]:
    """A model after one epoch on a panel of the simulator, its windows, and the usual batch."""
    panel, _ = simulate("paper-small", stores=300, channels=nodes - 2, steps=steps, seed=0)
    fitted = CausalMMM(seed=0, hidden=hidden, epochs=1, structure="learned")
    fitted.fit(panel, progress=False)
    windows = fitted._windows(panel.data)
    assert isinstance(fitted.model_, CausalModel)
    return fitted.model_.train(), windows, stores_per_update(windows)


def cpu_seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def measure(nodes: int, steps: int, hidden: int, rounds: int, compiled: bool) -> list[Row]:
    """One row per formulation."""
    model, windows, stores = setting(nodes, steps, hidden)
    config, rng = TrainConfig(), np.random.default_rng(0)
    chosen = np.arange(stores)
    batch: Batch = windows.cross(chosen, config.target_share, rng)
    update = Updates(
        model, parameter_groups(model, config), config, stores=stores, device=torch.device("cpu")
    )

    def operators() -> None:
        update(batch, **OPTIONS)

    def plain() -> None:
        with plain_pytorch():
            update(batch, **OPTIONS)

    ways: dict[str, Callable[[], None]] = {"operators": operators, "plain PyTorch": plain}
    if compiled:
        whole = torch.compile(model)

        def by_compile() -> None:
            with plain_pytorch():
                update.model = whole  # type: ignore[assignment]
                update(batch, **OPTIONS)
                update.model = model

        ways["torch.compile of it"] = by_compile
    launches = {}
    for name, way in ways.items():
        way()
        if name != "torch.compile of it":
            with Launches() as counted:
                way()
            launches[name] = counted.counts.total()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    draws: list[float] = []
    for _ in range(rounds):
        for name, way in ways.items():
            seconds[name].append(cpu_seconds(way))
        draws.append(cpu_seconds(lambda: windows.cross(chosen, config.target_share, rng)))
    draw, fastest = min(draws), min(seconds["operators"])
    return [
        {
            "shape": f"N={nodes} T={steps} H={hidden}",
            "stores": stores,
            "formulation": name,
            "launches": launches.get(name),
            "update_us_a_store": min(times) / stores * 1e6,
            "draw_us_a_store": draw / stores * 1e6,
            "stores_a_cpu_second": stores / (min(times) + draw),
            "times_as_long": min(times) / fastest,
        }
        for name, times in seconds.items()
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shapes", nargs="+", default=["8x100x32", "16x180x64"])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--compile", action="store_true", help="torch.compile as well")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = []
    for shape in options.shapes:
        nodes, steps, hidden = map(int, shape.split("x"))
        rows += measure(nodes, steps, hidden, options.rounds, options.compile)
    values = ["launches", "update_us_a_store", "draw_us_a_store", "stores_a_cpu_second"]
    print(table(rows, ["shape", "stores", "formulation"], [*values, "times_as_long"]))
    if options.out:
        name = "training-update-compile" if options.compile else "training-update"
        record(options.out, name, rows, vars(options))


if __name__ == "__main__":
    main()
