"""``decompose`` and ``curves``: effects of spend according to a fitted model."""

from __future__ import annotations

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
    model_and_panel,
    terminal,
)
from causalmmm.cli.exported import AnsweringArgument, answering
from causalmmm.cli.output import (
    PICTURES,
    TABLES,
    checked_format,
    one_store_for,
    write_answer,
    write_picture,
)
from causalmmm.findings import counted


def decompose(
    model: AnsweringArgument,
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
    """Decompose the target of every step into baseline, own past, other series and a remainder.

    Columns: store, date, component, value. The values of a date sum to the observed one.
    .png .svg .pdf draw one store.

    \b
    causalmmm decompose runs/a --store 434 -o contributions.csv
    causalmmm decompose runs/a --store 434 -o contributions.png
    causalmmm decompose model.onnx --data data.csv -o contributions.csv
    """
    terminal.start(quiet=quiet, json=json)
    kind = checked_format(out, format, (*TABLES, *PICTURES), force=force, json=json)
    one_store_for(kind, out, store)
    fitted, panel, _ = answering(model, "decompose", data, config, overrides, store, device=device)
    with terminal.working(f"decomposing {counted(panel.n_stores, 'store')}"):
        frame = fitted.decompose(panel)
    if kind not in PICTURES:
        return write_answer(frame, out, kind, force=force)
    from causalmmm.plots import plot_decomposition

    figure = plot_decomposition(frame, store=str(panel.stores[0]), target=panel.nodes[-1])
    return write_picture(figure, out, kind, force=force)


def curves(
    model: ModelArgument,
    channel: Annotated[str | None, typer.Option(help="Only this channel.")] = None,
    store: StoreOption = None,
    points: Annotated[int, typer.Option(min=2, help="Points per curve.")] = 50,
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
    """Response curves: what constant spend on a channel adds to the target per step.

    Amounts run from zero to twice the largest of each store's window; usual is the mean of the last
    year's steps in which the channel runs.

    Columns: store, channel, amount, expected, effect, lower, upper.

    .png .svg .pdf draw one store, with its usual amounts marked.

    \b
    causalmmm curves runs/a --channel search --store 434 -o search.csv
    causalmmm curves runs/a --store 434 -o curves.png
    """
    terminal.start(quiet=quiet, json=json)
    kind = checked_format(out, format, (*TABLES, *PICTURES), force=force, json=json)
    one_store_for(kind, out, store)
    fitted, panel, _ = model_and_panel(model, data, config, overrides, store, device=device)
    frame = fitted.response_curves(channel, panel=panel, points=points)
    if kind not in PICTURES:
        return write_answer(frame, out, kind, force=force)
    from causalmmm.decisions.period import usual_amounts
    from causalmmm.plots import plot_curves

    usual = dict(zip(panel.nodes, usual_amounts(panel)[0].tolist(), strict=True))
    one, target = str(panel.stores[0]), panel.nodes[-1]
    measured = {n: c.exposure or "spend" for n, c in panel.schema.channels.items()}
    figure = plot_curves(frame, store=one, target=target, usual=usual, measured=measured)
    return write_picture(figure, out, kind, force=force)
