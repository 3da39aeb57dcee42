"""``fit``: from a configuration to a saved model."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
    SkipOption,
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
        Path | None,
        typer.Option(help="File updated after every epoch; default: OUT.checkpoint until the end."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the checkpoint of a run that ended.")
    ] = False,
    start: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Model directory to go on from, fitted on an earlier state of these data.",
        ),
    ] = None,
    absolute: Annotated[
        bool,
        typer.Option(
            "--absolute-path",
            help="Store where the data are as an absolute path, not relative to the model.",
        ),
    ] = False,
    deterministic: Annotated[
        bool,
        typer.Option(
            "--deterministic", help="One thread: the number of threads changes no bit of the model."
        ),
    ] = False,
    skip_bad_stores: SkipOption = False,
    force: ForceOption = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Fit one model for all stores of a panel.

    A run that is stopped (Ctrl-C, SIGTERM) or killed loses at most one epoch: the same command with
    --resume goes on, to the same bits.

    \b
    causalmmm fit -c causalmmm.yml -o runs/a
    causalmmm fit -c causalmmm.yml -o runs/a --resume
    causalmmm fit -c causalmmm.yml -o runs/b --holdout 28 --set model.epochs=50
    causalmmm fit -c causalmmm.yml -o runs/c --from runs/a
    """
    terminal.start(quiet=quiet, json=json)
    from causalmmm import CausalMMM
    from causalmmm.inference.compatibility import steps_needed
    from causalmmm.model.demand import least_memory
    from causalmmm.model.header import check_place
    from causalmmm.model.parameters import check_parameters, model_config

    check_place(out, force)
    settings, path = read_config(config, overrides, data)
    parameters = check_parameters(settings.model)
    if seed is not None:
        parameters["seed"] = seed
    if device is not None:
        parameters["device"] = device
    if deterministic:
        parameters["deterministic"] = True
    check_device(parameters.get("device"))
    least = holdout + steps_needed(model_config(parameters))
    panel = read_panel(settings, min_steps=least, skip_bad_stores=skip_bad_stores)
    if holdout:
        panel, _ = panel.split(holdout)
    model = CausalMMM(**parameters)
    terminal.say(f"{panel!r}, at least {least_memory(model, panel)} of memory")
    own = out.with_name(f"{out.name}.checkpoint")
    with exclusive(out):
        check_place(out, force)  # another run may just have ended there
        _fit(model, panel, checkpoint, own, start, resume=resume, progress=not quiet)
        read = settings.data.model_dump(mode="json")
        model.source_ = {**read, "path": str(path.resolve()), "holdout": holdout}
        model.source_ |= {"absolute": absolute, "least": least, "skip_bad_stores": skip_bad_stores}
        model.save(out, overwrite=force)
        own.unlink(missing_ok=True)
    _report(model, panel, out)


def _fit(
    model: CausalMMM,
    panel: Panel,
    checkpoint: Path | None,
    own: Path,
    start: Path | None,
    *,
    resume: bool,
    progress: bool,
) -> None:
    """Fit, with a checkpoint where the regime has them; a signal ends it with what to do next."""
    from causalmmm.model.regimes import chosen_regime

    regime, _ = chosen_regime(model.regime, model.structure, panel)
    closed_form = regime == "regression" and start is None
    file = checkpoint or (None if closed_form else own)
    if file == own and own.exists() and not resume:
        terminal.say(f"'{own}' of a run that did not end is replaced; --resume goes on", "yellow")
    began = time.time()
    try:
        with _terminable():
            model.fit(panel, progress=progress, checkpoint=file, resume=resume, init_model=start)
    except KeyboardInterrupt as stop:
        number = stop.args[0] if stop.args else signal.SIGINT
        said = f"stopped by {signal.Signals(number).name}"
        written = file is not None and file.exists() and file.stat().st_mtime >= began - 1
        if file is not None and (written or resume):
            option = "" if file == own else f" --checkpoint {file}"
            said += f"; '{file}' has the run up to its last whole epoch: run the same command with"
            said += f"{option} --resume to go on"
        else:
            said += " before an epoch was complete: there is nothing to resume"
        if terminal.json:
            terminal.result({"ok": False, "error": said, "findings": []})
        terminal.errors.print(said, style="yellow", soft_wrap=True)
        raise typer.Exit(128 + number) from None


@contextmanager
def _terminable() -> Iterator[None]:
    """Within the block SIGTERM, as a scheduler sends it, ends the work as Ctrl-C does."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt(number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _report(model: CausalMMM, panel: Panel, out: Path) -> None:
    facts = {
        "ok": True,
        "out": str(out),
        "stores": panel.n_stores,
        "series": len(panel.nodes),
        "regime": model.regime_,
        "regime_because": model.trained_on_["regime because"],
    }
    because = facts["regime_because"]
    if model.regime_ == "regression":
        shifts = int(model.history_["level_shifts"].sum())
        facts["level_shifts"] = shifts
        fitted = f"response regression: {because}; {counted(shifts, 'level shift')} in all stores"
    else:
        losses = model.history_["validation"].dropna()
        best = float(losses.min()) if len(losses) else None
        epochs = len(model.history_)
        train = float(model.history_["train"].iloc[-1])
        facts |= {"epochs": epochs, "train": train, "validation": best}
        best_loss = "" if best is None else f", best held-out loss {best:.2f}"
        fitted = f"amortised model: {because}; {counted(epochs, 'epoch')}{best_loss}"
    if terminal.json:
        terminal.result(facts)
    terminal.say(f"wrote {out} ({fitted})")
    terminal.say(f"next: causalmmm graph {out} --store {panel.stores[0]}", "dim")
