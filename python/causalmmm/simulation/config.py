"""What a simulation is made of: every knob of the process, and the named presets.

Numbers only; drawing lives in ``draw``, the dynamics in ``process``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_STEP_DAYS = {"D": 1, "W-MON": 7}


@dataclass(frozen=True)
class SimulationConfig:
    """The law from which stores are drawn. All levels are relative to a series' own typical level.

    Shape: ``stores`` x ``steps`` (``freq`` "D" or "W-MON", first date ``start``) of ``channels`` paid
    channels, ``mediators`` mediators and one target, with ``context`` static features per store.

    Graphs: ``archetypes`` graphs shared by groups of stores; 0 draws one graph per store. An ordered
    pair carries an edge with the probability named for its kind; every graph's target has a parent.

    Spend: a log AR(1) with memory ``spend_memory`` and innovations ``spend_noise``, times weekly and
    yearly seasonality, times campaigns. A share ``sparse`` of the channels is silent (exact zeros)
    between campaigns; the others run always and are raised by ``campaign_lift`` during one.

    Responses: decay, slope and half-saturation of each sender are drawn uniformly from their ranges;
    context moves log half-saturation with standard deviation ``context_strength`` over stores, and
    log slope with half of it.

    Effects: what a receiver gains from a fully saturated sender, in units of its typical level:
    ``effect_on_channel`` / ``_mediator`` / ``_target`` is the median over pairs, ``effect_spread`` the
    log standard deviation over pairs and ``store_spread`` that of a store around its pair.

    Mediators and target: 1 + trend + seasonality, plus effects and noise of standard deviation
    ``noise``, both remembered with ``own_memory``. ``trend`` is the yearly growth's standard deviation
    over stores.

    How hard it is, and why these values: at T = 100 an edge explains a few per cent of its receiver's
    innovations, so one store's history shows the strong edges and hides the weak ones (per-store linear
    Granger reaches about 0.9 AUROC with the lag that suits it best); edge probabilities of the kinds of
    pairs are close enough that neither the receiver nor the pair alone tells much. The values were set
    by those two figures, never by a score of this package's own model.
    """

    name: str = "custom"
    stores: int = 300
    steps: int = 100
    channels: int = 6
    mediators: int = 1
    context: int = 2
    archetypes: int = 3
    freq: str = "D"
    start: str = "2024-01-01"

    channel_to_channel: float = 0.15
    channel_to_mediator: float = 0.30
    channel_to_target: float = 0.30
    mediator_to_target: float = 0.60
    target_to_channel: float = 0.12

    spend_memory: tuple[float, float] = (0.3, 0.7)
    spend_noise: tuple[float, float] = (0.3, 0.5)
    sparse: float = 0.25
    campaign_share: tuple[float, float] = (0.3, 0.6)
    campaign_steps: tuple[float, float] = (7.0, 21.0)
    campaign_lift: float = 1.0

    decay: tuple[float, float] = (0.1, 0.7)
    slope: tuple[float, float] = (1.0, 2.5)
    half_saturation: tuple[float, float] = (0.6, 1.5)
    context_strength: float = 0.3

    effect_on_channel: float = 0.9
    effect_on_mediator: float = 0.5
    effect_on_target: float = 0.4
    effect_spread: float = 0.35
    store_spread: float = 0.3

    noise: float = 0.08
    own_memory: tuple[float, float] = (0.0, 0.5)
    trend: float = 0.1
    weekly: float = 0.12
    yearly: float = 0.15
    store_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.freq not in _STEP_DAYS:
            raise ValueError(f"freq is {self.freq!r}; the simulator draws {sorted(_STEP_DAYS)}")
        for field, least in (("stores", 1), ("steps", 2), ("channels", 1), ("mediators", 0)):
            if getattr(self, field) < least:
                raise ValueError(f"{field} is {getattr(self, field)}; it must be at least {least}")
        if self.archetypes < 0 or self.context < 0:
            raise ValueError("archetypes and context must not be negative")
        if self.freq == "W-MON" and np.datetime64(self.start, "D").astype(int) % 7 != 4:
            raise ValueError(f"start is {self.start}; weekly data begin on a Monday")

    @property
    def n_nodes(self) -> int:
        return self.channels + self.mediators + 1

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names in node order: x0 ..., then pv (pv1 ... beyond the first), then gmv."""
        mediators = [f"pv{k}" if k else "pv" for k in range(self.mediators)]
        return (*(f"x{k}" for k in range(self.channels)), *mediators, "gmv")

    @property
    def roles(self) -> tuple[str, ...]:
        return (*("channel",) * self.channels, *("mediator",) * self.mediators, "target")

    @property
    def dates(self) -> NDArray[np.datetime64]:
        """datetime64[D] [steps]."""
        days = np.arange(self.steps) * _STEP_DAYS[self.freq]
        return np.datetime64(self.start, "D") + days.astype("timedelta64[D]")

    def changed(self, **changes: Any) -> SimulationConfig:
        """A copy with the named fields replaced; ValueError names a field that does not exist."""
        known = {field.name for field in dataclasses.fields(self)}
        unknown = sorted(set(changes) - known)
        if unknown:
            raise ValueError(f"unknown setting {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        return dataclasses.replace(self, **changes)


PRESETS: dict[str, SimulationConfig] = {
    "airmmm": SimulationConfig(
        name="airmmm", stores=50, steps=670, channels=11, context=5, start="2022-01-01"
    ),
    "paper-small": SimulationConfig(name="paper-small"),
    "paper-large": SimulationConfig(
        name="paper-large", stores=1000, channels=16, mediators=3, archetypes=5
    ),
    "marketplace": SimulationConfig(
        name="marketplace", stores=100_000, steps=180, channels=13, mediators=2, archetypes=12
    ),
}


def resolve(preset: str | SimulationConfig, **changes: Any) -> SimulationConfig:
    """The preset of that name (or the configuration given) with the changes that are not None."""
    if isinstance(preset, str):
        if preset not in PRESETS:
            raise ValueError(f"unknown preset {preset!r}; known: {', '.join(PRESETS)}")
        preset = PRESETS[preset]
    return preset.changed(**{name: value for name, value in changes.items() if value is not None})
