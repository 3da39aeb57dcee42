"""``report``: the page that a marketing team reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from causalmmm.cli.common import (
    ConfigOption,
    DataOption,
    DeviceOption,
    ForceOption,
    HorizonOption,
    JsonOption,
    ModelArgument,
    QuietOption,
    SetOption,
    StoreOption,
    fresh,
    model_and_panel,
    terminal,
)
from causalmmm.cli.output import wrote
from causalmmm.findings import counted

if TYPE_CHECKING:
    import pandas as pd

    from causalmmm.data.panel import Panel
    from causalmmm.data.table_file import TableFile


def report(
    model: ModelArgument,
    out: Annotated[Path, typer.Option("-o", "--out", help="HTML file to write.")] = Path(
        "report.html"
    ),
    plan: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Plan of spend: CSV or Parquet."),
    ] = None,
    metrics: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="What 'evaluate -o' wrote."),
    ] = None,
    horizon: HorizonOption = None,
    title: Annotated[str | None, typer.Option(help="Heading of the page.")] = None,
    tables: Annotated[
        Path | None, typer.Option(help="Folder for the tables behind the page, as CSV.")
    ] = None,
    store: StoreOption = None,
    data: DataOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    device: DeviceOption = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """One self-contained HTML page: what drives the target, what to move, how sure.

    Steps of the data after the fit (fit --holdout) are forecast and compared with what happened.
    Cards without their data say what to run. Horizon by default: the plan's, or the model's.

    \b
    causalmmm report runs/a -o report.html
    causalmmm report runs/a --plan plan.csv --metrics tests.csv --tables tables/ -o report.html
    """
    terminal.start(quiet=quiet, json=json)
    if out.suffix.lower() not in ("", ".html", ".htm"):
        raise typer.BadParameter(
            f"the report is an HTML page, not '{out.suffix}'; name it .html and print it to a PDF "
            "with a browser"
        )
    fresh(out, force)
    if tables is not None:
        fresh(tables, force, "folder")
    from causalmmm.report import check_packages, write_report

    check_packages()
    fitted, panel, written = model_and_panel(model, data, config, overrides, store, device=device)
    with terminal.working(f"reporting on {counted(panel.n_stores, 'store')}"):
        write_report(
            fitted,
            panel,
            out,
            title=title,
            horizon=horizon,
            plan=None if plan is None else _plan(written.file(plan), panel),
            metrics=_metrics(metrics),
            tables=tables,
        )
    wrote(out, stores=panel.n_stores, bytes=out.stat().st_size)


def _plan(file: TableFile, panel: Panel) -> pd.DataFrame:
    """A plan as a frame; its dates and stores are read as those of panels are."""
    import pandas as pd

    from causalmmm.data.readers import open_source

    keys = (panel.schema.store, panel.schema.date)
    source = open_source(file, keys.__contains__)
    return pd.DataFrame({name: source.column(name) for name in source.names})


def _metrics(path: Path | None) -> pd.DataFrame | None:
    """What 'evaluate' wrote, as it is."""
    import pandas as pd

    if path is None:
        return None
    return pd.read_parquet(path) if path.suffix in (".parquet", ".pq") else pd.read_csv(path)
