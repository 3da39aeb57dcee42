"""How long a model trains and how its rates change: functions of the settings and the panel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import Tensor

from causalmmm.engine.batches.windows import Windows
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.spec.config import TrainConfig

_VALUES_PER_UPDATE = 100_000
_FEW_SERIES = 8  # with more series the number of updates grows in proportion
_MIN_PASSES, _MAX_EXTENSION = 50, 4.0  # passes over the stores; factor on the updates to reach them
_MIN_EPOCHS = 5
_STRUCTURAL_LR_SCALE = 4.0  # of interpretable parameters, relative to the encoder's networks
_STRUCTURAL_ENCODER_PARAMETERS = ("prototypes", "mixture")
_REFIT_AT = (0.25, 0.35, 0.45)  # of all epochs
_MAX_WARMUP_UPDATES = 50
_MIN_LR_SCALE = 0.02
_KL_STARTS_AT, _KL_RAMP = 0.1, 0.3  # of all updates
# A fit that continues an earlier one: share of its updates, and of its learning rate.
_CONTINUED_SHARE, _CONTINUED_LR_SCALE = 0.2, 0.05


def stores_per_update(windows: Windows) -> int:
    """About 100,000 values per update: small enough for many updates, large enough to vectorise."""
    return int(np.clip(_VALUES_PER_UPDATE // values_per_store(windows), 8, 256))


def values_per_store(windows: Windows) -> int:
    """Values of a usual window: series times steps."""
    steps = min(int(np.median(windows.data.lengths)), windows.window)
    return steps * windows.data.n_nodes


def epoch_count(
    target_updates: int, nodes: int, updates_per_epoch: int, *, continued: bool = False
) -> int:
    """Epochs that give about ``target_updates``, or more on a large panel.

    Updates are added in proportion to the series beyond 8, because an update then holds fewer
    stores, and where they would pass over the stores less than 50 times, up to four times as many.
    A ``continued`` fit takes a fifth.
    """
    updates = target_updates * max(1.0, nodes / _FEW_SERIES)
    updates = min(max(updates, _MIN_PASSES * updates_per_epoch), _MAX_EXTENSION * updates)
    if continued:
        updates *= _CONTINUED_SHARE
    return max(_MIN_EPOCHS, round(updates / updates_per_epoch))


def refit_epochs(epochs: int) -> set[int]:
    """Epochs before which the prototypes are refitted: while the weight of the KL term grows."""
    return {max(1, round(share * epochs)) for share in _REFIT_AT}


def parameter_groups(model: CausalModel, config: TrainConfig) -> list[dict[str, Any]]:
    """Two groups for the optimiser; ``pace`` multiplies the learning rate.

    The encoder's networks learn at the nominal rate. Structural parameters, those with a meaning of
    their own (decays, effects, baselines, prototypes), have further to go: they learn faster and
    have no weight decay.
    """
    networks: list[Tensor] = []
    structural: list[Tensor] = []
    for name, parameter in model.named_parameters():
        module, _, attribute = name.partition(".")
        is_network = (
            module == "encoder" and attribute.split(".")[0] not in _STRUCTURAL_ENCODER_PARAMETERS
        )
        (networks if is_network else structural).append(parameter)
    return [
        {"params": networks, "pace": 1.0, "weight_decay": config.weight_decay},
        {"params": structural, "pace": _STRUCTURAL_LR_SCALE, "weight_decay": 0.0},
    ]


class Schedule:
    """Learning-rate factor, Gumbel-Softmax temperature and KL weight of every update.

    A fit that is ``continued`` goes on as the earlier one ended: at the final temperature and the
    whole KL, with a twentieth of the learning rate.
    """

    def __init__(self, config: TrainConfig, total: int, *, continued: bool = False) -> None:
        self.total, self.continued = max(total, 1), continued
        self.warmup = max(1, min(_MAX_WARMUP_UPDATES, total // 10))
        self.initial, self.final = config.temperature

    def rate(self, update: int) -> float:
        """Linear warm-up to 1, then a cosine down to ``_MIN_LR_SCALE``."""
        scale = _CONTINUED_LR_SCALE if self.continued else 1.0
        if update < self.warmup:
            return scale * (update + 1) / self.warmup
        cosine = 0.5 * (1 + math.cos(math.pi * update / self.total))
        return scale * (cosine * (1 - _MIN_LR_SCALE) + _MIN_LR_SCALE)

    def temperature(self, update: int) -> float:
        """Geometric decay to the final temperature, reached after 60 % of all updates."""
        share = 1.0 if self.continued else min(1.0, update / (0.6 * self.total))
        return self.initial * (self.final / self.initial) ** share

    def kl(self, update: int) -> float:
        """0 while effects are learned behind open gates, then linear up to 1."""
        if self.continued:
            return 1.0
        return min(1.0, max(0.0, (update / self.total - _KL_STARTS_AT) / _KL_RAMP))
