"""The progress of a training run, and its checkpoint file.

The file holds a digest of all that follows, one line of JSON that says which run it belongs to, and
what torch saves. Nothing is unpickled before both fit. What identifies a run is for the caller to
say.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.training.adamw import AdamW

_MAGIC = b"causalmmm checkpoint 2\n"
_DIGEST = 33  # bytes: 32 hexadecimal digits and a line end
_MAX_LINE = 100_000_000  # bytes of the JSON line; longer ones are damaged


class CheckpointError(ValueError):
    """A file that is no checkpoint, is damaged, or belongs to another run."""


@dataclass
class EpochReport:
    """Result of one epoch: losses per store in nats, and speed in stores per second.

    ``validation`` is the latest loss on the validation stores, NaN before the first;
    ``gradient_norm`` the mean over the updates, before clipping.
    """

    epoch: int
    epochs: int
    train: float
    validation: float
    kl_edges: float
    gradient_norm: float
    stores_per_second: float


@dataclass
class TrainState:
    """Everything beside weights and optimiser that a resumed run needs to continue bit for bit.

    score         latest validation loss.
    best          lowest validation loss, reached with ``best_weights``.
    stale         validations since then.
    """

    epoch: int = 0
    score: float = math.nan
    best: float = math.inf
    stale: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    history: list[EpochReport] = field(default_factory=list)


def save_checkpoint(
    path: Path,
    model: CausalModel,
    optimiser: AdamW,
    state: TrainState,
    identity: Mapping[str, Any],
) -> None:
    """Write a checkpoint beside the old one, then replace it, so that a crash leaves one intact.

    ``identity`` (JSON values) says which run this is. The temporary name is always the same, so
    what a killed run leaves is overwritten by the next one.
    """
    saved = {
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "state": {**vars(state), "history": [vars(r) for r in state.history]},
    }
    buffer = io.BytesIO()
    torch.save(saved, buffer)
    content = buffer.getvalue()
    line = json.dumps({"bytes": len(content), "identity": dict(identity)}).encode() + b"\n"
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.writelines((_MAGIC, _digest(line, content), line, content))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load_checkpoint(
    path: Path,
    model: CausalModel,
    optimiser: AdamW,
    identity: Mapping[str, Any],
) -> TrainState:
    """Restore ``model`` and ``optimiser`` in place, and return the state of the run.

    Raises ``CheckpointError`` for a file that is damaged or belongs to a run of other identity.
    """
    found, content = _read(path)
    if differing := differences(found, identity):
        raise CheckpointError(f"'{path}' belongs to another run: {'; '.join(differing)}")
    saved = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    model.load_state_dict(saved["model"])
    optimiser.load_state_dict(saved["optimiser"])
    state = saved["state"]
    return TrainState(**{**state, "history": [EpochReport(**r) for r in state["history"]]})


def is_checkpoint(path: Path) -> bool:
    """Whether a file begins as ``save_checkpoint`` begins it."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def checkpoint_identity(path: Path) -> dict[str, Any]:
    """The identity of the run that wrote a checkpoint; ``CheckpointError`` if it is damaged."""
    return _read(path)[0]


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """``seed 0 there, 5 here`` for every value in which two identities differ."""
    a, b = dict(_leaves(there)), dict(_leaves(here))
    absent = "nothing"
    return [
        f"{name} {a.get(name, absent)!r} there, {b.get(name, absent)!r} here"
        for name in dict.fromkeys([*b, *a])
        if a.get(name, absent) != b.get(name, absent)
    ]


def _leaves(identity: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in identity.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _read(path: Path) -> tuple[dict[str, Any], bytes]:
    """Identity and content of a checkpoint whose digest fits."""
    damaged = f"'{path}' is damaged or cut off: its digest does not fit"
    if not is_checkpoint(path):
        raise CheckpointError(f"'{path}' is no checkpoint of this version")
    with path.open("rb") as file:
        file.seek(len(_MAGIC))
        digest, line = file.read(_DIGEST), file.readline(_MAX_LINE)
        try:
            facts = json.loads(line)
            size, identity = int(facts["bytes"]), dict(facts["identity"])
        except (ValueError, TypeError, KeyError, RecursionError):
            raise CheckpointError(damaged) from None
        if os.fstat(file.fileno()).st_size != file.tell() + size:  # before so much is read
            raise CheckpointError(damaged)
        content = file.read(size)
    if digest != _digest(line, content):
        raise CheckpointError(damaged)
    return identity, content


def _digest(line: bytes, content: bytes) -> bytes:
    digest = hashlib.blake2b(line, digest_size=16)
    digest.update(content)
    return digest.hexdigest().encode() + b"\n"
