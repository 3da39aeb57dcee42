"""What the commands share: options, messages, refusals, and reading models, panels and settings.

Results go to standard output or to ``--out``, messages to standard error. No command lives here.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TextIO

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from causalmmm.extras import needing
from causalmmm.files import check_writable, remove_leftovers
from causalmmm.findings import (
    SEVERITIES,
    RefusedInput,
    Report,
    Severity,
    counted,
    first_line,
    refusal,
)
from causalmmm.model.header import read_header

if TYPE_CHECKING:
    from causalmmm.config.configuration import Config, DataConfig
    from causalmmm.data.panel import Panel
    from causalmmm.data.readers import Readable
    from causalmmm.data.schema import Schema
    from causalmmm.model.estimator import CausalMMM

REFUSED = 2
_MAX_FINDINGS = 30  # shown on a terminal; --json and --out contain all of them
_REMEDIES = {
    errno.ENOSPC: "Nothing was replaced; free some space, or write elsewhere.",
    errno.EDQUOT: "Nothing was replaced; free some space, or write elsewhere.",
    errno.EACCES: "Choose a place that is yours, or change its permissions.",
    errno.EROFS: "Choose a place that can be written to.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}
_STYLES = {"error": "bold red", "warning": "yellow", "notice": "cyan"}

ConfigOption = Annotated[
    Path | None,
    typer.Option("-c", "--config", exists=True, dir_okay=False, help="YAML file; see 'init'."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override one key, e.g. data.gaps=zero; of a fit also model.epochs=5.",
    ),
]
SkipOption = Annotated[
    bool,
    typer.Option("--skip-bad-stores", help="Leave out stores with errors, and say which and why."),
]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="File or folder instead of the configured one.")
]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Random seed.")]
DeviceOption = Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda.")]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Print only warnings and errors.")]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Machine-readable output on standard output.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace existing output.")]
StoreOption = Annotated[list[str] | None, typer.Option("--store", help="Only these stores.")]
OutOption = Annotated[
    Path | None, typer.Option("-o", "--out", help="Output file; default: standard output.")
]
OutFolder = Annotated[Path, typer.Option("-o", "--out", help="Output folder.")]
FormatOption = Annotated[
    str | None, typer.Option("--format", help="Output format; default: by the suffix of --out.")
]
HorizonOption = Annotated[
    int | None, typer.Option(min=1, help="Steps ahead; default: the model's.")
]
ModelArgument = Annotated[
    Path, typer.Argument(help="Model directory written by 'fit'.", metavar="MODEL")
]
ExportedArgument = Annotated[
    Path, typer.Argument(help="ONNX file written by 'export'.", metavar="MODEL")
]
DrawStores = Annotated[
    int | None, typer.Option(min=1, help="Number of stores; default: the preset's.")
]
DrawSeed = Annotated[int, typer.Option("--seed", help="Random seed.")]


class Terminal:
    """Messages of the current command, and whether it is quiet or answers in JSON."""

    def __init__(self) -> None:
        self.errors = Console(stderr=True, highlight=False)
        self.quiet = self.json = False

    def start(self, *, quiet: bool = False, json: bool = False) -> None:
        self.quiet, self.json = quiet, json

    def say(self, text: str, style: str = "") -> None:
        """A line on standard error, unless ``--quiet``."""
        if not self.quiet:
            self.errors.print(Text(text, style=style), soft_wrap=True)

    def warn(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        """In place of ``warnings.showwarning``: what the library warns of, without its line of
        code. Told when quiet, too."""
        if issubclass(category, UserWarning):
            text = Text(f"warning: {message}", style="yellow")
            self.errors.print(text, soft_wrap=True)
        else:
            sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))

    def result(self, value: Any) -> None:
        """The command's JSON answer on standard output."""
        typer.echo(json.dumps(value, indent=2, default=str))

    def findings(self, report: Report, *, least: Severity = "notice") -> None:
        """Findings of severity ``least`` and above, up to a maximum number."""
        limit = SEVERITIES.index(least)
        shown = [f for f in report if SEVERITIES.index(f.severity) <= limit]
        for finding in shown[:_MAX_FINDINGS]:
            line = Text(f"{finding.severity:<8}", style=_STYLES[finding.severity])
            line.append(finding.code, style="bold").append(f"  {finding.message}", style="default")
            self.errors.print(line, soft_wrap=True)
            if finding.remedy:
                remedy = Text(f"        -> {finding.remedy}", style="dim")
                self.errors.print(remedy, soft_wrap=True)
        if len(shown) > _MAX_FINDINGS:
            more = len(shown) - _MAX_FINDINGS
            self.errors.print(f"... and {more} more; --json lists all of them")

    @contextmanager
    def working(self, task: str) -> Iterator[None]:
        """A spinner on a terminal during the block."""
        if self.quiet or not self.errors.is_terminal:
            yield
            return
        with self.errors.status(task):
            yield


terminal = Terminal()


class Commands(TyperGroup):
    """Turns the library's refusals into a message and exit code 2, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        terminal.start()
        try:
            with warnings.catch_warnings():
                warnings.showwarning = terminal.warn
                return super().invoke(ctx)
        except RefusedInput as error:
            _exit_refused(error.report.summary, error.report)
        except BrokenPipeError:  # the reader of our output has exited: not an error
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
            message = error.args[0] if isinstance(error, KeyError) and error.args else error
            said = str(message) or type(error).__name__
            if isinstance(error, OSError) and error.errno in _REMEDIES:
                said = f"{said}. {_REMEDIES[error.errno]}"
            _exit_refused(said)
        except RuntimeError as error:
            if type(error).__name__ in ("LinAlgError", "_LinAlgError"):
                _exit_refused(
                    "The series cannot be told apart: their normal equations have no solution "
                    f"({first_line(error)}). Look for extreme or identical columns (validate)."
                )
            # torch has no specific class for this error
            if "out of memory" not in str(error) or os.environ.get("CAUSALMMM_DEBUG"):
                raise
            _exit_refused("The device is out of memory: reduce batch_stores, window or draws.")


def _exit_refused(message: str, report: Report | None = None) -> NoReturn:
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
    """Findings as JSON values."""
    from dataclasses import asdict

    return [asdict(finding) for finding in report]


def read_config(
    config: Path | None, overrides: Sequence[str] | None, data: Path | None
) -> tuple[Config, Path]:
    """The configuration of a file, changed by overrides and then by a data file."""
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
        raise typer.BadParameter("no data: pass a file, or -c with 'path' under 'data'")
    return read, read.data.path


def read_panel(config: Config, *, min_steps: int = 0, skip_bad_stores: bool = False) -> Panel:
    """The panel of a configuration; its warnings are printed.

    min_steps  what the model needs, where that is more than the configuration asks for.
    """
    from causalmmm.data.panel import Panel

    data = config.data
    assert data.path is not None
    with terminal.working(f"reading {data.path}"):
        panel = Panel.read(
            data.table,
            config.schema,
            nan=data.nan,
            min_steps=max(min_steps, data.min_steps),
            gaps=data.gaps,
            business_days=data.business_days,
            skip_bad_stores=skip_bad_stores,
        )
    say_notices(panel)
    return panel


def say_notices(panel: Panel) -> None:
    if terminal.quiet:
        return
    terminal.findings(panel.report, least="warning")
    if notices := panel.report.notices:
        terminal.say(f"{counted(len(notices), 'notice')} ('causalmmm validate' lists them)", "dim")


def read_model(directory: Path, *, device: str | None = None, seed: int | None = None) -> CausalMMM:
    """A saved model, with this seed and on this device."""
    read_header(directory)  # a misspelt path is told before torch is imported
    with needing("a saved model"):
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
) -> tuple[CausalMMM, Panel, DataConfig]:
    """A saved model, the panel it is asked about, restricted to the stores that are named, and the
    settings of its data: further tables of the question are written in the same way."""
    model = read_model(directory, device=device, seed=seed)
    panel, written = panel_of(model, config, overrides, data)
    return model, panel.select(store) if store else panel, written


def of_stores(
    store: Sequence[str] | None, panel: Panel, plan: Readable | None
) -> tuple[Panel, Readable | None]:
    """The panel and a plan of the stores that are named; without names, as they are."""
    from causalmmm.data.plan import plan_of_stores

    if not store:
        return panel, plan
    some = panel.select(store)
    return some, None if plan is None else plan_of_stores(plan, panel, some.stores.tolist())


def passed_panel(
    schema: Schema, config: Path | None, overrides: Sequence[str] | None, data: Path | None
) -> tuple[Panel, DataConfig]:
    """The panel that was passed, by ``schema`` where the configuration has none, and
    its settings."""
    read, _ = read_config(config, overrides, data)
    if read.schema is None:
        read = replace(read, schema=schema)
    return read_panel(read), read.data


def refuse_model_settings(overrides: Sequence[str] | None) -> None:
    """``--set model.*`` is for a fit; who fitted already is told, not ignored."""
    if any(override.strip().startswith("model.") for override in overrides or ()):
        raise typer.BadParameter("--set model.* belongs to 'fit': a fitted model keeps its own")


def panel_of(
    model: CausalMMM, config: Path | None, overrides: Sequence[str] | None, data: Path | None
) -> tuple[Panel, DataConfig]:
    """The panel that was passed, else the file on which the model was fitted, and its settings."""
    refuse_model_settings(overrides)
    if config is not None or data is not None:
        return passed_panel(model.schema_, config, overrides, data)
    source = model.source_
    if source is None:
        raise typer.BadParameter("no data path is stored with this model; pass --data or -c")
    if not Path(source["path"]).exists():
        raise typer.BadParameter(
            f"the data of the fit, '{source['path']}', have moved or no longer exist; pass "
            "--data or -c"
        )
    read = _settings_of_fit(model, overrides or ())
    panel = read_panel(
        read,
        min_steps=source.get("least", 0),
        skip_bad_stores=source.get("skip_bad_stores", False),
    )
    if not overrides and (change := _change_since_fit(model, panel)):
        terminal.say(f"warning: the data of the fit, '{source['path']}', {change}", "yellow")
    return panel, read.data


def _settings_of_fit(model: CausalMMM, overrides: Sequence[str]) -> Config:
    """How the data of a fit were read, changed by overrides."""
    import yaml

    from causalmmm.config.configuration import Config, DataConfig

    assert model.source_ is not None
    known = {name: model.source_[name] for name in DataConfig.model_fields if name in model.source_}
    read = Config.parse(yaml.safe_dump({"data": known}), overrides)
    return read if read.schema is not None else replace(read, schema=model.schema_)


def _change_since_fit(model: CausalMMM, panel: Panel) -> str:
    """How the file on which a model was fitted differs from what it was then, or nothing."""
    from causalmmm.data.fingerprint import training_record

    assert model.source_ is not None
    holdout = model.source_["holdout"]
    if holdout is None:  # formats 1 and 2
        return ""
    try:
        now = training_record(panel.split(holdout)[0] if holdout else panel)
    except ValueError:  # shorter than what was held out
        now = training_record(panel)
    facts = ("stores", "rows", "first", "last")
    differing = [
        f"{name} {model.trained_on_[name]} then, {now[name]} now"
        for name in facts
        if model.trained_on_[name] != now[name]
    ]
    if now["fingerprint"] == model.trained_on_["fingerprint"]:
        return ""
    what = "; ".join(differing) or "other values in the same rows"
    return f"have changed since ({what}): answers are for the data as they are now"


def check_device(device: str | None) -> str | None:
    """The name of the device; refused if there is no such device."""
    if device is None or device in ("auto", "cpu"):
        return device
    with needing("a device"):
        import torch

    if not device.startswith("cuda"):
        raise typer.BadParameter(f"unknown device '{device}'; choose auto, cpu, cuda or cuda:N")
    index = device.removeprefix("cuda").removeprefix(":")
    if not torch.cuda.is_available() or (index and int(index) >= torch.cuda.device_count()):
        raise typer.BadParameter(f"device '{device}' is not available on this machine")
    return device


def fresh(path: Path, force: bool, what: str = "file") -> Path:
    """The path of a file or folder to write; refused if it exists and may not be replaced."""
    occupied = path.is_dir() and any(path.iterdir()) if what == "folder" else path.exists()
    wrong_kind = path.exists() and path.is_dir() != (what == "folder")
    if wrong_kind or (occupied and not force):
        kind = "folder" if path.is_dir() else "file"
        remedy = f"Pass the path of a {what}." if wrong_kind else "Choose another, or add --force."
        raise refusal("place-taken", f"The {kind} '{path}' already exists.", remedy)
    if not path.exists() or path.is_file():  # neither a folder that is there nor a device
        check_writable(path, size=1_000_000)
    if path.parent.is_dir():
        remove_leftovers(path)
    return path
