"""``init``, ``validate`` and ``simulate``: commands about data, without a model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from causalmmm.cli.common import (
    ConfigOption,
    DrawSeed,
    DrawStores,
    ForceOption,
    JsonOption,
    OutFolder,
    OutOption,
    QuietOption,
    SetOption,
    fresh,
    read_config,
    terminal,
    to_records,
)
from causalmmm.cli.output import format_of, write_table, wrote
from causalmmm.files import atomic_file, write_atomically
from causalmmm.findings import ConfigError, Finding, Report, counted

if TYPE_CHECKING:
    import pandas as pd

    from causalmmm.data.panel import Panel
    from causalmmm.simulation import Truth

_STORES_AT_ONCE = 2_000


def init(
    data: Annotated[
        Path,
        typer.Argument(
            help="CSV, Parquet or Excel file, zip or folder of them; one row per store and date."
        ),
    ],
    out: OutOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Guess the roles of columns and how the text is written; write a configuration to check.

    \b
    causalmmm init sales.csv -o causalmmm.yml
    """
    from causalmmm.config.configuration import Config

    terminal.start(json=json)
    text = Config.template(data)
    if out is None:  # absolute path: the folder it will be read from is unknown
        text = _with_path(text, data.absolute())
        if json:
            terminal.result({"ok": True, "config": text})
        else:
            typer.echo(text, nl=False)
        return
    fresh(out, force)
    if not data.is_absolute():  # paths in the file are relative to its folder
        text = _with_path(text, os.path.relpath(data, out.parent))
    write_atomically(out, text)
    wrote(out)
    terminal.say(f"check the guesses, then run: causalmmm validate -c {out}", "dim")


def _with_path(text: str, path: Path | str) -> str:
    """The configuration with another path of the data."""
    from causalmmm.config.configuration import Config

    current = Config.parse(text).data.path
    return text.replace(f"  path: {current}\n", f"  path: {path}\n", 1)


def validate(
    data: Annotated[
        Path | None, typer.Argument(help="File whose roles are guessed; or use -c.")
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Write the findings (.csv .json .parquet).")
    ] = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Check data and configuration, and list all findings: where they are and how to fix them.

    Exit code 1 if there are errors, else 0.

    \b
    causalmmm validate -c causalmmm.yml
    causalmmm validate sales.csv --json
    """
    terminal.start(quiet=quiet, json=json)
    kind = format_of(out, None, ("csv", "json", "parquet"))
    report = Report.of(_all_findings(config, overrides, data))
    if json:
        terminal.result(
            {"ok": report.ok, "summary": report.summary, "findings": to_records(report)}
        )
    else:
        if not quiet or not report.ok:
            terminal.findings(report, least="error" if quiet else "notice")
        terminal.say(report.summary, "bold green" if report.ok else "bold red")
    if out is not None:
        write_table(report.to_frame(), out, kind, force=force)
    raise typer.Exit(0 if report.ok else 1)


def _all_findings(
    config: Path | None, overrides: list[str] | None, data: Path | None
) -> list[Finding]:
    """Findings about the model's parameters, then about the data; or about the configuration."""
    from causalmmm.data.validation import validate
    from causalmmm.inference.compatibility import steps_needed
    from causalmmm.model.parameters import check_parameters, model_config

    try:
        settings, _ = read_config(config, overrides, data)
    except ConfigError as error:
        return list(error.report)
    table, least, wrong = settings.data, settings.data.min_steps, []
    try:  # what 'fit' with these parameters needs
        least = max(least, steps_needed(model_config(check_parameters(settings.model))))
    except ConfigError as error:
        wrong = list(error.report)
    report = validate(
        table.table,
        settings.schema,
        nan=table.nan,
        min_steps=least,
        gaps=table.gaps,
        business_days=table.business_days,
    )
    return [*wrong, *report]


def simulate(
    out: OutFolder,
    preset: Annotated[
        str,
        typer.Option(
            help="airmmm, paper-small, paper-large, marketplace (daily), or weekly-mmm, "
            "weekly-national, weekly-wide, weekly-foreign."
        ),
    ] = "airmmm",
    stores: DrawStores = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps of every history; default: the preset's.")
    ] = None,
    seed: DrawSeed = 0,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Another setting, e.g. channels=4."),
    ] = None,
    format: Annotated[str, typer.Option(help="csv or parquet.")] = "csv",
    force: ForceOption = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Simulate stores with known truth: a panel, its true graphs, and a configuration to fit it.

    Writes panel.csv (or .parquet), causalmmm.yml and truth/ (edges.csv, truth.json, truth.npz).

    \b
    causalmmm simulate --preset airmmm --stores 20 --seed 1 -o sim
    causalmmm fit -c sim/causalmmm.yml -o runs/sim
    """
    from causalmmm.simulation import simulate as draw

    terminal.start(quiet=quiet, json=json)
    kind = format_of(None, format, ("csv", "parquet"))
    fresh(out, force, "folder")
    with terminal.working("simulating"):
        panel, truth = draw(
            preset, seed=seed, stores=stores, steps=steps, **_settings(overrides or [])
        )
    out.mkdir(parents=True, exist_ok=True)
    data = out / f"panel.{kind}"
    with atomic_file(data) as partial:
        _write_panel(panel, partial, kind)
    truth.save(out / "truth")
    _true_edges(truth).to_csv(out / "truth" / "edges.csv", index=False)
    write_atomically(out / "causalmmm.yml", _configuration(panel, data.name))
    terminal.say(repr(panel))
    wrote(out, stores=panel.n_stores, steps=int(panel.lengths.max()), series=panel.nodes)


def _settings(overrides: list[str]) -> dict[str, Any]:
    import yaml

    settings = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise typer.BadParameter(f"'{override}' does not set anything; write e.g. channels=4")
        value = yaml.safe_load(text)
        settings[key.strip()] = tuple(value) if isinstance(value, list) else value
    return settings


def _write_panel(panel: Panel, path: Path, kind: str) -> None:
    """Write some thousand stores at a time, so that a large panel is not copied as a whole."""
    from rich.progress import track

    frames = _frames(panel)
    count = -(-panel.n_stores // _STORES_AT_ONCE)
    tracked = track(
        frames,
        f"writing panel.{kind}",
        total=count,
        console=terminal.errors,
        disable=terminal.quiet or count < 2 or not terminal.errors.is_terminal,
    )
    if kind == "csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            for k, frame in enumerate(tracked):
                frame.to_csv(file, index=False, header=k == 0, lineterminator="\n")
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    for frame in tracked:
        table = pa.Table.from_pandas(frame, preserve_index=False)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def _frames(panel: Panel) -> Iterator[pd.DataFrame]:
    for begin in range(0, panel.n_stores, _STORES_AT_ONCE):
        yield panel.to_frame(panel.stores[begin : begin + _STORES_AT_ONCE].tolist())


def _true_edges(truth: Truth) -> pd.DataFrame:
    """One row per true edge: store, source, target, effect."""
    import numpy as np
    import pandas as pd

    s, i, j = np.nonzero(truth.edges)
    names = np.array(truth.nodes)
    return pd.DataFrame(
        {
            "store": truth.stores[s],
            "source": names[i],
            "target": names[j],
            "effect": truth.effects[s, i, j],
        }
    )


def _configuration(panel: Panel, data: str) -> str:
    import yaml

    tree = {
        "schema": panel.schema.model_dump(mode="json", exclude_defaults=True),
        "data": {"path": data},
        "model": {"seed": 0},
    }
    comment = f"{counted(panel.n_stores, 'simulated store')}; the truth is in truth/."
    return f"# {comment}\n" + yaml.safe_dump(tree, sort_keys=False)
