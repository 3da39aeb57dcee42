"""Checkpoints of a fit: what identifies its run, and which files may be resumed or overwritten.

The file itself is written and read in ``causalmmm.engine.training.checkpoint``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from causalmmm.engine.training.checkpoint import (
    CheckpointError,
    checkpoint_identity,
    differences,
    is_checkpoint,
)
from causalmmm.extras import package_version
from causalmmm.files import check_writable
from causalmmm.findings import Finding, ModelError
from causalmmm.model.header import refuse
from causalmmm.model.parameters import parameters_to_json


def run_identity(
    parameters: Mapping[str, Any], trained_on: Mapping[str, Any], nodes: list[str], structure: str
) -> dict[str, Any]:
    """What decides the course of a run, as JSON values; the device may change between two parts.

    structure  the one that is fitted; "auto" may come to fit two, one after the other.
    """
    plain = parameters_to_json(parameters)
    return {
        "data": {**trained_on, "series": list(nodes)},
        "parameters": {name: value for name, value in plain.items() if name != "device"},
        "structure": structure,
        "versions": {"causalmmm": package_version(), "torch": torch.__version__},
    }


def check_checkpoint(path: Path, identities: list[dict[str, Any]]) -> dict[str, Any]:
    """The one of these identities whose run wrote the checkpoint.

    Raises ``ModelError`` for a file that is missing, damaged, or of another run; a finding for
    every difference.
    """
    if not path.is_file():
        raise refuse(
            "no-such-checkpoint",
            f"Nothing to resume: there is no checkpoint '{path}'.",
            "Check the path, or start without --resume (resume=True).",
        )
    try:
        saved = checkpoint_identity(path)
    except CheckpointError as error:
        raise refuse(
            "wrong-checkpoint",
            f"This run cannot continue: {error}.",
            "Start without --resume (resume=True).",
        ) from None
    saved.pop("epochs", None)  # follows from the rest
    differing = [differences(saved, identity) for identity in identities]
    if [] in differing:
        return identities[differing.index([])]
    remedy = (
        "Resume with the data and settings of the earlier run, or start without --resume "
        "(resume=True)."
    )
    raise ModelError(
        [
            Finding(
                "error",
                "wrong-checkpoint",
                f"Checkpoint '{path}' belongs to another run: {difference}.",
                remedy,
                column=difference.split(" ", 1)[0],
            )
            for difference in min(differing, key=len)
        ]
    )


def check_checkpoint_place(path: Path) -> None:
    """Raise ``ModelError`` unless a checkpoint can be written there without losing another file."""
    if path.exists() and not (path.is_file() and is_checkpoint(path)):
        raise refuse(
            "place-taken",
            f"'{path}' exists and is no checkpoint of this version, so it is not touched.",
            "Choose a file that does not exist.",
        )
    check_writable(path, kind=ModelError)
