"""Opening an exported file: it must be ours, whole and unchanged before anything runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import onnxruntime

from causalmmm.findings import ModelError, RefusedInput, refusal
from causalmmm.runtime.signature import FORMATS, KEY, SEAL, is_sealed

_FACTS = {
    **dict.fromkeys(("schema", "config"), dict),
    **dict.fromkeys(("nodes", "roles", "context", "controls", "dates"), list),
    **dict.fromkeys(("window", "horizon", "max_horizon", "draws", "seed"), int),
    **dict.fromkeys(("run", "version"), str),
}
_MAX_BYTES = 2**31  # protobuf's own limit
_FIRST = b"\x08"  # the key of ir_version, with which every ONNX file of ours begins
# The digest as protobuf holds it: a key, then a value of 64 characters.
_SEALED = re.compile(re.escape(SEAL.encode()) + rb"\x12@([0-9a-f]{64})")


def open_file(path: Path) -> tuple[onnxruntime.InferenceSession, dict[str, Any]]:
    """The session of an exported model and what its metadata say; ``ModelError`` otherwise."""
    if not path.is_file():
        raise refuse("no-such-model", f"There is no file '{path}'.", "Check the path.")
    with path.open("rb") as file:  # before gigabytes of something else are read
        if path.stat().st_size > _MAX_BYTES or file.read(1) not in (_FIRST, b""):
            raise refuse(
                "unreadable-model",
                f"'{path}' ({path.stat().st_size} bytes) is no ONNX model.",
                "Give a file that 'causalmmm export' wrote.",
            )
    content = path.read_bytes()
    found = _SEALED.findall(content)
    if found and not is_sealed(content, found[-1].decode()):
        raise refuse(
            "tampered-model",
            f"'{path}' was changed after it was exported: its digest does not fit.",
            "Export the model again, or copy the file again.",
        )
    try:
        session = onnxruntime.InferenceSession(
            content, _options(), providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's own exceptions have no common public class
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise refuse(
            "unreadable-model",
            f"'{path}' ({len(content)} bytes) is no ONNX model, or is cut off or damaged: {reason}",
            "Copy the file again, or export the model again.",
        ) from None
    metadata = session.get_modelmeta().custom_metadata_map
    facts = _facts(metadata.get(KEY, ""))
    if not found or not isinstance(facts, dict) or not _is_complete(facts):
        raise refuse(
            "foreign-model",
            f"'{path}' is an ONNX model, but not one that causalmmm exported.",
            "Give a file that 'causalmmm export' wrote.",
        )
    if facts.get("format") not in FORMATS:
        raise refuse(
            "newer-format",
            f"'{path}' has format {facts.get('format')!r}, this version of causalmmm reads "
            f"{FORMATS[0]} to {FORMATS[-1]}; it was written by causalmmm "
            f"{facts.get('version', 'of unknown version')}.",
            "Upgrade causalmmm, or export the model again.",
        )
    return session, facts


def _is_complete(facts: dict[str, Any]) -> bool:
    """Whether metadata hold what a model is asked by; files of newer formats may hold other."""
    if facts.get("format") not in FORMATS:
        return True
    calendar = facts.get("calendar")
    told = isinstance(calendar, dict) and isinstance(calendar.get("freq"), str)
    return told and all(isinstance(facts.get(name), kind) for name, kind in _FACTS.items())


def _facts(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _options() -> onnxruntime.SessionOptions:
    """One thread a run, since several batches run side by side; no thread spins while it waits.

    Fusions beyond the basic ones double the time to load a file and make it no faster to run.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def refuse(code: str, message: str, remedy: str) -> RefusedInput:
    return refusal(code, message, remedy, kind=ModelError)
