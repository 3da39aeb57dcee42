"""``export``, ``decompose`` and ``curves``: a fitted model as a file, and what it says of spend."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from causalmmm.cli.common import (
    ConfigOption,
    DataOption,
    DeviceOption,
    ForceOption,
    FormatOption,
    JsonOption,
    ModelArgument,
    OutOption,
    QuietOption,
    SetOption,
    StoreOption,
    fresh,
    model_and_panel,
    panel_of,
    read_model,
    terminal,
)
from causalmmm.cli.output import TABLES, format_of, write_answer, wrote
from causalmmm.findings import counted

_CHECKED_STORES = 16


def export(
    model: ModelArgument,
    out: Annotated[Path, typer.Option("-o", "--out", help="ONNX file to write.")],
    draws: Annotated[
        int | None, typer.Option(min=1, help="Futures behind a forecast; default: the model's.")
    ] = None,
    max_horizon: Annotated[int, typer.Option(min=1, help="Most steps ahead.")] = 90,
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
    """Write a model as one ONNX file, which runs without torch and without this package.

    With --check the file is opened again and its answers for some stores of --data (or of the data
    of the fit, where they are still there) are compared with the model's; exit code 1 when they
    differ by more than float32 does.

    \b
    causalmmm export runs/a -o model.onnx --check
    """
    terminal.start(quiet=quiet, json=json)
    fresh(out, force)
    fitted = read_model(model, device="cpu")
    with terminal.working("exporting"):
        fitted.export_onnx(out, draws=draws, max_horizon=max_horizon, opset=opset)
    facts: dict[str, object] = {"bytes": out.stat().st_size}
    agrees = True
    if check:
        from causalmmm.exporting import TOLERANCE, differences

        panel = panel_of(fitted, config, overrides, data)
        panel = panel.select(panel.stores[:_CHECKED_STORES].tolist())
        with terminal.working("comparing"):
            found = differences(fitted, out, panel)
        agrees = max(found.values()) <= TOLERANCE
        facts["differences"] = found
        for name, value in found.items():
            terminal.say(f"{name}: differs by at most {value:.1e}")
        if not agrees:
            terminal.say(f"the file does not agree with the model within {TOLERANCE:.0e}", "red")
    wrote(out, agrees=agrees, **facts)
    if not agrees:
        raise typer.Exit(1)


def decompose(
    model: ModelArgument,
    store: StoreOption = None,
    data: DataOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    out: OutOption = None,
    format: FormatOption = None,
    device: DeviceOption = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Split the target into baseline, own past, every other series and a remainder, step by step.

    Columns: store, date, component, value. The values of a date sum to what was observed.

    \b
    causalmmm decompose runs/a --store 434 -o contributions.csv
    """
    terminal.start(quiet=quiet, json=json)
    kind = format_of(out, format, TABLES, json=json)
    if out is not None:
        fresh(out, force)
    fitted, panel = model_and_panel(model, data, config, overrides, store, device=device)
    with terminal.working(f"decomposing {counted(panel.n_stores, 'store')}"):
        frame = fitted.decompose(panel)
    write_answer(frame, out, kind, force=force)


def curves(
    model: ModelArgument,
    channel: Annotated[str | None, typer.Option(help="Only this channel.")] = None,
    store: StoreOption = None,
    points: Annotated[int, typer.Option(min=2, help="Amounts per curve.")] = 50,
    data: DataOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    out: OutOption = None,
    format: FormatOption = None,
    device: DeviceOption = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Say what constant spend on a channel adds to the target per step: response curves.

    Amounts run from zero to twice the largest of each store's window.

    Columns: store, channel, amount, expected, effect, lower, upper.

    \b
    causalmmm curves runs/a --channel search --store 434 -o search.csv
    """
    terminal.start(quiet=quiet, json=json)
    kind = format_of(out, format, TABLES, json=json)
    if out is not None:
        fresh(out, force)
    fitted, panel = model_and_panel(model, data, config, overrides, store, device=device)
    frame = fitted.response_curves(channel, panel=panel, points=points)
    write_answer(frame, out, kind, force=force)
