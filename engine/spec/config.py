"""Settings of the model and of its training, as two frozen records that serialise to JSON.

The paper's ablations are values of these fields; they have no code of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

STRUCTURES = ("learned", "pretrained", "evidence", "full", "empty")


@dataclass(frozen=True)
class ModelConfig:
    """Architecture and priors of the model.

    hidden       width H of the encoder.
    lags         lags L of the encoder's edge features; 0 selects the paper's raw-window encoder.
    raw_window   steps of each series that the raw-window encoder reads (only when lags == 0).
    decays       initial carry-over rate of each response component; one component per entry.
    delays       delay of each response component in steps, on top of the one-step lag.
    ar_lags      number of autoregressive lags of every series on itself.
    yearly       harmonics of the yearly cycle in the baseline; None takes 3 if the median history
                 spans half a year, else 0. The weekly cycle is always complete.
    prior        prior probability of an edge.
    prototypes   number of prototype graphs, learned from all stores; their mixture is the prior of
                 each store's graph.
    effect_spread  prior standard deviation of a store's log effect around the shared effect.
    structure    source of the graphs: "learned" from all stores together, "pretrained" from each
                 store by the network that comes with the package, "evidence" from each store alone
                 in closed form, "full" (every edge present) or "empty" (none).
    saturation   False replaces the Hill curve by the identity.
    carryover    False fixes every decay at zero (the paper's Markov ablation).
    store_effects  False uses the same effects in every store.
    """

    hidden: int = 32
    lags: int = 7
    raw_window: int = 64
    decays: tuple[float, ...] = (0.1, 0.5, 0.8, 0.3, 0.3, 0.3)
    delays: tuple[int, ...] = (0, 0, 0, 2, 4, 6)
    ar_lags: int = 7
    yearly: int | None = None
    prior: float = 0.05
    prototypes: int = 8
    effect_spread: float = 0.3
    structure: str = "learned"
    saturation: bool = True
    carryover: bool = True
    store_effects: bool = True

    def __post_init__(self) -> None:
        if len(self.decays) != len(self.delays) or not self.decays:
            raise ValueError("decays and delays need one entry per response component each")
        if any(not 0.0 < d < 1.0 for d in self.decays):
            raise ValueError(f"every decay must lie strictly between 0 and 1, got {self.decays}")
        if any(d < 0 for d in self.delays):
            raise ValueError(f"every delay must be at least 0 steps, got {self.delays}")
        if not 0.0 < self.prior < 1.0:
            raise ValueError(f"prior is a probability strictly between 0 and 1, got {self.prior}")
        if self.structure not in STRUCTURES:
            raise ValueError(f"structure must be one of {STRUCTURES}, got {self.structure!r}")
        if not self.effect_spread > 0.0:
            raise ValueError(f"effect_spread must be above 0, got {self.effect_spread}")
        minimum = {"hidden": 4, "lags": 0, "raw_window": 1, "ar_lags": 1, "prototypes": 1}
        if self.structure == "evidence":
            minimum["lags"] = 1
        _check_minimum(self, minimum)

    @property
    def memory(self) -> int:
        """Number of preceding rows that the prediction of a row needs."""
        return max(self.lags, self.ar_lags, max(self.delays) + 1)


@dataclass(frozen=True)
class TrainConfig:
    """Settings of the optimiser and of the objective.

    epochs        passes over the stores; None takes as many as give about ``steps`` updates.
    steps         target number of updates when ``epochs`` is None, for panels with up to 8 series
                  and few enough stores that this passes over them 50 times. Larger panels get more
                  updates, since one update covers a smaller share of the stores.
    batch_stores  stores per update; None takes about 100,000 values (8 to 256 stores).
    window        maximum length of a training window, in steps.
    target_share  share of each window that is hidden from the encoder and predicted (cross-window
                  objective); ``same_window=True`` predicts the context rows instead (the paper).
    patience      validations without improvement before stopping. The model is validated every
                  epoch or, where an epoch has few updates, every 10 updates.
    temperature   initial and final Gumbel-Softmax temperature.
    """

    epochs: int | None = None
    steps: int = 1200
    batch_stores: int | None = None
    window: int = 730
    target_share: float = 0.4
    same_window: bool = False
    learning_rate: float = 5e-3
    weight_decay: float = 1e-4
    clip: float = 10.0
    temperature: tuple[float, float] = (1.0, 0.5)
    validation: float = 0.1
    patience: int = 20
    amp: bool = True

    def __post_init__(self) -> None:
        if self.epochs is not None and self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {self.epochs}")
        if not 0.05 <= self.target_share <= 0.8:
            raise ValueError(f"target_share lies between 0.05 and 0.8, got {self.target_share}")
        if not 0.0 <= self.validation <= 0.5:
            raise ValueError(f"validation must lie between 0 and 0.5, got {self.validation}")
        if self.batch_stores is not None and self.batch_stores < 1:
            raise ValueError(f"batch_stores must be at least 1, got {self.batch_stores}")
        if min(self.temperature) <= 0:
            raise ValueError(f"temperatures must be positive, got {self.temperature}")
        if not (self.learning_rate > 0.0 and self.clip > 0.0 and self.weight_decay >= 0.0):
            raise ValueError(
                "learning_rate and clip must be above 0 and weight_decay at least 0, got "
                f"{self.learning_rate}, {self.clip} and {self.weight_decay}"
            )
        _check_minimum(self, {"steps": 1, "patience": 1, "window": 8})


def _check_minimum(config: ModelConfig | TrainConfig, minimum: dict[str, int]) -> None:
    for name, value in minimum.items():
        if getattr(config, name) < value:
            raise ValueError(f"{name} must be at least {value}, got {getattr(config, name)}")


C = TypeVar("C", "ModelConfig", "TrainConfig")

# Settings as models and exported files of format 1 name them.
_NAMES_OF_FORMAT_1 = {"own_lags": "ar_lags", "scored": "target_share"}


def renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by today's names, from those of an earlier format."""
    return {_NAMES_OF_FORMAT_1.get(name, name): value for name, value in values.items()}


def from_json(kind: type[C], values: Mapping[str, Any]) -> C:
    """A configuration from its JSON fields; unknown names raise ``ValueError``."""
    values = renamed(values)
    names = {f.name for f in fields(kind)}
    unknown = sorted(set(values) - names)
    if unknown:
        raise ValueError(f"unknown {kind.__name__} settings {unknown}; choose from {sorted(names)}")
    arguments: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
    }
    return kind(**arguments)
