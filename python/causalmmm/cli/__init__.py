"""The command line ``causalmmm``: one module per group of commands.

Commands read files, call the library and write files; whatever can be computed lives elsewhere.
Exit codes: 0 done, 1 ``validate`` found errors, 2 refused input or wrong usage.
"""

from __future__ import annotations

from typing import Annotated

import typer

from causalmmm.cli.answers import evaluate, graph, predict
from causalmmm.cli.common import Commands
from causalmmm.cli.data import init, simulate, validate
from causalmmm.cli.demo import demo
from causalmmm.cli.effects import curves, decompose
from causalmmm.cli.export import export
from causalmmm.cli.info import info, show_version
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
    *(decompose, curves, evaluate, export, score, serve, info, demo),
):
    app.command()(command)


@app.callback()
def about(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=show_version, is_eager=True, help="Show the version and leave."
        ),
    ] = False,
) -> None:
    """Causal marketing mix modelling, store by store: from a table to graphs and forecasts.

    \b
    causalmmm demo -o demo                    see it at work
    causalmmm init data.csv -o mmm.yml        guess what each column is
    causalmmm validate -c mmm.yml             find what is wrong with the data
    causalmmm fit -c mmm.yml -o runs/a        one model for all stores
    causalmmm graph runs/a --store 434        what drives what in a store
    causalmmm predict runs/a -o next.csv      the next steps of every series
    causalmmm export runs/a -o model.onnx     one file that runs without torch
    """


def main() -> None:
    """Entry point of the console script."""
    app()
