"""``evaluate``: scores of a model, and tests of whether it deserves trust."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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
    SeedOption,
    SetOption,
    model_and_panel,
    terminal,
)
from causalmmm.cli.output import PICTURES, TABLES, checked_format, write_answer, write_picture
from causalmmm.findings import rounded

if TYPE_CHECKING:
    import pandas as pd


def evaluate(
    model: ModelArgument,
    data: DataOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    tests: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated: structure, holdout, cv for scores; or, beside holdout and cv, "
            "refresh, perturbation, placebo, future-spend, recovery for thresholds."
        ),
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="Folder truth/ of a simulation, for 'structure'.")
    ] = None,
    horizon: Annotated[
        int | None,
        typer.Option(min=1, help="Hidden steps; default: those of fit --holdout, or the model's."),
    ] = None,
    origins: Annotated[int, typer.Option(min=1, help="Number of forecasts in 'cv'.")] = 5,
    plan: Annotated[
        Literal["none", "actual"],
        typer.Option(help="actual: forecasts are told what was spent in the hidden steps."),
    ] = "none",
    out: OutOption = None,
    format: FormatOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Evaluate a model: edges against the truth, forecasts against hidden steps and baselines.

    holdout: forecasts of the last steps; a fair test only after 'fit --holdout'. cv: forecasts from
    several origins, by a copy fitted on the steps before the first. structure: needs --truth.

    With refresh, perturbation, placebo, future-spend or recovery among them, tests of trust: copies
    of the model are fitted, measures have thresholds, and exit code 1 says that one was missed.
    Columns: test, measure, value, at_least, at_most, passed, meaning; .png .svg .pdf draw them.

    \b
    causalmmm fit -c causalmmm.yml --holdout 28 -o runs/a
    causalmmm evaluate runs/a --tests holdout --plan actual -o metrics.csv
    causalmmm evaluate runs/a --tests holdout,refresh,placebo -o trust.png
    """
    from causalmmm.evaluation.trials import TRIALS
    from causalmmm.evaluation.trust import trust
    from causalmmm.simulation import Truth

    terminal.start(quiet=quiet, json=json)
    names = [name.strip() for name in tests.split(",")] if tests is not None else None
    judged = bool({*(names or ())} & {*TRIALS} - {"holdout", "cv"})
    kinds = (*TABLES, *PICTURES) if judged else TABLES
    kind = checked_format(out, format, kinds, force=force, json=json)
    if kind in PICTURES and out is None:
        raise typer.BadParameter("a picture needs an output file (-o)")
    if judged:
        if truth is not None:
            raise typer.BadParameter("--truth goes with 'structure'; ask for it alone")
        fitted, panel, _ = model_and_panel(model, data, config, overrides, device=device, seed=seed)
        verdicts = trust(fitted, panel, names, horizon=horizon, origins=origins, say=terminal.say)
        return _judge(verdicts, out, kind, shown=format is None, force=force)
    if truth is not None and not (truth / "truth.json").is_file():
        raise typer.BadParameter(
            f"'{truth}' contains no truth.json; pass the folder truth/ written by 'simulate'"
        )
    fitted, panel, _ = model_and_panel(model, data, config, overrides, device=device, seed=seed)
    true_graphs = None if truth is None else Truth.load(truth)
    with terminal.working("evaluating"):
        frame = fitted.evaluate(
            panel, true_graphs, names, horizon=horizon, origins=origins, plan=plan
        )
    if out is None and not json and format is None:
        show_metrics(frame)
    else:
        write_answer(frame, out, kind, force=force)


def _judge(
    verdicts: pd.DataFrame, out: Path | None, kind: str, *, shown: bool, force: bool
) -> None:
    """Write or show verdicts; exit code 1 when a threshold is missed."""
    if kind in PICTURES:
        from causalmmm.plots import plot_trust

        write_picture(plot_trust(verdicts), out, kind, force=force, rows=len(verdicts))
    elif out is None and not terminal.json and shown:
        show_trust(verdicts)
    else:
        write_answer(verdicts, out, kind, force=force)
    if not verdicts["passed"].fillna(True).all():
        raise typer.Exit(1)


def show_trust(frame: pd.DataFrame) -> None:
    """Measures beside their thresholds, and what they mean."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("test", "measure", "value", "threshold", "passed", "meaning"):
        table.add_column(name, justify="right" if name == "value" else "left")
    for row in frame.to_dict("records"):
        low, high, passed = row["at_least"], row["at_most"], row["passed"]
        bounds = [f">= {rounded(low)}"] if low == low else []
        bounds += [f"<= {rounded(high)}"] if high == high else []
        value = "-" if row["value"] != row["value"] else rounded(row["value"])
        said = ("yes" if passed else "NO") if bounds else ""
        table.add_row(row["test"], row["measure"], value, ", ".join(bounds), said, row["meaning"])
    Console(width=max(120, Console().width)).print(table)


def show_metrics(frame: pd.DataFrame) -> None:
    """Metrics as a table: one row per test, series, horizon and method."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    keys = ["test", "series", "horizon", "method"]
    for _, rows in frame.groupby(frame["test"] == "structure", sort=False):
        wide = rows.pivot_table(index=keys, columns="metric", values="value", sort=False)
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in (*keys, *wide.columns):
            table.add_column(str(name), justify="left" if name in keys else "right", no_wrap=True)
        for key, values in zip(wide.index, wide.to_numpy(), strict=True):
            shown = ["-" if v != v else rounded(v) for v in values]
            table.add_row(*(str(k) for k in key), *shown)
        Console(width=max(100, 14 * (len(keys) + wide.shape[1]))).print(table)
