"""An exported file where a command takes a model directory too: answers without torch.

Only questions that both answer, in the same tables; which they are stands in the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from causalmmm.cli.common import model_and_panel, passed_panel, refuse_model_settings, terminal
from causalmmm.extras import needing

if TYPE_CHECKING:
    from causalmmm.config.configuration import DataConfig
    from causalmmm.data.panel import Panel
    from causalmmm.model.estimator import CausalMMM
    from causalmmm.runtime import OnnxModel

AnsweringArgument = Annotated[
    Path,
    typer.Argument(
        help="Model directory written by 'fit', or ONNX file written by 'export' (with --data).",
        metavar="MODEL",
    ),
]


def answering(
    model: Path,
    question: str,
    data: Path | None,
    config: Path | None,
    overrides: Sequence[str] | None,
    store: Sequence[str] | None,
    *,
    device: str | None,
) -> tuple[CausalMMM | OnnxModel, Panel, DataConfig]:
    """``model_and_panel``, also of a file; a file that does not answer the question is refused."""
    if model.is_dir() or (not model.exists() and model.suffix != ".onnx"):
        return model_and_panel(model, data, config, overrides, store, device=device)
    refuse_model_settings(overrides)
    with needing("an exported file"):
        from causalmmm.runtime import OnnxModel
    if device not in (None, "auto", "cpu"):
        raise typer.BadParameter(f"an exported file answers on the CPU, not on '{device}'")
    with terminal.working(f"loading {model}"):
        file = OnnxModel(model)
    file.check_answers(question)
    if config is None and data is None:
        raise typer.BadParameter("an exported file names no data: pass --data or -c")
    from causalmmm.data.schema import Schema

    panel, read = passed_panel(Schema.check(file.schema), config, overrides, data)
    return file, panel.select(store) if store else panel, read
