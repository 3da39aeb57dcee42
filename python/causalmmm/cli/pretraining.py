"""``pretrain``: the prior of graphs that the package ships, from a seed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from causalmmm.cli.common import DrawSeed, ForceOption, JsonOption, QuietOption, fresh, terminal
from causalmmm.extras import needing

if TYPE_CHECKING:
    from causalmmm.engine.prior import PretrainReport


def pretrain(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of weights and record.")],
    laws: Annotated[
        int | None, typer.Option(min=2, help="Laws to draw; default: as shipped.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the laws; default: as shipped.")
    ] = None,
    width: Annotated[
        int | None, typer.Option(min=4, help="Width of the network; default: as shipped.")
    ] = None,
    seed: DrawSeed = 0,
    work: Annotated[
        Path, typer.Option(help="Folder of draws and checkpoints, for a run to go on from.")
    ] = Path("runs/pretrain"),
    force: ForceOption = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Train the prior of graphs on simulated laws: weights.safetensors and record.json.

    Without options it makes the weights that the package ships. The same seed and settings give the
    same bits on the same versions of torch and numpy.

    \b
    causalmmm pretrain -o engine/prior/weights --force
    causalmmm pretrain --laws 200 --epochs 3 -o runs/prior
    """
    terminal.start(quiet=quiet, json=json)
    with needing("pretraining"):
        from causalmmm.engine.prior import PretrainConfig
        from causalmmm.model.pretraining import pretrain as run

    fresh(out, force, "folder")
    given = {"laws": laws, "epochs": epochs, "width": width, "seed": seed}
    config = dataclasses.replace(
        PretrainConfig(), **{name: value for name, value in given.items() if value is not None}
    )

    def drawn(count: int) -> None:
        terminal.say(f"{count} of {config.laws} laws drawn", "dim")

    def epoch(report: PretrainReport) -> None:
        terminal.say(
            f"epoch {report.epoch + 1} of {config.epochs}: cross entropy {report.train:.4f}, "
            f"on other laws {report.validation:.4f}"
        )

    record: dict[str, Any] = run(out, config, work=work, drawn=drawn, on_epoch=epoch)
    if json:
        terminal.result({"ok": True, "out": str(out), **record})
    terminal.say(f"wrote {out}")
