"""A trained prior as two files: ``weights.safetensors``, and ``record.json`` of how it came about.

The package ships one in this folder; ``causalmmm pretrain`` writes others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from causalmmm.engine.prior.familiarity import Familiarity
from causalmmm.engine.prior.network import PriorNetwork

WEIGHTS, RECORD = "weights.safetensors", "record.json"
SHIPPED = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Prior:
    """A trained network, what is familiar to it, and the record of its training."""

    network: PriorNetwork
    familiarity: Familiarity
    record: Mapping[str, Any]


@cache
def shipped_prior() -> Prior:
    """The prior of the package, read once."""
    return read_prior(SHIPPED)


def write_prior(
    folder: Path, network: PriorNetwork, familiarity: Familiarity, record: Mapping[str, Any]
) -> dict[str, Any]:
    """Write both files into a folder, made where it is missing; the record with its digest."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"network.{k}": v.contiguous() for k, v in network.state_dict().items()}
    tensors |= {f"familiarity.{k}": v.contiguous() for k, v in familiarity.state_dict().items()}
    content = save(tensors)
    (folder / WEIGHTS).write_bytes(content)
    whole = {**record, "sha256": hashlib.sha256(content).hexdigest()}
    text = json.dumps(whole, indent=1) + "\n"
    (folder / RECORD).write_text(text, encoding="utf-8")
    return whole


def read_prior(folder: Path) -> Prior:
    """What :func:`write_prior` wrote. ``ValueError`` where files are missing, damaged, or do not
    belong together."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        content = (folder / WEIGHTS).read_bytes()
        if hashlib.sha256(content).hexdigest() != record["sha256"]:
            raise ValueError(f"'{folder / WEIGHTS}' is not the file that {RECORD} describes")
        tensors = load(content)
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        parts: dict[str, dict[str, Any]] = {"network": {}, "familiarity": {}}
        for name, tensor in tensors.items():
            part, rest = name.split(".", 1)
            parts[part][rest] = tensor
        network = empty_network(shapes["network.read.0.weight"])
        network.load_state_dict(parts["network"])
        familiarity = empty_familiarity(shapes["familiarity.directions"])
        familiarity.load_state_dict(parts["familiarity"])
        return Prior(network.eval().requires_grad_(False), familiarity, record)
    except (OSError, KeyError, SafetensorError, RuntimeError) as error:
        raise ValueError(
            f"'{folder}' holds no trained prior: {error}; train one with 'causalmmm pretrain'"
        ) from error


def empty_network(first: Sequence[int]) -> PriorNetwork:
    """A network for weights whose first layer has this shape."""
    width, features = first
    return PriorNetwork(features, width)


def empty_familiarity(directions: Sequence[int]) -> Familiarity:
    """Tensors for a familiarity whose directions have this shape."""
    return Familiarity(directions[0] // 2, directions[1])
