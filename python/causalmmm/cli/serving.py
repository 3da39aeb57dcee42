"""``score`` and ``serve``: an exported model at work, without torch."""

from __future__ import annotations

import math
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from causalmmm.cli.common import JsonOption, QuietOption, terminal
from causalmmm.extras import needing
from causalmmm.findings import counted

ExportedArgument = Annotated[
    Path, typer.Argument(help="ONNX file that 'export' wrote.", metavar="MODEL")
]


class What(StrEnum):
    forecasts = "forecasts"
    graphs = "graphs"


def score(
    model: ExportedArgument,
    data: Annotated[Path, typer.Option("--input", exists=True, help="Folder of Parquet files.")],
    out: Annotated[Path, typer.Option("-o", "--output", help="Folder for the scores.")],
    what: Annotated[What, typer.Option(help="What to compute.")] = What.forecasts,
    horizon: Annotated[
        int | None, typer.Option(min=1, help="Steps ahead; default: the model's.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; default: one per core.")
    ] = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Score a Parquet data set of any size, file by file, with an exported model.

    Every file of the input, in plain or hive folders, gives a file of the same name in the output;
    a store must be in one file only. Each process holds one file at a time in memory. Files appear
    whole or not at all: after a crash the same command does only what is missing. It refuses to
    go on with another model, other settings or changed files, and replaces nothing.

    Columns of forecasts: store, date, series, mean, lower_80, upper_80, lower_95, upper_95; of
    graphs: store, source, target, probability, effect, lower, upper.

    \b
    causalmmm score model.onnx --input panel/ --output scores/ --workers 8
    """
    with needing("scoring"):
        from causalmmm.scoring import score_dataset

    terminal.start(quiet=quiet, json=json)
    with terminal.working(f"scoring {data}"):
        scored = score_dataset(
            model,
            data,
            out,
            what=what.value,
            horizon=horizon,
            workers=workers,
            on_partition=lambda name, rows: terminal.say(f"scored {name}: {counted(rows, 'row')}"),
        )
    if json:
        facts = {"partitions": scored.done, "kept": scored.kept, "rows": scored.rows}
        terminal.result({"ok": True, "out": str(out), **facts})
    else:
        kept = f", {scored.kept} were there already" if scored.kept else ""
        terminal.say(f"wrote {counted(scored.done, 'file')} to {out}{kept}")


def serve(
    model: ExportedArgument,
    host: Annotated[
        str, typer.Option(help="Address to listen at; the default is this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Requests side by side; default: one per core.")
    ] = None,
    max_bytes: Annotated[int, typer.Option(min=1, help="Largest body.")] = 32_000_000,
    max_stores: Annotated[int, typer.Option(min=1, help="Most stores in a request.")] = 2_000,
    max_seconds: Annotated[float, typer.Option(min=0.001, help="Longest time of a request.")] = 30,
    max_waiting: Annotated[
        int, typer.Option(min=0, help="Most requests that wait; others get a 503 at once.")
    ] = 64,
    quiet: QuietOption = False,
) -> None:
    """Answer over HTTP with an exported model: /graph, /predict, /decompose; /docs describes them.

    Tables come and go as JSON columns or as Arrow streams. /healthz says what the model is,
    /metrics what Prometheus reads. There is no authentication: to listen beyond this machine
    (--host 0.0.0.0) put it behind something that has. SIGTERM lets running requests finish.

    \b
    causalmmm serve model.onnx --port 8000
    """
    from causalmmm.runtime import OnnxModel

    terminal.start(quiet=quiet)
    with needing("serving"):
        import uvicorn

        from causalmmm.serving import Limits, create_app
    limits = Limits(max_bytes, max_stores, max_seconds, max_waiting)
    at_once = threads or len(os.sched_getaffinity(0))
    app = create_app(OnnxModel(model, threads=1), limits, at_once=at_once)
    level = "warning" if quiet else "info"
    grace = math.ceil(max_seconds)
    uvicorn.run(app, host=host, port=port, log_level=level, timeout_graceful_shutdown=grace)
