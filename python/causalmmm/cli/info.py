"""``info``: the content of a model directory, or the versions installed."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Annotated, Any

import typer

from causalmmm.cli.common import JsonOption, terminal

_PACKAGES = (
    *("torch", "triton", "numpy", "pandas", "pyarrow", "matplotlib", "holidays"),
    *("onnx", "onnxruntime"),
)


def info(
    model: Annotated[
        Path | None,
        typer.Argument(help="Model directory written by 'fit'; default: this installation."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Describe a model directory, or the installation: versions, devices, compiled kernels.

    \b
    causalmmm info
    causalmmm info runs/a
    """
    terminal.start(json=json)
    facts = installation() if model is None else description(model)
    if json:
        terminal.result(facts)
        return
    _show(facts)


def show_version(requested: bool) -> None:
    """The eager option ``--version``."""
    if requested:
        from causalmmm.extras import package_version

        typer.echo(f"causalmmm {package_version()}")
        raise typer.Exit


def installation() -> dict[str, Any]:
    """Versions, devices and the compiled module."""
    from importlib.metadata import PackageNotFoundError, version

    from causalmmm.extras import package_version

    def installed(name: str) -> str | None:
        try:
            return version(name)
        except PackageNotFoundError:
            return None

    try:
        from causalmmm import _C

        compiled: Any = dict(_C.build_info())
    except ImportError:
        compiled = None
    try:
        import torch
    except ImportError:
        gpus, threads = [], None
    else:
        gpus = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
        threads = torch.get_num_threads()
    return {
        "causalmmm": package_version(),
        "python": platform.python_version(),
        **{name: installed(name) for name in _PACKAGES},
        "compiled module": compiled,
        "cuda devices": gpus,
        "threads": threads,
    }


def description(directory: Path) -> dict[str, Any]:
    """The content of a model directory, without reading the weights."""
    from causalmmm.model.header import WEIGHTS, read_header

    header = read_header(directory)
    trained, history = header["trained_on"], header["history"]
    losses = [row["validation"] for row in history if row.get("validation") is not None]
    path = directory / WEIGHTS
    regression = header.get("regression") is not None
    return {
        "model": str(directory),
        "written by": f"causalmmm {header['version']}, format {header['format']}",
        "series": dict(zip(header["nodes"], header["roles"], strict=True)),
        "context": header["context"],
        "controls": header["controls"],
        "stores": trained["stores"],
        "rows": trained["rows"],
        "dates": f"{trained['first']} to {trained['last']} ({trained['freq']})",
        "data": (header.get("source") or {}).get("path"),
        "fingerprint": trained["fingerprint"],
        "regime": "regression" if regression else "amortised",
        "regime because": trained.get("regime because"),
        "structure": None if regression else header["config"]["structure"],
        "epochs": None if regression else len(history),
        "best held-out loss": min(losses) if losses else None,
        "weights": sum(_size(t["shape"]) for t in header["tensors"].values()),
        "bytes": path.stat().st_size if path.is_file() else None,
        "parameters": header["parameters"],
    }


def _size(shape: list[int]) -> int:
    count = 1
    for n in shape:
        count *= n
    return count


def _show(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        table.add_row(Text(name, style="bold"), Text(_as_text(value)))
    Console(highlight=False).print(table)


def _as_text(value: Any) -> str:
    if value is None or value == []:
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{k}: {_as_text(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(map(_as_text, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
