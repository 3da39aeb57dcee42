"""``model.json``: what a model directory says of itself, read and checked. No torch.

Weights are read in ``storage``; nothing here builds a model.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from causalmmm.engine.spec.config import renamed
from causalmmm.findings import Finding, ModelError, RefusedInput, refusal

FORMAT = 2
KIND = "causalmmm model"
HEADER, WEIGHTS = "model.json", "model.safetensors"
_KEYS = {
    "parameters": dict,
    "config": dict,
    "schema": dict,
    "nodes": list,
    "roles": list,
    "context": list,
    "controls": list,
    "calendar": dict,
    "history": list,
    "trained_on": dict,
    "tensors": dict,
}
# Tensors as format 1 names them.
TENSORS_OF_FORMAT_1 = {
    "decoder.own": "decoder.ar_weights",
    "decoder.own_state.weight": "decoder.ar_state.weight",
}


def read_header(directory: str | Path) -> dict[str, Any]:
    """The checked content of ``model.json``, without the weights."""
    folder = Path(directory)
    path = folder / HEADER
    if not folder.is_dir():
        raise refuse("no-such-model", f"There is no directory '{folder}'.", "Check the path.")
    if not path.is_file():
        raise refuse(
            "no-such-model",
            f"'{folder}' is no model directory: it has no {HEADER}.",
            "Give the directory that save() or 'causalmmm fit' wrote.",
        )
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise refuse(
            "unreadable-model", f"'{path}' is not JSON: {error}.", "Save the model again."
        ) from None
    if not isinstance(header, dict) or header.get("kind") != KIND:
        raise refuse(
            "unreadable-model", f"'{path}' does not describe a causalmmm model.", "Check the path."
        )
    version = header.get("format")
    if version not in (1, FORMAT):
        newer = isinstance(version, int) and version > FORMAT
        raise refuse(
            "newer-format" if newer else "unknown-format",
            f"'{path}' has format {version!r}, this version of causalmmm reads {FORMAT}; it was "
            f"written by causalmmm {header.get('version', 'of unknown version')}.",
            "Upgrade causalmmm." if newer else "Save the model again.",
        )
    wrong = [
        Finding(
            "error",
            "unreadable-model",
            f"'{path}' {'lacks' if key not in header else 'has no proper'} '{key}'.",
            "Save the model again.",
            column=key,
        )
        for key, kind in _KEYS.items()
        if not isinstance(header.get(key), kind)
    ]
    if wrong:
        raise ModelError(wrong)
    return _from_format_1(header) if version == 1 else header


def _from_format_1(header: dict[str, Any]) -> dict[str, Any]:
    """The header with settings and tensors named as today."""
    tensors = {TENSORS_OF_FORMAT_1.get(k, k): v for k, v in header["tensors"].items()}
    return {**header, "parameters": renamed(header["parameters"]), "tensors": tensors}


def is_model(directory: Path) -> bool:
    """Whether a directory is one that ``save`` wrote, and holds nothing else."""
    try:
        header = json.loads((directory / HEADER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    alone = {entry.name for entry in directory.iterdir()} <= {HEADER, WEIGHTS}
    return alone and isinstance(header, dict) and header.get("kind") == KIND


def check_place(target: Path, overwrite: bool) -> None:
    """Raise ``ModelError`` when ``save`` would refuse to write there."""
    if not os.path.lexists(target):
        above = next(p for p in target.absolute().parents if os.path.lexists(p))
        if not above.is_dir() or not os.access(above, os.W_OK):
            raise refuse(
                "place-taken",
                f"Nothing can be written below '{above}'.",
                "Choose a directory in a folder that is yours.",
            )
        return
    if not target.is_dir() or not is_model(target):
        raise refuse(
            "place-taken",
            f"'{target}' exists and is not only a causalmmm model, so it is not touched.",
            "Choose a directory that does not exist.",
        )
    if not overwrite:
        raise refuse(
            "place-taken",
            f"There is a model in '{target}' already.",
            "Choose another directory, or allow it to be replaced: overwrite=True (--force).",
        )


def refuse(code: str, message: str, remedy: str) -> RefusedInput:
    """The refusal of a model directory."""
    return refusal(code, message, remedy, kind=ModelError)
