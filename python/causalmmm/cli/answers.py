"""``predict``, ``graph`` and ``evaluate``: questions to a fitted model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from causalmmm.cli.common import (
    ConfigOption,
    DataOption,
    DeviceOption,
    ForceOption,
    FormatOption,
    HorizonOption,
    JsonOption,
    ModelArgument,
    OutOption,
    QuietOption,
    SeedOption,
    SetOption,
    StoreOption,
    fresh,
    model_and_panel,
    of_stores,
    read_config,
    read_panel,
    terminal,
)
from causalmmm.cli.output import (
    GRAPHS,
    PICTURES,
    TABLES,
    checked_format,
    file_name,
    format_of,
    graph_record,
    json_text,
    one_store_for,
    write_answer,
    write_graph,
    write_picture,
    write_table,
    write_text,
    wrote,
)
from causalmmm.extras import needing
from causalmmm.findings import counted

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd

    from causalmmm.data.panel import Panel

# What a user knows of edges, with or without a fit.
BEFOREHAND = ("edge_prior", "forbidden", "required", "signed")


def predict(
    model: ModelArgument,
    data: DataOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    horizon: HorizonOption = None,
    plan: Annotated[
        Path | None, typer.Option(help="Table of future spend and controls, per store and date.")
    ] = None,
    level: Annotated[str, typer.Option(help="Central intervals in percent.")] = "80,95",
    store: StoreOption = None,
    out: OutOption = None,
    format: FormatOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Forecast every series of every store, with intervals.

    Columns: store, date, series, mean, lower_80, upper_80, lower_95, upper_95. The suffix of --out
    sets the format (.csv .parquet .json); .png .svg .pdf draw the target of one store.

    \b
    causalmmm predict runs/a --horizon 28 -o forecast.parquet
    causalmmm predict runs/a --plan plan.csv --store 434 -o forecast.png
    """
    terminal.start(quiet=quiet, json=json)
    kind = checked_format(out, format, (*TABLES, *PICTURES), force=force, json=json)
    one_store_for(kind, out, store)
    fitted, panel, written = model_and_panel(
        model, data, config, overrides, device=device, seed=seed
    )
    panel, planned = of_stores(store, panel, plan and written.file(plan))
    with terminal.working(f"forecasting {counted(panel.n_stores, 'store')}"):
        frame = fitted.predict(panel, horizon=horizon, plan=planned, level=_parse_levels(level))
    if kind in PICTURES:
        figure = forecast_picture(frame, panel, str(panel.stores[0]), planned=plan is not None)
        write_picture(figure, out, kind, force=force, rows=len(frame))
    else:
        write_answer(frame, out, kind, force=force)


def forecast_picture(
    frame: pd.DataFrame,
    panel: Panel,
    store: str,
    actual: Panel | None = None,
    *,
    planned: bool = False,
) -> Any:
    """The target's forecast after its history, with the actual values if they are known."""
    import pandas as pd

    from causalmmm.plots import plot_forecast

    def target(source: Panel) -> pd.Series[Any]:
        selected = source.select([store])
        return pd.Series(selected.data.values[:, -1], index=selected.dates(store))

    return plot_forecast(
        frame,
        store=store,
        series=panel.nodes[-1],
        history=target(panel),
        actual=None if actual is None else target(actual),
        planned=planned,
    )


def graph(
    model: Annotated[
        Path,
        typer.Argument(
            help="Model directory written by 'fit', or a CSV or Parquet file to read without one.",
            metavar="MODEL",
        ),
    ],
    store: StoreOption = None,
    data: DataOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Minimum probability of an edge.")
    ] = 0.5,
    out: OutOption = None,
    format: FormatOption = None,
    device: DeviceOption = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """The causal graphs of one, some or all stores: edges with probability and effect.

    CSV and Parquet have one row per store and edge: store, source, target, probability, effect,
    lower, upper. JSON, GraphML and DOT contain one graph; for several stores --out is a folder with
    one file per store (JSON: one list). .png .svg .pdf draw one store. A table instead of a model
    is read by the pretrained prior, in seconds: probability, prior and evidence of every edge.

    \b
    causalmmm graph data.csv -c causalmmm.yml
    causalmmm graph runs/a --store 434
    causalmmm graph runs/a --store 434 -o graph.png
    causalmmm graph runs/a --threshold 0.8 --format graphml -o graphs/
    """
    terminal.start(quiet=quiet, json=json)
    kind = format_of(out, format, (*GRAPHS, *PICTURES), json=json)
    one = store is not None and len(store) == 1
    one_store_for(kind, out, store)
    if kind in ("graphml", "dot") and not one and out is None:
        raise typer.BadParameter("several graphs need an output folder (-o); or choose one --store")
    one_file_each = kind in ("graphml", "dot") and not one
    if out is not None:
        fresh(out, force, "folder" if one_file_each else "file")
    if model.is_file():
        if data is not None:
            raise typer.BadParameter("a table is read as it is; --data belongs to a fitted model")
        panel, frame = _unfitted(model, config, overrides, store, threshold)
    else:
        fitted, panel, _ = model_and_panel(model, data, config, overrides, store, device=device)
        with terminal.working(f"inferring the graphs of {counted(panel.n_stores, 'store')}"):
            frame = fitted.graphs(panel, threshold=threshold)
    if kind in ("csv", "parquet"):
        write_table(frame, out, kind, force=force)
        return wrote(out, edges=len(frame), stores=panel.n_stores)
    graphs = _graphs(frame, panel, threshold)
    if kind in PICTURES:
        from causalmmm.plots import plot_graph

        edges = graphs[0].number_of_edges()
        return write_picture(plot_graph(graphs[0]), out, kind, force=force, edges=edges, stores=1)
    if one_file_each:
        assert out is not None
        for single in graphs:
            path = out / file_name(single.graph["store"], kind)
            write_graph(single, path, kind, force=force)
    elif one:
        write_graph(graphs[0], out, kind, force=force)
    else:
        records = [graph_record(single) for single in graphs]
        write_text(json_text(records), out, force=force)
    return wrote(out, edges=sum(g.number_of_edges() for g in graphs), stores=len(graphs))


def _unfitted(
    table: Path,
    config: Path | None,
    overrides: list[str] | None,
    store: list[str] | None,
    threshold: float,
) -> tuple[Panel, pd.DataFrame]:
    """Panel and edges of a table that no model was fitted on; all its stores inform each other."""
    with needing("the pretrained prior"):
        from causalmmm.model.pretrained import pretrained_graphs

    panel, given = unfitted_panel(table, config, overrides)
    chosen = panel.select(store) if store else panel
    with terminal.working(f"reading the graphs of {counted(panel.n_stores, 'store')}"):
        frame = pretrained_graphs(panel, threshold=threshold, **given)
    return chosen, frame[frame["store"].isin(chosen.stores)].reset_index(drop=True)


def unfitted_panel(
    table: Path, config: Path | None, overrides: list[str] | None
) -> tuple[Panel, dict[str, Any]]:
    """A table that no model was fitted on, and what its user knows of edges."""
    from causalmmm.model.parameters import check_parameters

    settings, _ = read_config(config, overrides, table)
    parameters = check_parameters(settings.model)
    known = {name: parameters[name] for name in BEFOREHAND if name in parameters}
    return read_panel(settings), known


def _graphs(frame: pd.DataFrame, panel: Panel, threshold: float) -> list[nx.DiGraph[Any]]:
    """Edges of all stores as a graph each."""
    from causalmmm.inference.frames import store_graph

    edges = {str(store): rows for store, rows in frame.groupby("store")}
    return [
        store_graph(store, threshold, panel.nodes, panel.data.roles, edges.get(store, frame[:0]))
        for store in panel.stores.tolist()
    ]


def _parse_levels(text: str) -> list[Any]:
    try:
        return [float(level) for level in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"invalid levels '{text}'; write e.g. 80,95") from None
