"""What an exported model costs to serve, beside the torch model on the same cores in the same run.

    python -m bench.system.serving --out bench/results   # N = 13, T = 180, H = 64, two threads

Stores per second are of graphs and 7-step forecasts together, from arrays to arrays: what a server
does between reading a request and writing an answer. Rates are of the fastest of ``--rounds``
rounds in which the two take turns; latency is the median of single stores. ``draws`` is the choice
behind them: ``interval_error`` is how much the ends of an 80 % interval vary with the seed, in
percent of its width, so that speed can be weighed against it.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.lib.record import Row, record, table
from causalmmm import CausalMMM, Panel
from causalmmm.engine.batches.batch import Batch
from causalmmm.engine.predict.future import Future
from causalmmm.engine.predict.graphs import store_graphs
from causalmmm.engine.predict.noise import draw_noise
from causalmmm.engine.predict.rollout import forecast
from causalmmm.inference.frames import groups
from causalmmm.model.answers import known_future
from causalmmm.runtime import OnnxModel
from causalmmm.runtime.feeds import feeds
from causalmmm.runtime.model import FORECAST, GRAPH
from causalmmm.simulation import simulate

STEPS_AHEAD = 7
LEVELS = (80.0, 95.0)


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    panel, _ = simulate("airmmm", stores=options.stores, steps=options.steps, seed=1)
    model = CausalMMM(
        hidden=options.hidden, epochs=2, horizon=STEPS_AHEAD, seed=0, device="cpu"
    ).fit(panel.select(panel.stores[:40].tolist()), progress=False)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for draws in options.draws:
            path = model.export_onnx(Path(folder) / f"{draws}.onnx", draws=draws)
            row = measure(model, path, panel, draws, options)
            row["interval_error"] = interval_error(model, panel, draws)
            rows.append(row)
            print(table([row], ["draws", "batch"], [k for k in row if k not in ("draws", "batch")]))
    record(options.out, "serving", rows, vars(options))
    return rows


def measure(
    model: CausalMMM, path: Path, panel: Panel, draws: int, options: argparse.Namespace
) -> Row:
    began = time.perf_counter()
    file = OnnxModel(path, threads=options.threads, batch=options.batch)
    load = time.perf_counter() - began
    request: dict[str, Any] = {"steps": STEPS_AHEAD, "levels": LEVELS}
    batches = list(groups(panel, file.window, options.batch))
    fed = [feeds(panel, stores, window=file.window, **request) for stores in batches]
    inputs_of_batches = [{name: arrays[name] for name in file.inputs} for arrays in fed]
    one = feeds(panel, np.array([0]), window=file.window, **request)
    one = {name: one[name] for name in file.inputs}
    windows = model._windows(panel.data, ahead=STEPS_AHEAD)
    torch_batches = [(stores, windows.full(stores)) for stores in batches]
    futures = [
        (batch, known_future(windows, panel, None, stores, batch, STEPS_AHEAD))
        for stores, batch in torch_batches
    ]
    with ThreadPoolExecutor(options.threads) as pool:

        def exported() -> None:
            list(pool.map(lambda inputs: file.run(inputs, GRAPH + FORECAST), inputs_of_batches))

        def ours() -> None:
            for batch, future in futures:
                answer(model, batch, future, draws)

        seconds = fastest({"onnx": exported, "torch": ours}, options.rounds)
    latencies = []
    for _ in range(50):
        began = time.perf_counter()
        file.run(one, GRAPH + FORECAST)
        latencies.append(time.perf_counter() - began)
    began = time.perf_counter()
    file.answer(panel, horizon=STEPS_AHEAD)
    framed = time.perf_counter() - began
    return {
        "draws": draws,
        "batch": options.batch,
        "stores_per_second": panel.n_stores / seconds["onnx"],
        "torch_stores_per_second": panel.n_stores / seconds["torch"],
        "times_torch": seconds["torch"] / seconds["onnx"],
        "frames_stores_per_second": panel.n_stores / framed,
        "one_store_ms": 1e3 * statistics.median(latencies),
        "load_seconds": load,
        "import_seconds": import_seconds(),
        "megabytes": path.stat().st_size / 1e6,
    }


@torch.no_grad()
def answer(model: CausalMMM, batch: Batch, future: Future, draws: int) -> None:
    """Graphs and forecasts of a batch from one inference, as the exported graph gives them."""
    module = model.model_
    inferred = module.infer(batch)
    store_graphs(module, batch, inferred)
    nodes, terms = batch.x.shape[1], future.basis.shape[2]
    noise = draw_noise(nodes, terms, STEPS_AHEAD, draws=draws, seed=0, device=torch.device("cpu"))
    forecast(module, batch, inferred, future, noise, torch.tensor(LEVELS) / 100)


def interval_error(model: CausalMMM, panel: Panel, draws: int, seeds: int = 8) -> float:
    """Standard deviation over seeds of the ends of 80 % intervals, in percent of their width."""
    few = panel.select(panel.stores[:32].tolist())
    kept = model.draws, model.seed
    ends = []
    for seed in range(seeds):
        model.set_params(draws=draws, seed=seed)
        frame = model.predict(few, horizon=STEPS_AHEAD, level=[80])
        ends.append(frame[["lower_80", "upper_80"]].to_numpy())
    model.set_params(draws=kept[0], seed=kept[1])
    interval = np.stack(ends)
    width = (interval[..., 1] - interval[..., 0]).mean(0)
    moving = width > 1e-6 * np.abs(interval).max()
    spread = interval.std(0, ddof=1).mean(-1)
    return float(100 * np.median(spread[moving] / width[moving]))


def fastest(tasks: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Seconds of the fastest round of each; they take turns, so that a slow minute hits both."""
    best = dict.fromkeys(tasks, float("inf"))
    for round_ in range(rounds + 1):  # the first warms up
        for name, task in tasks.items():
            began = time.perf_counter()
            task()
            if round_:
                best[name] = min(best[name], time.perf_counter() - began)
    return best


def import_seconds() -> float:
    """Import of ``causalmmm.runtime`` in a fresh process, the least of five."""
    code = (
        "import time; t = time.perf_counter(); import causalmmm.runtime; "
        "print(time.perf_counter() - t)"
    )
    times = []
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        times.append(float(done.stdout))
    return min(times)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--draws", type=int, nargs="+", default=[64, 32, 16])
    parser.add_argument("--stores", type=int, default=512)
    parser.add_argument("--steps", type=int, default=180)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    return parser


if __name__ == "__main__":
    main()
