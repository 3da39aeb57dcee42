"""Program of one rank for test_ranks.py: trains, then writes the weights, or dies on the way.

It is called as ``torchrun ... on_ranks.py CHECKPOINT WEIGHTS [die | resume]``.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from small import build, three_stores, windows_of

from causalmmm.engine.spec.config import TrainConfig
from causalmmm.engine.training.checkpoint import EpochReport
from causalmmm.engine.training.loop import train
from causalmmm.engine.training.ranks import Ranks

CONFIG, EPOCHS_BEFORE_DEATH = TrainConfig(epochs=12, patience=20), 5


def trained(checkpoint: Path | None, manner: str = "") -> torch.nn.Module:
    def die(report: EpochReport) -> None:
        if manner == "die" and report.epoch > EPOCHS_BEFORE_DEATH and Ranks.of_environment().rank:
            os.kill(os.getpid(), signal.SIGKILL)

    model = build(hidden=16).train()
    options = {"checkpoint": checkpoint, "resume": manner == "resume", "on_epoch": die}
    train(model, windows_of(three_stores()), CONFIG, seed=0, device=torch.device("cpu"), **options)
    return model


if __name__ == "__main__":
    model = trained(Path(sys.argv[1]), *sys.argv[3:])
    if Ranks.of_environment().rank == 0:
        torch.save(model.state_dict(), sys.argv[2])
