"""``score`` and ``serve``: batch inference and HTTP with an exported model, without torch."""

from __future__ import annotations

import math
import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from causalmmm.cli.common import (
    ExportedArgument,
    HorizonOption,
    JsonOption,
    QuietOption,
    SkipOption,
    terminal,
)
from causalmmm.extras import needing
from causalmmm.findings import counted, first_few

if TYPE_CHECKING:
    from causalmmm.serving.served import Served

_MAX_CONNECTIONS = 1_000  # further ones get a 503 at once


ServedArgument = Annotated[
    Path,
    typer.Argument(help="ONNX file written by 'export', or model directory.", metavar="MODEL"),
]


class What(StrEnum):
    forecasts = "forecasts"
    graphs = "graphs"


def score(
    model: ExportedArgument,
    data: Annotated[
        Path | None,
        typer.Option("--data", exists=True, help="Folder of Parquet files. (required)"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Output folder. (required)")
    ] = None,
    what: Annotated[What, typer.Option(help="What to compute.")] = What.forecasts,
    horizon: HorizonOption = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; default: one per core.")
    ] = None,
    skip_bad_stores: SkipOption = False,
    decimal: Annotated[
        str, typer.Option(help="Sign before decimals, where numbers are stored as text.")
    ] = ".",
    thousands: Annotated[str, typer.Option(help="Sign between thousands, likewise.")] = "",
    quiet: QuietOption = False,
    json: JsonOption = False,
    old_data: Annotated[Path | None, typer.Option("--input", exists=True, hidden=True)] = None,
    old_out: Annotated[Path | None, typer.Option("--output", hidden=True)] = None,
) -> None:
    """Score a Parquet data set of any size, file by file, with an exported model.

    Every file of --data, in plain or hive folders, leads to a file of the same name in --out; a
    store must be in one file only. Each process holds one file at a time in memory. Files appear
    whole or not at all: after a crash the same command computes only what is missing. Files whose
    data have changed are scored again. It refuses to continue with another model or settings.

    Columns of forecasts: store, date, series, mean, lower_80, upper_80, lower_95, upper_95; of
    graphs: store, source, target, probability, effect, lower, upper.

    \b
    causalmmm score model.onnx --data panel/ -o scores/ --workers 8
    """
    with needing("scoring"):
        from causalmmm.scoring import score_dataset

    terminal.start(quiet=quiet, json=json)
    data, out = data or old_data, out or old_out
    if data is None or out is None:
        raise typer.BadParameter("pass --data, the Parquet files, and -o, the output folder")
    with terminal.working(f"scoring {data}"):
        scored = score_dataset(
            model,
            data,
            out,
            what=what.value,
            horizon=horizon,
            workers=workers,
            skip_bad_stores=skip_bad_stores,
            decimal=decimal,
            thousands=thousands,
            on_partition=lambda name, rows: terminal.say(f"scored {name}: {counted(rows, 'row')}"),
        )
    if json:
        facts = {"kept": scored.kept, "rows": scored.rows, "changed": scored.changed}
        names = list(scored.left_out)
        done = {"ok": True, "out": str(out), "partitions": scored.done}
        terminal.result({**done, **facts, "left_out": names})
    else:
        if scored.left_out:
            number = counted(len(scored.left_out), "store")
            terminal.say(f"warning: {number} left out: {first_few(scored.left_out)}", "yellow")
        kept = f", {scored.kept} existed already" if scored.kept else ""
        again = f" ({scored.changed} again, as their data changed)" if scored.changed else ""
        terminal.say(f"wrote {counted(scored.done, 'file')} to {out}{again}{kept}")


def serve(
    model: ServedArgument,
    host: Annotated[
        str,
        typer.Option(help="Address to listen on; the default is reachable from this machine only."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free port.")] = 8000,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Concurrent requests; default: one per core.")
    ] = None,
    max_bytes: Annotated[
        int, typer.Option(min=1, help="Maximum size of a request body.")
    ] = 32_000_000,
    max_stores: Annotated[int, typer.Option(min=1, help="Maximum stores per request.")] = 2_000,
    max_seconds: Annotated[float, typer.Option(min=0.001, help="Time limit of a request.")] = 30,
    max_waiting: Annotated[
        int, typer.Option(min=0, help="Maximum waiting requests; further ones get a 503.")
    ] = 64,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Further name by which requests may call this server, or '*' for any."),
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Serve a model over HTTP: /graph, /predict, /decompose; /docs describes them.

    An exported file needs no torch, and answers /roi and /paths if it is of a response regression;
    a model directory answers /optimize too.

    Tables are sent and returned as JSON columns or Arrow streams. /healthz describes the model,
    /metrics is for Prometheus. There is no authentication: to listen on other addresses (--host
    0.0.0.0), put it behind a proxy that has it. Requests must name the server as it is called
    (Host: localhost, its address, or --allow-host). SIGTERM lets running requests finish.

    \b
    causalmmm serve model.onnx --port 8000
    causalmmm serve runs/a
    """
    terminal.start(quiet=quiet)
    with needing("serving"):
        import uvicorn

        from causalmmm.serving import LOOPBACK, Limits, create_app, is_loopback
    limits = Limits(bytes=max_bytes, stores=max_stores, seconds=max_seconds, waiting=max_waiting)
    if not is_loopback(host):
        message = f"warning: {host} can be reached from other machines, without authentication"
        terminal.errors.print(message, style="yellow")
    named = {*LOOPBACK, host, *(allow_host or ())}
    anyone = "*" in named or (host in ("0.0.0.0", "::") and not allow_host)
    concurrency = threads or len(os.sched_getaffinity(0))
    app = create_app(_opened(model), limits, at_once=concurrency, hosts=None if anyone else named)
    level = "warning" if quiet else "info"
    shutdown = math.ceil(max_seconds)  # seconds for running requests
    uvicorn.run(
        app,
        host=host,
        port=port,
        log_level=level,
        timeout_graceful_shutdown=shutdown,
        limit_concurrency=_MAX_CONNECTIONS,
    )


def _opened(model: Path) -> Served:
    """An exported file, or a model directory, each on one core."""
    if not model.is_dir():
        from causalmmm.runtime import OnnxModel

        return OnnxModel(model, threads=1)
    with needing("a model directory"):
        import torch

        from causalmmm.model.served import ServedModel
    torch.set_num_threads(1)
    return ServedModel(model)
