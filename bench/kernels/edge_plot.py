"""Draws what edge_sweep recorded: time against the number of edges, beside the roofline.

    python -m bench.kernels.edge_plot bench/results/edge_sweep_cuda.csv

Runs on the results alone: nothing is measured here.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

COLUMNS = ["pass", "formulation", "stores", "nodes", "width", "milliseconds", "floor_milliseconds"]
# Okabe and Ito's colours, which most colour-blind readers can tell apart.
STYLES = {
    "operators": ("#D55E00", "o-"),
    "factorised, LayerNorm": ("#0072B2", "s-"),
    "factorised, LayerNorm, compiled": ("#0072B2", "s:"),
    "concatenated, BatchNorm": ("#555555", "^-"),
    "concatenated, BatchNorm, compiled": ("#555555", "^:"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("results", type=Path, help="the CSV; the picture is written beside it")
    print(plot(parser.parse_args(arguments).results))


def plot(results: Path) -> Path:
    frame = pd.read_csv(results).reindex(columns=COLUMNS)
    frame["edges"] = frame["stores"] * frame["nodes"] * (frame["nodes"] - 1)
    widths, passes = sorted(frame["width"].unique()), ["forward", "forward and backward"]
    size = 3.4 * len(widths) + 0.6, 3.0 * len(passes) + 0.9
    figure, axes = plt.subplots(
        len(passes), len(widths), figsize=size, sharex=True, sharey="row", squeeze=False
    )
    for row, what in zip(axes, passes, strict=True):
        for axis, width in zip(row, widths, strict=True):
            panel(axis, frame[(frame["pass"] == what) & (frame["width"] == width)])
            axis.set_title(f"{what}, H = {width}", fontsize=10)
        row[0].set_ylabel("milliseconds, caches cold")
    for axis in axes[-1]:
        axis.set_xlabel("edges")
    legend = {
        label: handle
        for axis in axes.flat
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.set_layout_engine("constrained")
    layout = {"loc": "outside lower center", "ncols": 3, "fontsize": 9, "frameon": False}
    figure.legend(legend.values(), legend.keys(), **layout)
    figure.suptitle(title(results), fontsize=11)
    path = results.with_suffix(".png")
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


def panel(axis: Axes, frame: pd.DataFrame) -> None:
    """Several sizes may have equally many edges: the median of them is drawn."""
    timed = frame.dropna(subset=["milliseconds"])
    for name, (colour, style) in STYLES.items():
        times = timed[timed["formulation"] == name].groupby("edges")["milliseconds"].median()
        if len(times):
            axis.plot(times.index, times, style, color=colour, label=name, ms=4, linewidth=1.4)
    floor = timed.groupby("edges")["floor_milliseconds"].median().dropna()
    if len(floor):
        axis.plot(floor.index, floor, "--", color="black", label="roofline", linewidth=1.0)
    axis.set(xscale="log", yscale="log")
    axis.grid(color="#dddddd", linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)


def title(results: Path) -> str:
    header = json.loads(results.with_suffix(".json").read_text(encoding="utf-8"))
    machine, settings = header["machine"], header["settings"]
    on_cpu = f"{machine['cpu']}, {settings['threads']} thread(s)"
    device = machine["gpu"] if settings["device"] == "cuda" else on_cpu
    return f"The two edge passes on {device}, {settings['dtype']}"


if __name__ == "__main__":
    main()
