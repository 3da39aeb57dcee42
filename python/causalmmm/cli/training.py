"""``fit``: from a configuration to a saved model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    causalmmm fit -c causalmmm.yml -o runs/b --holdout 28 --set model.epochs=50 --seed 1
    """
    terminal.start(quiet=quiet, json=json)
    from causalmmm.estimator import CausalMMM
    from causalmmm.parameters import check_parameters
    from causalmmm.storage import check_place

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
    model.fit(panel, progress=not quiet, checkpoint=checkpoint, resume=resume)
    assert read.data.path is not None
    source = read.data.model_dump(mode="json")
    model.source_ = {**source, "path": str(read.data.path.resolve())}
    model.save(out, overwrite=force)
    last = model.history_.iloc[-1]
    facts = {
        "out": str(out),
        "stores": panel.n_stores,
        "series": len(panel.nodes),
        "epochs": len(model.history_),
        "train": float(last["train"]),
        "validation": float(model.history_["validation"].min()),
    }
    if json:
        terminal.result({"ok": True, **facts})
    terminal.say(
        f"wrote {out} ({facts['epochs']} epochs, best held-out loss {facts['validation']:.2f})"
    )
    terminal.say(f"next: causalmmm graph {out} --store {panel.stores[0]}", "dim")
