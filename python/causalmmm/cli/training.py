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
from causalmmm.findings import Finding, RefusedInput, counted

if TYPE_CHECKING:
    from causalmmm.data.panel import Panel
    from causalmmm.model.estimator import CausalMMM


def fit(
    out: Annotated[Path, typer.Option("-o", "--out", help="Directory of the model to write.")],
    data: Annotated[
        Path | None, typer.Argument(help="File in place of the configured one.")
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    holdout: Annotated[
        int, typer.Option(min=0, help="Last steps of every store that are left out of the fit.")
    ] = 0,
    seed: SeedOption = None,
    device: DeviceOption = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="File rewritten after every epoch, for --resume.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from --checkpoint.")] = False,
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
    if resume and (checkpoint is None or not checkpoint.is_file()):
        raise typer.BadParameter("--resume needs the file that an earlier run named --checkpoint")
    read = read_config(config, overrides, data)
    parameters = check_parameters(read.model)
    if seed is not None:
        parameters["seed"] = seed
    if device is not None:
        parameters["device"] = device
    check_device(parameters.get("device"))
    panel = read_panel(read)
    if holdout:
        panel, _ = panel.split(holdout)
    terminal.say(repr(panel))
    model = CausalMMM(**parameters)
    _run(model, panel, checkpoint, resume=resume, progress=not quiet)
    assert read.data.path is not None
    source = read.data.model_dump(mode="json")
    model.source_ = {**source, "path": str(read.data.path.resolve())}
    model.save(out, overwrite=force)
    losses = model.history_["validation"].dropna()
    best = float(losses.min()) if len(losses) else None
    facts = {
        "out": str(out),
        "stores": panel.n_stores,
        "series": len(panel.nodes),
        "epochs": len(model.history_),
        "train": float(model.history_["train"].iloc[-1]),
        "validation": best,
    }
    if json:
        terminal.result({"ok": True, **facts})
    said = "" if best is None else f", best held-out loss {best:.2f}"
    terminal.say(f"wrote {out} ({counted(len(model.history_), 'epoch')}{said})")
    terminal.say(f"next: causalmmm graph {out} --store {panel.stores[0]}", "dim")


def _run(
    model: CausalMMM, panel: Panel, checkpoint: Path | None, *, resume: bool, progress: bool
) -> None:
    """Fit; a checkpoint that cannot be gone on from is refused as what it is."""
    epochs: list[object] = []
    try:
        model.fit(
            panel, progress=progress, checkpoint=checkpoint, resume=resume, on_epoch=epochs.append
        )
    except Exception as error:
        if not resume or epochs:
            raise
        reason = str(error).splitlines()[0] if isinstance(error, ValueError | RuntimeError) else ""
        raise RefusedInput(
            [
                Finding(
                    "error",
                    "wrong-checkpoint",
                    f"This run cannot go on from '{checkpoint}'. {reason}".strip(),
                    "Resume with the data and settings that the run began with, or without it.",
                )
            ]
        ) from error
