"""The progress of a training run, and its checkpoint file."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from causalmmm.engine.nn.model import CausalModel


@dataclass
class EpochReport:
    """Result of one epoch: losses per store in nats, and speed in stores per second.

    ``validation`` is the latest loss on the validation stores, NaN before the first.
    """

    epoch: int
    epochs: int
    train: float
    validation: float
    kl_edges: float
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
    path: Path, model: CausalModel, optimiser: torch.optim.Optimizer, state: TrainState, epochs: int
) -> None:
    """Write a checkpoint beside the old one, then replace it, so that a crash leaves one intact."""
    partial = path.with_suffix(".partial")
    torch.save(
        {
            "epochs": epochs,
            "model": model.state_dict(),
            "optimiser": optimiser.state_dict(),
            "state": {**vars(state), "history": [vars(r) for r in state.history]},
        },
        partial,
    )
    partial.replace(path)


def load_checkpoint(
    path: Path | None, model: CausalModel, optimiser: torch.optim.Optimizer, epochs: int
) -> TrainState:
    """Restore ``model`` and ``optimiser`` in place, and return the state of the run."""
    if path is None or not path.exists():
        raise FileNotFoundError(f"nothing to resume: no checkpoint at {path}")
    saved = torch.load(path, map_location="cpu", weights_only=True)
    if saved["epochs"] != epochs:
        raise ValueError(
            f"{path} is from a run of {saved['epochs']} epochs, but this run has {epochs}; "
            "resume with the settings of the original run"
        )
    model.load_state_dict(saved["model"])
    saved_groups = saved["optimiser"]["param_groups"]
    for saved_group, group in zip(saved_groups, optimiser.param_groups, strict=True):
        saved_group |= {key: group[key] for key in ("lr", "fused", "capturable")}  # of this device
    optimiser.load_state_dict(saved["optimiser"])
    state = saved["state"]
    return TrainState(**{**state, "history": [EpochReport(**r) for r in state["history"]]})
