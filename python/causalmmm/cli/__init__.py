"""The command line ``causalmmm``: one module per group of commands.

Commands read files, call the library and write files; nothing is computed here.
Exit codes: 0 success, 1 a check failed (``validate``, ``export --check``, thresholds of
``evaluate``), 2 refused input or wrong usage.
"""

from __future__ import annotations

import gc
from typing import Annotated

import typer

from causalmmm.cli.answers import graph, predict
from causalmmm.cli.common import Commands
from causalmmm.cli.data import init, simulate, validate
from causalmmm.cli.decisions import calibrate, compare, next_experiment, optimize, paths, roi
from causalmmm.cli.demo import demo
from causalmmm.cli.effects import curves, decompose
from causalmmm.cli.evaluation import evaluate
from causalmmm.cli.export import export
from causalmmm.cli.info import info, show_version
from causalmmm.cli.pretraining import pretrain
from causalmmm.cli.report import report
from causalmmm.cli.serving import score, serve
from causalmmm.cli.training import fit

app = typer.Typer(
    name="causalmmm",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    *(init, validate, simulate, fit, predict, graph),
    *(roi, paths, optimize, compare, calibrate, next_experiment, report),
    *(decompose, curves, evaluate, export, score, serve, info, demo, pretrain),
):
    app.command()(command)


@app.callback()
def about(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Causal marketing mix modelling per store: from a table to graphs and forecasts.

    \b
    causalmmm demo -o demo                    a complete example on simulated data
    causalmmm init data.csv -o mmm.yml        guess the roles of the columns
    causalmmm validate -c mmm.yml             list the errors in the data
    causalmmm fit -c mmm.yml -o runs/a        one model for all stores
    causalmmm graph data.csv -c mmm.yml       graphs at once, without a fit
    causalmmm graph runs/a --store 434        the causal graph of a store
    causalmmm predict runs/a -o next.csv      forecasts of every series
    causalmmm roi runs/a --total              return on spend by channel
    causalmmm optimize runs/a -o plan.csv     the best plan for a budget
    causalmmm next-experiment runs/a          which test would tell most
    causalmmm calibrate runs/a tests.csv -o runs/b   take experiments into a model
    causalmmm report runs/a -o report.html    all of it on one page, to read and forward
    causalmmm export runs/a -o model.onnx     one file that runs without torch
    """


def main() -> None:
    """Entry point of the console script."""
    gc.set_threshold(100_000)  # half a million objects of imports are no garbage: look less often
    app()
