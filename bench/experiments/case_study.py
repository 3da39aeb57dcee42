"""Case study: one beauty store of the simulator, from its panel to an analyst's conclusions.

    python -m bench.experiments.case_study             # writes case-study.md, .png, .csv, .json
    python -m bench.experiments.case_study --quick     # few stores and epochs, into runs/

The store is chosen by its true graph, before any fit: the one most like brand advertising that
brings page views and feeds conversion channels, which sell. (The simulator has no edges from page
views to channels.) Every sentence is written from the numbers, and judged by the truth.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from numpy.typing import NDArray

from bench.experiments.effects import true_curve
from bench.lib.dot_plot import INK, OURS, PALE
from bench.lib.options import with_defaults
from bench.lib.record import Row, record, table
from causalmmm.data.panel import Panel
from causalmmm.model.estimator import CausalMMM
from causalmmm.simulation import PRESETS, Truth, simulate

Array = NDArray[np.float64]
LAW = PRESETS["airmmm"].changed(name="beauty", channels=6, target_to_channel=0.05)
CONVERSION = ("search ads", "live streams", "affiliates", "coupons", "feed ads")
WRONG = "#c2410c"
USUAL = {"stores": 50, "settings": "{}"}
QUICK = {"stores": 20, "settings": '{"epochs": 60}'}


@dataclass(frozen=True)
class Curve:
    """What constant spend on a channel adds to the target per day in the long run, but not through
    other series, in the units of both.

    amount [K], from nothing to twice the most ever spent; learned, with its central 90 % interval,
    and true. ``usual`` is the mean spend.
    """

    channel: str
    usual: float
    amount: Array
    learned: Array
    lower: Array
    upper: Array
    true: Array


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    seed, brand, store = choose(range(options.draws))
    panel, truth = simulate(LAW, seed=seed, stores=max(options.stores, store + 1))
    names = series_names(truth, brand, store)
    panel = renamed(panel, truth.nodes, names)
    settings = {"seed": seed, **json.loads(options.settings)}
    model = CausalMMM(**settings).fit(panel, progress=False)
    rows = edge_rows(model, panel, truth, store, names)
    curves = response_curves(model, panel, truth, store, names)
    text = conclusions(rows, curves, names, brand)
    print(table(rows, ["source", "target"], ["true edge", "probability", "effect"]))
    print("\n" + text)
    record(options.out, "case-study", rows, vars(options) | {"law": LAW, "drawn_with_seed": seed})
    (options.out / "case-study.md").write_text(text, encoding="utf-8")
    picture(rows, curves, names, brand).savefig(options.out / "case-study.png", dpi=120)
    return rows


def choose(seeds: Sequence[int] | range) -> tuple[int, int, int]:
    """Seed, brand channel and store whose true graph is most like the story."""
    best = (-np.inf, 0, 0, 0)
    for seed in seeds:
        _, truth = simulate(LAW, seed=seed, stores=12, steps=2)
        pv, gmv, channels = LAW.channels, LAW.n_nodes - 1, range(LAW.channels)
        for store, edges in enumerate(truth.edges):
            for brand in channels:
                fed = sum(edges[brand, k] and edges[k, gmv] for k in channels)
                story = 2 * edges[brand, pv] + 2 * edges[pv, gmv] + min(int(fed), 2)
                best = max(best, (story - 0.1 * float(edges.sum()), -seed, -brand, -store))
    return -int(best[1]), -int(best[2]), -int(best[3])


def series_names(truth: Truth, brand: int, store: int) -> tuple[str, ...]:
    """Names in node order; conversion channels that sell come first in the list of names."""
    sells = truth.edges[store, : LAW.channels, -1]
    others = sorted((k for k in range(LAW.channels) if k != brand), key=lambda k: (not sells[k], k))
    names = {brand: "brand video"} | dict(zip(others, CONVERSION, strict=True))
    return (*(names[k] for k in range(LAW.channels)), "page views", "GMV")


def renamed(panel: Panel, nodes: Sequence[str], names: Sequence[str]) -> Panel:
    frame = panel.to_frame().rename(columns=dict(zip(nodes, names, strict=True)))
    roles = {"channels": names[: LAW.channels], "mediators": names[-2:-1], "target": names[-1]}
    schema = panel.schema.model_validate({**panel.schema.model_dump(exclude_unset=True), **roles})
    return Panel.from_frame(frame, schema)


def edge_rows(
    model: CausalMMM, panel: Panel, truth: Truth, store: int, names: Sequence[str]
) -> list[Row]:
    """Every pair that is an edge in truth or is given a probability of at least one half."""
    frame = model.graphs(panel.select([panel.stores[store]]))
    rows: list[Row] = []
    for record_ in frame.to_dict("records"):
        i, j = names.index(record_["source"]), names.index(record_["target"])
        row = {k: record_[k] for k in ("source", "target", "probability", "effect")}
        row["true edge"] = bool(truth.edges[store, i, j])
        if row["true edge"] or row["probability"] >= 0.5:
            rows.append(row)
    return rows


def response_curves(
    model: CausalMMM, panel: Panel, truth: Truth, store: int, names: Sequence[str]
) -> list[Curve]:
    """Curves of the channels that truly drive the target."""
    one_store = panel.select([panel.stores[store]])
    spend = one_store.to_frame()
    curves = []
    for i in np.flatnonzero(truth.edges[store, : LAW.channels, -1]):
        frame = model.response_curves(names[i], panel=one_store, points=200)
        amount, *learned = (
            frame[column].to_numpy(np.float64) for column in ("amount", "effect", "lower", "upper")
        )
        true = true_curve(truth, store, i, amount)
        curves.append(Curve(names[i], float(spend[names[i]].mean()), amount, *learned, true))
    return curves


def conclusions(
    rows: Sequence[Row], curves: Sequence[Curve], names: Sequence[str], brand: int
) -> str:
    """What an analyst would conclude from the learned numbers, each with what is true."""
    probability = {(r["source"], r["target"]): r["probability"] for r in rows}
    true = {(r["source"], r["target"]) for r in rows if r["true edge"]}
    learned = {pair for pair, p in probability.items() if p >= 0.5}
    video, pv, gmv = names[brand], names[-2], names[-1]
    lines = ["# A beauty store: what the model says, and whether it is so", ""]

    def judge(claim: str, right: bool, fact: str) -> None:
        lines.append(f"- {claim} **{'True' if right else 'Not so'}**: {fact}.")

    direct = sorted(s for s, t in learned if t == gmv)
    actual = sorted(s for s, t in true if t == gmv)
    judge(
        f"What sells directly: {', '.join(direct) or 'nothing'}.",
        direct == actual,
        f"in truth {', '.join(actual)}",
    )
    for target in [pv, *(n for n in names if (n, gmv) in true and n != pv)]:
        is_learned, is_edge = (video, target) in learned, (video, target) in true
        chance = probability.get((video, target))
        wording = f"(probability {chance:.2f})" if chance is not None else "(probability below 0.5)"
        judge(
            f"{video} {'drives' if is_learned else 'does not drive'} {target} {wording}.",
            is_learned == is_edge,
            f"there is {'an' if is_edge else 'no'} edge",
        )
    for curve in curves:
        if (curve.channel, gmv) not in learned:
            continue
        at = [0.0, curve.usual, 2.0 * curve.usual]
        gains = [np.diff(np.interp(at, curve.amount, c)) for c in (curve.learned, curve.true)]
        judge(
            f"The usual spend on {curve.channel} directly adds {gains[0][0]:,.0f} a day to {gmv}, "
            f"and doubling it {gains[0][1]:,.0f} more.",
            all(0.5 <= ours / actual <= 2.0 for ours, actual in zip(*gains, strict=True)),
            f"{gains[1][0]:,.0f} and {gains[1][1]:,.0f} in truth",
        )
    false = sorted(learned - true)
    missed = sorted(true - learned)
    lines += [
        "",
        f"{len(learned & true)} of {len(true)} true edges found, {len(false)} false ones"
        + (f" ({', '.join(f'{a} -> {b}' for a, b in false)})" if false else "")
        + (f"; missed: {', '.join(f'{a} -> {b}' for a, b in missed)}" if missed else "")
        + ". A claim about size counts as true within a factor of two.",
        "",
    ]
    return "\n".join(lines)


def picture(
    rows: Sequence[Row], curves: Sequence[Curve], names: Sequence[str], brand: int
) -> Figure:
    """True and learned graph side by side, and the response curves of the channels that sell."""
    across = max(2, min(4, len(curves)))
    down = -(-len(curves) // across)
    figure = Figure(figsize=(12.0, 4.6 + 2.5 * down))
    grid = figure.add_gridspec(1 + down, 2 * across, height_ratios=[1.75] + [1.0] * down)
    left, right = (
        figure.add_subplot(grid[0, :across]),
        figure.add_subplot(grid[0, across:]),
    )
    truth = {(r["source"], r["target"]): 1.0 for r in rows if r["true edge"]}
    learned = {
        (r["source"], r["target"]): r["probability"] for r in rows if r["probability"] >= 0.5
    }
    _draw_graph(left, truth, names, brand, {}, "true graph")
    wrong = dict.fromkeys(set(learned) - set(truth), WRONG)
    _draw_graph(right, learned, names, brand, wrong, "learned graph (probability >= 0.5)")
    for k, curve in enumerate(curves):
        column = 2 * (k % across)
        axes = figure.add_subplot(grid[1 + k // across, column : column + 2])
        axes.fill_between(curve.amount, curve.lower, curve.upper, color=OURS, alpha=0.2, lw=0)
        axes.plot(curve.amount, curve.learned, color=OURS, lw=1.8, label="learned, 90 % interval")
        axes.plot(curve.amount, curve.true, color=INK, lw=1.2, ls="--", label="true")
        axes.axvline(curve.usual, color=PALE, lw=0.8)
        axes.set_title(f"{curve.channel} → {names[-1]}", fontsize=9.5, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=7.5)
        if k == 0:
            axes.legend(frameon=False, fontsize=7.5)
    figure.suptitle(
        f"A beauty store: what drives what, and what constant spend directly adds to {names[-1]} "
        "per day (upright line: the usual spend)",
        x=0.01, ha="left", fontsize=11,
    )  # fmt: skip
    figure.tight_layout()
    return figure


def _draw_graph(
    axes: Axes,
    edges: dict[tuple[str, str], float],
    names: Sequence[str],
    brand: int,
    colours: dict[tuple[str, str], str],
    title: str,
) -> None:
    """Brand on the left, conversion channels in an arc beside it, then page views, then GMV."""
    others = [n for k, n in enumerate(names[:-2]) if k != brand]
    position = {names[brand]: (0.0, 0.0), names[-2]: (2.3, -1.05), names[-1]: (3.3, 0.0)}
    heights = np.linspace(1.3, -1.3, len(others))
    position |= {n: (1.25 - 0.12 * h * h, h) for n, h in zip(others, heights, strict=True)}
    for (source, target), probability in edges.items():
        among = source in others and target in others  # around the boxes that stand between
        arrow = FancyArrowPatch(
            position[source], position[target], arrowstyle="-|>", mutation_scale=13, shrinkA=22,
            shrinkB=22, connectionstyle=f"arc3,rad={0.5 if among else 0.12}",
            lw=0.6 + 1.6 * probability, color=colours.get((source, target), OURS),
        )  # fmt: skip
        axes.add_patch(arrow)
    for name, (x, y) in position.items():
        box = {"boxstyle": "round,pad=0.35", "fc": "white", "ec": PALE}
        axes.text(x, y, name, ha="center", va="center", fontsize=8.5, color=INK, bbox=box)
    axes.set(xlim=(-0.6, 3.8), ylim=(-1.7, 1.7))
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_axis_off()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--draws", type=int, default=20, help="seeds searched for the store")
    parser.add_argument("--stores", type=int, help="stores to learn from, 50 by default")
    parser.add_argument("--settings", help="parameters of CausalMMM as JSON")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="small, into runs/ unless --out")
    parser.add_argument("--out", type=Path)
    return with_defaults(parser.parse_args(arguments), USUAL, QUICK)


if __name__ == "__main__":
    main()
