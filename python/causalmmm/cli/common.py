"""What all commands share: their common options, what they say and where, how they refuse.

Results go to standard output or to ``--out``; everything said to people goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from causalmmm.extras import needing
from causalmmm.findings import Finding, RefusedInput, Report, counted

if TYPE_CHECKING:
    from causalmmm.config.configuration import Config
    from causalmmm.data.panel import Panel
    from causalmmm.model.estimator import CausalMMM

REFUSED = 2
_SHOWN = 30  # findings on a terminal; all of them are in --json and in --out
_STYLES = {"error": "bold red", "warning": "yellow", "notice": "cyan"}

ConfigOption = Annotated[
    Path | None,
    typer.Option("-c", "--config", exists=True, dir_okay=False, help="YAML file; see 'init'."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override one key, e.g. model.epochs=5."),
]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="CSV or Parquet file in place of the configured one.")
]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Seed of all randomness.")]
DeviceOption = Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda.")]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Say only what went wrong.")]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Machine-readable output on standard output.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace what is there already.")]
StoreOption = Annotated[list[str] | None, typer.Option("--store", help="Only these stores.")]
OutOption = Annotated[
    Path | None, typer.Option("-o", "--out", help="File to write, else standard output.")
]
FormatOption = Annotated[
    str | None, typer.Option("--format", help="In place of what the suffix of --out says.")
]
ModelArgument = Annotated[Path, typer.Argument(help="Directory that 'fit' wrote.", metavar="MODEL")]


class Terminal:
    """What the current command may say, and in which form."""

    def __init__(self) -> None:
        self.errors = Console(stderr=True, highlight=False)
        self.quiet = self.json = False

    def start(self, *, quiet: bool = False, json: bool = False) -> None:
        self.quiet, self.json = quiet, json

    def say(self, text: str, style: str = "") -> None:
        """A line for people, unless they asked for quiet."""
        if not self.quiet:
            self.errors.print(Text(text, style=style), soft_wrap=True)

    def result(self, value: Any) -> None:
        """The command's machine-readable answer."""
        typer.echo(json.dumps(value, indent=2, default=str))

    def findings(self, report: Report, *, least: str = "notice") -> None:
        """Findings as people read them, at most some dozens."""
        kept = ("error", "warning", "notice")
        shown = [f for f in report if kept.index(f.severity) <= kept.index(least)]
        for found in shown[:_SHOWN]:
            line = Text(f"{found.severity:<8}", style=_STYLES[found.severity])
            line.append(found.code, style="bold").append(f"  {found.message}", style="default")
            self.errors.print(line, soft_wrap=True)
            if found.remedy:
                self.errors.print(Text(f"        -> {found.remedy}", style="dim"), soft_wrap=True)
        if len(shown) > _SHOWN:
            self.errors.print(f"... and {len(shown) - _SHOWN} more; --json lists them all")

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """A sign of life on a terminal while something is computed."""
        if self.quiet or not self.errors.is_terminal:
            yield
            return
        with self.errors.status(what):
            yield


terminal = Terminal()


class Commands(TyperGroup):
    """Turns what the library refuses into a message and exit code 2, never into a traceback."""

    def invoke(self, ctx: Any) -> Any:
        terminal.start()
        try:
            return super().invoke(ctx)
        except RefusedInput as error:
            _refuse(error.report.summary, error.report)
        except BrokenPipeError:  # the reader of our output has left: nothing is wrong
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except (
            ValueError,
            KeyError,
            OSError,
            ImportError,
            FloatingPointError,
            MemoryError,
        ) as error:
            if os.environ.get("CAUSALMMM_DEBUG"):
                raise
            said = error.args[0] if isinstance(error, KeyError) and error.args else error
            _refuse(str(said) or type(error).__name__)
        except RuntimeError as error:
            # torch has no narrower class for this one
            if "out of memory" not in str(error) or os.environ.get("CAUSALMMM_DEBUG"):
                raise
            _refuse("The device is out of memory: lower batch_stores, window or draws.")


def _refuse(message: str, report: Report | None = None) -> NoReturn:
    if terminal.json:
        findings = [] if report is None else to_records(report)
        terminal.result({"ok": False, "error": message, "findings": findings})
    terminal.errors.print(
        Text("refused: ", style="bold red").append(message, style="default"), soft_wrap=True
    )
    if report is not None:
        terminal.findings(report)
    raise typer.Exit(REFUSED) from None


def to_records(report: Report) -> list[dict[str, Any]]:
    """Findings as JSON holds them."""
    from dataclasses import asdict

    return [asdict(found) for found in report]


def read_config(config: Path | None, overrides: Sequence[str] | None, data: Path | None) -> Config:
    """The configuration of a file, of overrides and of a data file, in this order."""
    from causalmmm.config.configuration import Config
    from causalmmm.model.parameters import parameter_names

    keys = parameter_names()
    if config is not None:
        read = Config.read(config, overrides or (), model_keys=keys)
    else:
        read = Config.parse("", overrides or (), model_keys=keys, folder=Path())
    if data is not None:
        read = replace(read, data=read.data.model_copy(update={"path": data}))
    if read.data.path is None:
        raise typer.BadParameter("name the data: a file, or -c with 'path' under 'data'")
    return read


def read_panel(config: Config) -> Panel:
    """The panel of a configuration; what was doubted or recognised is said."""
    from causalmmm.data.panel import Panel

    data = config.data
    assert data.path is not None
    with terminal.working(f"reading {data.path}"):
        panel = Panel.read(data.path, config.schema, nan=data.nan, min_steps=data.min_steps)
    say_notices(panel)
    return panel


def say_notices(panel: Panel) -> None:
    if terminal.quiet:
        return
    terminal.findings(panel.report, least="warning")
    if notices := panel.report.notices:
        terminal.say(f"{counted(len(notices), 'notice')} ('causalmmm validate' lists them)", "dim")


def read_model(directory: Path, *, device: str | None = None, seed: int | None = None) -> CausalMMM:
    """A saved model, for the seed and on the device asked for."""
    from causalmmm.model.estimator import load

    with terminal.working(f"loading {directory}"):
        model = load(directory, device=check_device(device))
    return model if seed is None else model.set_params(seed=seed)


def model_and_panel(
    directory: Path,
    data: Path | None,
    config: Path | None,
    overrides: Sequence[str] | None,
    store: Sequence[str] | None = None,
    *,
    device: str | None,
    seed: int | None = None,
) -> tuple[CausalMMM, Panel]:
    """A saved model, and the panel to answer for, of some stores where they are named."""
    model = read_model(directory, device=device, seed=seed)
    panel = panel_of(model, config, overrides, data)
    return model, panel.select(store) if store else panel


def panel_of(
    model: CausalMMM, config: Path | None, overrides: Sequence[str] | None, data: Path | None
) -> Panel:
    """The panel to answer for: the one named, else the file on which the model was fitted."""
    from causalmmm.config.configuration import Config, DataConfig

    if config is None and data is None:
        source = model.source_
        if source is None:
            raise typer.BadParameter("the model does not know its data: name it by --data or -c")
        if not Path(source["path"]).is_file():
            raise typer.BadParameter(
                f"the data on which the model was fitted are no longer in '{source['path']}': "
                "name them by --data or -c"
            )
        read = Config(model.schema_, DataConfig.model_validate(source))
    else:
        read = read_config(config, overrides, data)
        if read.schema is None:
            read = replace(read, schema=model.schema_)
    return read_panel(read)


def check_device(device: str | None) -> str | None:
    """The name, when the device is here; refuses it otherwise."""
    if device is None or device in ("auto", "cpu"):
        return device
    with needing("a device"):
        import torch

    if not device.startswith("cuda"):
        raise typer.BadParameter(f"'{device}' is no device: auto, cpu, cuda or cuda:1")
    index = device.removeprefix("cuda").removeprefix(":")
    if not torch.cuda.is_available() or (index and int(index) >= torch.cuda.device_count()):
        raise typer.BadParameter(f"there is no device '{device}' here")
    return device


def fresh(path: Path, force: bool, what: str = "file") -> Path:
    """The path of a file or folder to write, refused when it is there and may not be replaced."""
    full = path.is_dir() and any(path.iterdir()) if what == "folder" else path.exists()
    wrong = path.exists() and path.is_dir() != (what == "folder")
    if wrong or (full and not force):
        kind = "folder" if path.is_dir() else "file"
        remedy = f"Give the path of a {what}." if wrong else "Choose another, or add --force."
        message = f"The {kind} '{path}' is there already."
        raise RefusedInput([Finding("error", "place-taken", message, remedy)])
    return path
