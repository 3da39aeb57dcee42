"""``export``: a fitted model, or the pretrained prior for a table's columns, as one ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from causalmmm.cli.answers import unfitted_panel
from causalmmm.cli.common import (
    ConfigOption,
    DataOption,
    ForceOption,
    JsonOption,
    QuietOption,
    SetOption,
    fresh,
    panel_of,
    read_model,
    terminal,
)
from causalmmm.cli.output import wrote
from causalmmm.extras import needing

_CHECKED_STORES = 16


def export(
    model: Annotated[
        Path,
        typer.Argument(
            help="Model directory written by 'fit', or a CSV or Parquet file: then the pretrained "
            "prior is exported, for tables with its columns.",
            metavar="MODEL",
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="ONNX file to write.")],
    draws: Annotated[
        int | None,
        typer.Option(min=1, help="Simulated futures per forecast; default: the model's."),
    ] = None,
    max_horizon: Annotated[int, typer.Option(min=1, help="Maximum steps ahead.")] = 90,
    opset: Annotated[int, typer.Option(help="18, 20 or 21.")] = 18,
    check: Annotated[
        bool, typer.Option("--check", help="Compare the file's answers with the model's.")
    ] = False,
    data: DataOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Export a model to one ONNX file, which runs without torch and without this package.

    With --check the answers of the file for some stores of --data (default: the data of the fit)
    are compared with the model's; exit code 1 if they differ by more than float32 rounding.

    \b
    causalmmm export runs/a -o model.onnx --check
    causalmmm export data.csv -c causalmmm.yml -o prior.onnx
    """
    terminal.start(quiet=quiet, json=json)
    fresh(out, force)
    if model.is_file():
        if check or draws is not None or data is not None:
            raise typer.BadParameter(
                "a table is read as it is; --check, --draws and --data belong to a fitted model"
            )
        return _prior(model, config, overrides, out, opset)
    fitted = read_model(model, device="cpu")
    with terminal.working("exporting"):
        fitted.export_onnx(out, draws=draws, max_horizon=max_horizon, opset=opset)
    facts: dict[str, object] = {"bytes": out.stat().st_size}
    agrees = True
    if check:
        from causalmmm.model.onnx_export import TOLERANCE, differences

        panel, _ = panel_of(fitted, config, overrides, data)
        panel = panel.select(panel.stores[:_CHECKED_STORES].tolist())
        with terminal.working("comparing"):
            largest = differences(fitted, out, panel)
        agrees = max(largest.values()) <= TOLERANCE
        facts["differences"] = largest
        for name, value in largest.items():
            terminal.say(f"{name}: differs by at most {value:.1e}")
        if not agrees:
            terminal.say(f"the file does not agree with the model within {TOLERANCE:.0e}", "red")
    wrote(out, ok=agrees, agrees=agrees, **facts)
    if not agrees:
        raise typer.Exit(1)


def _prior(
    table: Path, config: Path | None, overrides: list[str] | None, out: Path, opset: int
) -> None:
    """The pretrained prior for tables with the columns of this one."""
    with needing("the pretrained prior"):
        from causalmmm.model.prior_export import export_prior

    panel, known = unfitted_panel(table, config, overrides)
    with terminal.working("exporting"):
        export_prior(panel, out, opset=opset, **known)
    wrote(out, bytes=out.stat().st_size)
