"""``fit``: from a configuration to a saved model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from causalmmm.cli.common import (
    ConfigOption,
    DeviceOption,
    ForceOption,
    JsonOption,
    QuietOption,
    SeedOption,
    SetOption,
    check_device,
    read_config,
    read_panel,
    terminal,
)
from causalmmm.files import exclusive
from causalmmm.findings import counted

if TYPE_CHECKING:
    from causalmmm.data.panel import Panel
    from causalmmm.model.estimator import CausalMMM


def fit(
    out: Annotated[Path, typer.Option("-o", "--out", help="Model directory to write.")],
    data: Annotated[
        Path | None, typer.Argument(help="CSV or Parquet file instead of the configured one.")
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    holdout: Annotated[
        int, typer.Option(min=0, help="Last steps of every store to exclude from the fit.")
    ] = 0,
    seed: SeedOption = None,
    device: DeviceOption = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="File updated after every epoch, for --resume.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from --checkpoint.")] = False,
    absolute: Annotated[
        bool,
        typer.Option(
            "--absolute-path",
            help="Store where the data are as an absolute path, not relative to the model.",
        ),
    ] = False,
    force: ForceOption = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Fit one model for all stores of a panel.

    \b
    causalmmm fit -c causalmmm.yml -o runs/a
    causalmmm fit -c causalmmm.yml -o runs/b --holdout 28 --set model.epochs=50
    """
    terminal.start(quiet=quiet, json=json)
    from causalmmm import CausalMMM
    from causalmmm.model.header import check_place
    from causalmmm.model.parameters import check_parameters

    check_place(out, force)
    if resume and checkpoint is None:
        raise typer.BadParameter("--resume needs --checkpoint, a file written by an earlier run")
    settings, path = read_config(config, overrides, data)
    parameters = check_parameters(settings.model)
    if seed is not None:
        parameters["seed"] = seed
    if device is not None:
        parameters["device"] = device
    check_device(parameters.get("device"))
    panel = read_panel(settings)
    if holdout:
        panel, _ = panel.split(holdout)
    terminal.say(repr(panel))
    model = CausalMMM(**parameters)
    with exclusive(out):
        model.fit(panel, progress=not quiet, checkpoint=checkpoint, resume=resume)
        read = settings.data.model_dump(mode="json")
        model.source_ = {**read, "path": str(path.resolve()), "holdout": holdout}
        model.source_["absolute"] = absolute
        model.save(out, overwrite=force)
    _report(model, panel, out)


def _report(model: CausalMMM, panel: Panel, out: Path) -> None:
    facts = {
        "ok": True,
        "out": str(out),
        "stores": panel.n_stores,
        "series": len(panel.nodes),
        "regime": model.regime_,
    }
    if model.regime_ == "regression":
        shifts = int(model.history_["level_shifts"].sum())
        facts["level_shifts"] = shifts
        fitted = f"response regression, {counted(shifts, 'level shift')} in all stores"
    else:
        losses = model.history_["validation"].dropna()
        best = float(losses.min()) if len(losses) else None
        epochs = len(model.history_)
        train = float(model.history_["train"].iloc[-1])
        facts |= {"epochs": epochs, "train": train, "validation": best}
        best_loss = "" if best is None else f", best held-out loss {best:.2f}"
        fitted = f"{counted(epochs, 'epoch')}{best_loss}"
    if terminal.json:
        terminal.result(facts)
    terminal.say(f"wrote {out} ({fitted})")
    terminal.say(f"next: causalmmm graph {out} --store {panel.stores[0]}", "dim")
