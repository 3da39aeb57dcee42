"""``model.json``: what a model directory says of itself, read and checked. No torch.

It holds the size and digest of the weights beside it, and a digest of itself, so that a changed bit
or the weights of another fit are refused. Weights are read in ``storage``; nothing here builds a
model.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from causalmmm.engine.spec.config import renamed
from causalmmm.files import check_writable
from causalmmm.findings import Finding, ModelError, RefusedInput, refusal

FORMAT = 3  # since 3 with digests; since 2 with today's names of settings and tensors
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
_MAX_BYTES = 200_000_000  # of model.json; larger files are not ours
_BLANK = "0" * 32
_DIGEST = re.compile(rb'\n "digest": "([0-9a-f]{32})"\n}\n$')
# Tensors as format 1 names them.
TENSORS_OF_FORMAT_1 = {
    "decoder.own": "decoder.ar_weights",
    "decoder.own_state.weight": "decoder.ar_state.weight",
}


def header_text(facts: Mapping[str, Any]) -> str:
    """``model.json`` for these facts, which end with the digest of the whole text."""
    text = json.dumps({**facts, "digest": _BLANK}, indent=1, allow_nan=False) + "\n"
    return f"{text[: -len(_BLANK) - 4]}{digest(text.encode())}{text[-4:]}"


def digest(content: bytes) -> str:
    """The digest of an artefact, 32 hexadecimal digits."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def read_header(directory: str | Path) -> dict[str, Any]:
    """The checked content of ``model.json``, without the weights."""
    folder = Path(directory)
    path = folder / HEADER
    if folder.is_file():
        raise refuse(
            "no-such-model",
            f"'{folder}' is a file, not a model directory.",
            "Give the directory that save() or 'causalmmm fit' wrote; an exported file answers "
            "'roi', 'paths', 'decompose', 'score' and 'serve'.",
        )
    if not folder.is_dir():
        raise refuse("no-such-model", f"There is no directory '{folder}'.", "Check the path.")
    if not path.is_file():
        raise refuse(
            "no-such-model",
            f"'{folder}' is no model directory: it has no {HEADER}.",
            "Give the directory that save() or 'causalmmm fit' wrote.",
        )
    if path.stat().st_size > _MAX_BYTES:
        raise refuse(
            "unreadable-model",
            f"'{path}' has {path.stat().st_size} bytes, more than any model needs.",
            "Check the path.",
        )
    content = path.read_bytes()
    try:
        header = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise refuse(
            "unreadable-model", f"'{path}' is not JSON: {error}.", "Save the model again."
        ) from None
    if not isinstance(header, dict) or header.get("kind") != KIND:
        raise refuse(
            "unreadable-model", f"'{path}' does not describe a causalmmm model.", "Check the path."
        )
    version = header.get("format")
    if type(version) is not int or not 1 <= version <= FORMAT:
        newer = isinstance(version, int) and version > FORMAT
        raise refuse(
            "newer-format" if newer else "unknown-format",
            f"'{path}' has format {version!r}, this version of causalmmm reads 1 to {FORMAT}; it "
            f"was written by causalmmm {header.get('version', 'of unknown version')}.",
            "Upgrade causalmmm." if newer else "Save the model again.",
        )
    if version >= 3 or "digest" in header:
        _check_digest(content, path)
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


def _check_digest(content: bytes, path: Path) -> None:
    found = _DIGEST.search(content)
    blank = _DIGEST.sub(f'\n "digest": "{_BLANK}"\n}}\n'.encode(), content)
    if found is None or digest(blank) != found.group(1).decode():
        raise refuse(
            "tampered-model",
            f"'{path}' was changed after the model was saved: its digest does not fit.",
            "Copy the file again, or save the model again.",
        )


def _from_format_1(header: dict[str, Any]) -> dict[str, Any]:
    """The header with settings and tensors named as today."""
    tensors = {TENSORS_OF_FORMAT_1.get(k, k): v for k, v in header["tensors"].items()}
    return {**header, "parameters": renamed(header["parameters"]), "tensors": tensors}


def is_model(directory: Path) -> bool:
    """Whether a directory is one that ``save`` wrote, and holds nothing else."""
    try:
        header = json.loads((directory / HEADER).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    alone = {entry.name for entry in directory.iterdir()} <= {HEADER, WEIGHTS}
    return alone and isinstance(header, dict) and header.get("kind") == KIND


def check_place(target: Path, overwrite: bool) -> None:
    """Raise ``ModelError`` when ``save`` would refuse to write there, or could not."""
    check_writable(target, kind=ModelError)
    if not os.path.lexists(target):
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
