"""``demo``: a complete example on simulated data, from stores to graphs, forecasts and metrics."""

from __future__ import annotations

import time
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from causalmmm.cli.answers import forecast_picture
from causalmmm.cli.common import (
    DeviceOption,
    DrawSeed,
    DrawStores,
    ForceOption,
    JsonOption,
    OutFolder,
    QuietOption,
    terminal,
)
from causalmmm.files import write_atomically
from causalmmm.findings import refusal

if TYPE_CHECKING:
    import pandas as pd

HIDDEN = 28
EPOCHS = 120
_FILES = ("forecast.csv", "forecast.png", "graph.png", "graphs.csv", "metrics.json")


def demo(
    out: OutFolder = Path("demo"),
    stores: DrawStores = None,
    epochs: Annotated[int, typer.Option(min=1, help="Maximum epochs of training.")] = EPOCHS,
    seed: DrawSeed = 0,
    device: DeviceOption = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Simulate 50 shops, learn their graphs, forecast 28 hidden days, and evaluate both.

    Writes graph.png, forecast.png, graphs.csv, forecast.csv, metrics.json and model/. Results of an
    earlier demo in the folder are replaced; a folder with other files needs --force.

    \b
    causalmmm demo -o demo
    """
    terminal.start(quiet=quiet, json=json)
    from causalmmm import CausalMMM
    from causalmmm.cli.common import check_device
    from causalmmm.plots import plot_graph
    from causalmmm.simulation import simulate

    _check_folder(out, force)
    began = time.perf_counter()
    panel, truth = simulate("airmmm", seed=seed, stores=stores)
    terminal.say(f"1  simulated {panel!r}", "bold")
    history, hidden = panel.split(HIDDEN)
    terminal.say(f"2  fitting; the last {HIDDEN} days and all true graphs stay hidden", "bold")
    model = CausalMMM(
        epochs=epochs, horizon=HIDDEN, seed=seed, device=check_device(device) or "auto"
    ).fit(history, progress=not quiet)
    terminal.say("3  comparing edges with the truth, forecasts with the hidden days", "bold")
    evaluation = model.evaluate(panel, truth, ["structure", "holdout"])
    forecast = model.predict(history)
    store = str(panel.stores[0])
    out.mkdir(parents=True, exist_ok=True)
    model.save(out / "model", overwrite=True)
    model.graphs(threshold=0.05).to_csv(out / "graphs.csv", index=False)
    forecast.to_csv(out / "forecast.csv", index=False)
    plot_graph(model.graph(store)).savefig(out / "graph.png")
    forecast_picture(forecast, history, store, hidden).savefig(out / "forecast.png")
    metrics = _nested(evaluation)
    metrics["seconds"] = round(time.perf_counter() - began, 1)
    metrics["epochs"] = len(model.history_)
    write_atomically(out / "metrics.json", _text(metrics))
    if json:
        typer.echo(_text(metrics), nl=False)
    else:
        typer.echo(summary(metrics, panel.n_stores, out))


def summary(metrics: dict[str, Any], stores: int, out: Path) -> str:
    """The results in a few lines."""
    edges = metrics["structure"]["all"]["0"]["causalmmm"]
    forecasts = metrics["holdout"]["gmv"][str(HIDDEN)]
    ours = forecasts["causalmmm"]
    naive = ", ".join(
        f"{name} {values['wape']:.1%}" for name, values in forecasts.items() if name != "causalmmm"
    )
    true_share = edges["true_share_80_100"]
    return "\n".join(
        [
            "",
            f"Graphs of {stores} shops, never shown to the model:",
            f"  AUROC {edges['auroc']:.3f}, AUPRC {edges['auprc']:.3f} (guessing: 0.500 "
            f"and {edges['true_edge_share']:.3f})",
            f"  {edges['pairs_80_100']:.0f} edges have a probability of 0.8 or more"
            + ("" if true_share is None else f"; {true_share:.1%} of them are true"),
            f"GMV of the {HIDDEN} hidden days, error as a share of GMV:",
            f"  causalmmm {ours['wape']:.1%} ({naive})",
            f"  its 80 % intervals contain {ours['coverage_80']:.0%} of the days, "
            f"its 95 % intervals {ours['coverage_95']:.0%}",
            f"In {metrics['seconds']:.0f} s. Look at {out / 'graph.png'} and "
            f"{out / 'forecast.png'}.",
        ]
    )


def _check_folder(out: Path, force: bool) -> None:
    """Refuse a folder with other files than those of an earlier demo, unless forced."""
    from causalmmm.model.header import check_place

    if out.exists() and not out.is_dir():
        raise typer.BadParameter(f"'{out}' is a file, not a folder")
    others = (
        [p.name for p in out.iterdir() if p.name not in (*_FILES, "model")] if out.exists() else []
    )
    if others and not force:
        message = f"'{out}' contains other files than a demo: {', '.join(sorted(others)[:5])}."
        raise refusal("place-taken", message, "Choose another folder, or add --force.")
    check_place(out / "model", overwrite=True)


def _nested(evaluation: pd.DataFrame) -> dict[str, Any]:
    """{test: {series: {horizon: {method: {metric: value}}}}}, None for NaN."""
    tree: dict[str, Any] = {}
    for row in evaluation.to_dict("records"):
        branch = tree
        for key in ("test", "series", "horizon", "method"):
            branch = branch.setdefault(str(row[key]), {})
        value = float(row["value"])
        branch[row["metric"]] = value if isfinite(value) else None
    return tree


def _text(metrics: dict[str, Any]) -> str:
    import json

    return json.dumps(metrics, indent=2, allow_nan=False) + "\n"
