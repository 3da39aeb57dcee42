"""``demo``: the whole way on simulated data, from stores to graphs, forecasts and their scores."""

from __future__ import annotations

import time
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from causalmmm.cli.answers import forecast_picture
from causalmmm.cli.common import DeviceOption, ForceOption, JsonOption, QuietOption, terminal
from causalmmm.findings import Finding, RefusedInput

if TYPE_CHECKING:
    import pandas as pd

HIDDEN = 28
EPOCHS = 120
_FILES = ("forecast.csv", "forecast.png", "graph.png", "graphs.csv", "metrics.json")


def demo(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write.")] = Path("demo"),
    stores: Annotated[int | None, typer.Option(min=1, help="Stores to draw; preset: 50.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Longest training.")] = EPOCHS,
    seed: Annotated[int, typer.Option(help="Seed of all randomness.")] = 0,
    device: DeviceOption = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Simulate 50 shops, learn their graphs, forecast 28 hidden days, and score both.

    Writes graph.png, forecast.png, graphs.csv, forecast.csv, metrics.json and model/. The results
    of an earlier demo in the same folder are replaced; a folder with anything else needs --force.

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
    terminal.say("3  scoring edges against the truth, forecasts against what happened", "bold")
    scores = model.evaluate(panel, truth, ["structure", "holdout"])
    forecast = model.predict(history)
    store = str(panel.stores[0])
    out.mkdir(parents=True, exist_ok=True)
    model.save(out / "model", overwrite=True)
    model.graphs(threshold=0.05).to_csv(out / "graphs.csv", index=False)
    forecast.to_csv(out / "forecast.csv", index=False)
    plot_graph(model.graph(store)).savefig(out / "graph.png")
    forecast_picture(forecast, history, store, hidden).savefig(out / "forecast.png")
    metrics = _nested(scores)
    metrics["seconds"] = round(time.perf_counter() - began, 1)
    metrics["epochs"] = len(model.history_)
    (out / "metrics.json").write_text(_text(metrics), encoding="utf-8")
    if json:
        typer.echo(_text(metrics), nl=False)
    else:
        typer.echo(summary(metrics, panel.n_stores, out))


def summary(metrics: dict[str, Any], stores: int, out: Path) -> str:
    """What the demo found, in a few lines."""
    edges = metrics["structure"]["all"]["0"]["causalmmm"]
    made = metrics["holdout"]["gmv"][str(HIDDEN)]
    ours = made["causalmmm"]
    naive = ", ".join(
        f"{name} {values['wape']:.1%}" for name, values in made.items() if name != "causalmmm"
    )
    sure = edges["true_share_80_100"]
    return "\n".join(
        [
            "",
            f"Graphs of {stores} shops, never shown to the model:",
            f"  AUROC {edges['auroc']:.3f}, AUPRC {edges['auprc']:.3f} (guessing would score 0.500 "
            f"and {edges['true_edge_share']:.3f})",
            f"  {edges['pairs_80_100']:.0f} edges are given a probability of 0.8 or more"
            + ("" if sure is None else f"; {sure:.1%} of them are true"),
            f"GMV of the {HIDDEN} hidden days, error as a share of GMV:",
            f"  causalmmm {ours['wape']:.1%} ({naive})",
            f"  its 80 % intervals hold {ours['coverage_80']:.0%} of the days, its 95 % intervals "
            f"{ours['coverage_95']:.0%}",
            f"In {metrics['seconds']:.0f} s. Look at {out / 'graph.png'} and "
            f"{out / 'forecast.png'}.",
        ]
    )


def _check_folder(out: Path, force: bool) -> None:
    """Only what an earlier demo wrote may be there, unless forced."""
    from causalmmm.model.header import check_place

    if out.exists() and not out.is_dir():
        raise typer.BadParameter(f"'{out}' is a file, not a folder")
    others = (
        [p.name for p in out.iterdir() if p.name not in (*_FILES, "model")] if out.exists() else []
    )
    if others and not force:
        message = f"'{out}' holds other things than a demo: {', '.join(sorted(others)[:5])}."
        remedy = "Choose another folder, or add --force."
        raise RefusedInput([Finding("error", "place-taken", message, remedy)])
    check_place(out / "model", overwrite=True)


def _nested(scores: pd.DataFrame) -> dict[str, Any]:
    """{test: {series: {horizon: {method: {metric: value}}}}}, None for what is not a number."""
    tree: dict[str, Any] = {}
    for row in scores.to_dict("records"):
        at = tree
        for key in ("test", "series", "horizon", "method"):
            at = at.setdefault(str(row[key]), {})
        value = float(row["value"])
        at[row["metric"]] = value if isfinite(value) else None
    return tree


def _text(metrics: dict[str, Any]) -> str:
    import json

    return json.dumps(metrics, indent=2, allow_nan=False) + "\n"
