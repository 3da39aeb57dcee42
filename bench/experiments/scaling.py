"""Table 4: what size costs, and what it buys.

    python -m bench.experiments.scaling                       # all four parts
    python -m bench.experiments.scaling --parts epochs --rounds 3
    python -m bench.experiments.scaling --parts epochs --device cuda --stores 1000 100000
    python -m bench.experiments.scaling --quick               # small sizes, into runs/

The picture shows the parts of earlier runs too.

epochs   seconds per epoch against stores (N = 8, T = 100, H = 32): the fastest epoch, first ones
         apart; ``--series`` varies N at ``--series-stores`` stores.
quality  edges of 200 stores that no fit saw, T = 60, after training on ever more others.
memory   peak resident set of a new process that draws ``marketplace`` (100,000 stores x
         180 days x 16 series) and trains one epoch on it.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.experiments.ablations import graph_metrics
from bench.lib.dot_plot import INK, OURS
from bench.lib.options import with_defaults
from bench.lib.record import Row, record, table
from bench.lib.result_log import read_rows
from causalmmm.data.panel import Panel
from causalmmm.simulation import PRESETS, simulate

DRAWN = ("epochs", "series", "quality")
PARTS = (*DRAWN, "memory")
USUAL: dict[str, Any] = {
    "stores": [50, 300, 1_000, 3_000, 10_000, 30_000, 100_000],
    "series": [8, 16, 32, 64],
    "series_stores": 1_000,
    "training": [300, 1_000, 10_000],
    "held_out": 200,
    "rounds": 1,
    "seeds": [0, 1, 2, 3, 4],
    "memory_stores": 100_000,
    "settings": "{}",
}
QUICK: dict[str, Any] = {
    "stores": [50, 300, 1_000],
    "series": [8, 16],
    "series_stores": 100,
    "training": [50, 300],
    "held_out": 50,
    "seeds": [0],
    "memory_stores": 1_000,
    "settings": '{"steps": 150}',
}
MEMORY_GIB = 4.0


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    settings = {"device": options.device, **json.loads(options.settings)}
    if options.measure_memory:
        print(json.dumps(peak_memory(options.memory_stores, options.memory_steps, settings)))
        return []
    parts: dict[str, list[Row]] = {}
    if "epochs" in options.parts:
        sizes = [(stores, 8) for stores in options.stores]
        parts["epochs"] = epochs(sizes, options.epochs, options.rounds, settings)
    if "series" in options.parts:
        sizes = [(options.series_stores, series) for series in options.series]
        parts["series"] = epochs(sizes, options.epochs, options.rounds, settings)
    if "quality" in options.parts:
        parts["quality"] = quality(options.training, options.held_out, options.seeds, settings)
    if "memory" in options.parts:
        parts["memory"] = [_peak_memory_in_a_new_process(options)]
    suffix = "" if options.device == "cpu" else f"-{options.device}"
    for part, rows in parts.items():
        notes = {"limit_gib": MEMORY_GIB} if part == "memory" else {}
        if part in ("epochs", "series"):
            notes = {"slope": slope(rows, "stores" if part == "epochs" else "series")}
        record(options.out, f"scaling-{part}{suffix}", rows, vars(options) | notes)
        _print(part, rows, notes)
    measured = {part: read_rows(options.out / f"scaling-{part}{suffix}.csv") for part in DRAWN}
    if any(measured.values()):
        picture(measured).savefig(options.out / f"scaling{suffix}.png", dpi=120)
    return [row for rows in parts.values() for row in rows]


def epochs(
    sizes: Sequence[tuple[int, int]], count: int, rounds: int, settings: dict[str, Any]
) -> list[Row]:
    """One row per (stores, series): T = 100, hidden width 32, ``count`` epochs.

    The sizes take turns, ``rounds`` times, and each keeps its fastest epoch: on a shared machine a
    slow minute would otherwise bend the slope.
    """
    from causalmmm.model.estimator import CausalMMM

    rows: dict[tuple[int, int], Row] = {}
    for stores, series in [size for _ in range(rounds) for size in sizes]:
        panel, _ = simulate("paper-small", stores=stores, channels=series - 2, seed=0)
        # Neither early stopping nor what stores prove to share so early decides what is timed.
        fixed = {"hidden": 32, "epochs": count, "patience": count + 1, "structure": "learned"}
        began = time.perf_counter()
        model = CausalMMM(**{"seed": 0, **fixed, **settings}).fit(panel, progress=False)
        total = time.perf_counter() - began
        rate = float(model.history_["stores_per_second"].iloc[1:].max())
        if (stores, series) not in rows or rate > rows[stores, series]["stores_per_second"]:
            rows[stores, series] = {
                "stores": stores,
                "series": series,
                "seconds_per_epoch": stores / rate,
                "stores_per_second": rate,
                "epochs": count,
                "fit_seconds": total,
            }
        del panel, model
        gc.collect()
    return list(rows.values())


def quality(
    training: Sequence[int], held_out: int, seeds: Sequence[int], settings: dict[str, Any]
) -> list[Row]:
    """One row per seed and number of training stores; the held-out stores are always the same.

    ``paper-small`` with 60 days and 12 archetypes: short histories of many kinds of stores,
    where other stores hold information that a store's own history lacks.
    """
    from causalmmm.model.estimator import CausalMMM

    law = PRESETS["paper-small"].changed(name="short", steps=60, archetypes=12)
    rows: list[Row] = []
    for seed in seeds:
        panel, truth = simulate(law, stores=held_out + max(training), seed=seed)
        hidden, edges = panel.select(panel.stores[:held_out]), truth.edges[:held_out]
        for count in training:
            others: Panel = panel.select(panel.stores[held_out : held_out + count])
            began = time.perf_counter()
            model = CausalMMM(**{"seed": seed, **settings}).fit(others, progress=False)
            row: Row = {"seed": seed, "training stores": count}
            row |= graph_metrics(model, hidden, edges)
            rows.append(row | {"fit_seconds": time.perf_counter() - began})
    return rows


def slope(rows: Sequence[Row], size: str) -> float:
    """Least-squares slope of log seconds per epoch on log size; 1 is linear growth."""
    if len(rows) < 2:
        return math.nan
    x, y = (np.log([row[name] for row in rows]) for name in (size, "seconds_per_epoch"))
    return float(np.polyfit(x, y, 1)[0])


def peak_memory(stores: int, steps: int | None, settings: dict[str, Any]) -> Row:
    """Draw the marketplace preset and train one epoch on it, in this process."""
    from causalmmm.model.estimator import CausalMMM

    panel, truth = simulate("marketplace", stores=stores, steps=steps, seed=0)
    drawn = _peak_gib()
    del truth
    model = CausalMMM(**{"epochs": 1, **settings}).fit(panel, progress=False)
    return {
        "stores": panel.n_stores,
        "steps": int(panel.lengths.max()),
        "series": len(panel.nodes),
        "peak_gib": _peak_gib(),
        "drawn_gib": drawn,
        "stores_per_second": float(model.history_["stores_per_second"].iloc[-1]),
    }


def picture(parts: dict[str, list[Row]]) -> Figure:
    """Seconds per epoch against stores and series, and what more training stores buy; parts
    without rows are left out."""
    drawn = [part for part in DRAWN if parts[part]]
    figure = Figure(figsize=(4.0 * len(drawn), 3.9))
    for axes, part in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
        if part == "quality":
            _draw_quality(axes, parts[part])
        else:
            _draw_seconds(axes, parts[part], "stores" if part == "epochs" else "series")
        axes.legend(frameon=False, fontsize=8)
        axes.title.set_fontsize(10)
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure


def _draw_seconds(axes: Axes, rows: Sequence[Row], size: str) -> None:
    x, y = ([row[name] for row in rows] for name in (size, "seconds_per_epoch"))
    axes.plot(x, y, "o-", color=OURS, label="measured")
    power, name = (2, "growth with pairs") if size == "series" else (1, "linear growth")
    guide = [y[-1] * (v / x[-1]) ** power for v in x]
    axes.plot(x, guide, "--", color=INK, lw=0.8, label=f"{name}, through the last")
    axes.set(xscale="log", yscale="log", xlabel=size, title=f"seconds per epoch, by {size}")
    _name_ticks(axes, x)


def _draw_quality(axes: Axes, rows: Sequence[Row]) -> None:
    counts = sorted({row["training stores"] for row in rows})
    for value, name in (("auroc", "AUROC"), ("heterogeneous_auroc", "heterogeneous-edge AUROC")):
        samples = [[r[value] for r in rows if r["training stores"] == c] for c in counts]
        mean, spread = ([float(f(v)) for v in samples] for f in (np.mean, np.std))
        colour = INK if value == "auroc" else OURS
        axes.errorbar(counts, mean, yerr=spread, fmt="o-", color=colour, capsize=2, label=name)
    axes.set(xscale="log", xlabel="training stores", title="graphs of stores not trained on")
    _name_ticks(axes, counts)


def _name_ticks(axes: Axes, sizes: Sequence[float]) -> None:
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize=8)
    axes.minorticks_off()


def _print(part: str, rows: Sequence[Row], notes: dict[str, float]) -> None:
    columns = {
        "epochs": (["stores", "series"], ["seconds_per_epoch", "stores_per_second", "fit_seconds"]),
        "quality": (["training stores"], ["heterogeneous_auroc", "auroc", "auprc", "fit_seconds"]),
        "memory": (["stores", "steps"], ["peak_gib", "drawn_gib", "stores_per_second"]),
    }
    print(table(rows, *columns["epochs" if part == "series" else part], f"\n{part}"))
    for name, value in notes.items():
        print(f"{name}: {value:.3g}")


def _peak_memory_in_a_new_process(options: argparse.Namespace) -> Row:
    command = [sys.executable, "-m", "bench.experiments.scaling", "--measure-memory"]
    command += ["--settings", options.settings, "--memory-stores", str(options.memory_stores)]
    command += ["--threads", str(options.threads), "--device", options.device]
    if options.memory_steps is not None:
        command += ["--memory-steps", str(options.memory_steps)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    row: Row = json.loads(done.stdout.splitlines()[-1])
    return row


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--stores", type=int, nargs="+", help="sizes timed at 8 series")
    parser.add_argument("--series", type=int, nargs="+", help="numbers of series timed")
    parser.add_argument("--series-stores", type=int, help="stores at which series are varied")
    parser.add_argument("--training", type=int, nargs="+", help="training stores of part quality")
    parser.add_argument("--held-out", type=int)
    parser.add_argument("--seeds", type=int, nargs="+", help="of part quality")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, help="turns of part epochs")
    parser.add_argument("--memory-stores", type=int)
    parser.add_argument("--memory-steps", type=int)
    parser.add_argument("--settings", help="parameters of CausalMMM as JSON")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="small, into runs/ unless --out")
    parser.add_argument("--measure-memory", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    return with_defaults(options, USUAL, QUICK)


if __name__ == "__main__":
    main()
