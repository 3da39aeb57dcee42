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
    """The law from which stores are drawn; the defaults are those of ``airmmm``.

    Shape: ``stores`` x ``steps`` (``freq`` "D" or "W-MON", first date ``start``) of ``channels``
    paid channels, ``mediators`` mediators and one target, with ``context`` static features per
    store.

    Graphs: ``archetypes`` graphs shared by groups of stores; 0 draws one graph per store. An
    ordered pair carries an edge with the probability named for its kind; every graph's target has a
    parent. Cycles may occur (spend follows the target that it drives); ``cycle`` > 0 adds to every
    graph one directed cycle through that many channels. With ``break_at`` > 0 a store has another
    graph (another archetype, or one of its own) before that share of its history; the truth is the
    later graph.

    Spend: a log AR(1) with memory ``spend_memory`` and innovations ``spend_noise``, times weekly
    and yearly seasonality, times campaigns. A share ``sparse`` of the channels is silent (exact
    zeros) between campaigns; the others run always and are raised by ``campaign_lift`` during one.

    Responses: decay, slope and half-saturation of each sender are drawn uniformly from their ranges
    (mediators and target take ``outcome_slope``); half-saturation is in units of the sender's
    typical level. Context moves its logarithm with standard deviation ``context_strength`` over
    stores, and the logarithm of the slope with half of that.

    Effects: what a receiver gains from a fully saturated sender, in units of what the receiver
    would be without any sender: ``effect_on_*`` for channels as senders, ``effect_of_mediator`` on
    the target, ``effect_of_target`` on channels. These are medians over pairs; ``effect_spread`` is
    the log standard deviation over pairs and ``store_spread`` that of a store around its pair. An
    effect acts ``lag`` steps after its cause; the lag of each ordered pair is drawn from that
    range, both ends included, and shared by all stores.

    Demand: a latent log AR(1) of the store with unit variance and memory ``demand_memory``, in no
    graph and no column. Spend follows the demand of the step before with elasticity
    ``demand_on_spend``; mediators and target are raised by ``demand_on_outcome`` times the demand
    of the same step, in units of what they would be without any sender. Both are multiplied by a
    loading of the series, uniform between 0.5 and 1.5.

    Mediators and target: 1 + trend + seasonality, plus effects and noise (``mediator_noise``,
    ``target_noise``: standard deviations in units of the typical level), both remembered with
    ``own_memory``. ``trend`` is the standard deviation over stores of the growth per year.

    Difficulty, and why these values. ``airmmm``: two years of days let one store's history show
    most edges (per-store linear Granger about 0.87 AUROC) while channels explain about 0.35-0.5 of
    the target's variance beyond trend and season, as in real panels. ``paper-small``: at T = 100
    such effects would be lost in noise (0.75), so they are made clearer until per-store linear
    Granger with the lag that suits it best reaches 0.85-0.9. ``paper-large``: 20 series leave 100
    steps too few for any per-store VAR, so it has 200. In all, the probabilities of the kinds of
    pairs are close and archetypes avoid each other's edges, so that neither the receiver (0.4-0.7)
    nor how common an edge is (0.7-0.86) tells the graph. The values were set by these figures,
    never by a score of this package's own model; ``bench/results`` holds the measured ones.
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

    channel_to_channel: float = 0.18
    channel_to_mediator: float = 0.25
    channel_to_target: float = 0.25
    mediator_to_target: float = 0.5
    target_to_channel: float = 0.15
    cycle: int = 0
    break_at: float = 0.0

    spend_memory: tuple[float, float] = (0.3, 0.7)
    spend_noise: tuple[float, float] = (0.3, 0.5)
    sparse: float = 0.25
    campaign_share: tuple[float, float] = (0.3, 0.6)
    campaign_steps: tuple[float, float] = (7.0, 21.0)
    campaign_lift: float = 0.5

    decay: tuple[float, float] = (0.1, 0.7)
    slope: tuple[float, float] = (1.0, 2.5)
    outcome_slope: tuple[float, float] = (2.0, 4.0)
    half_saturation: tuple[float, float] = (0.6, 1.5)
    context_strength: float = 0.3

    effect_on_channel: float = 2.0
    effect_on_mediator: float = 0.5
    effect_on_target: float = 0.2
    effect_of_mediator: float = 0.5
    effect_of_target: float = 2.0
    effect_spread: float = 0.35
    store_spread: float = 0.3
    lag: tuple[int, int] = (1, 1)

    demand_on_spend: float = 0.0
    demand_on_outcome: float = 0.0
    demand_memory: float = 0.8

    mediator_noise: float = 0.2
    target_noise: float = 0.08
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
        if self.cycle and not 2 <= self.cycle <= self.channels:
            raise ValueError(f"cycle is {self.cycle}; it takes 2 to {self.channels} channels")
        if not 0.0 <= self.break_at < 1.0:
            raise ValueError(f"break_at is {self.break_at}; it is a share of the history below 1")
        if self.break_at and self.archetypes == 1:
            raise ValueError("a break needs another graph: more archetypes, or 0 for one per store")
        if not 1 <= self.lag[0] <= self.lag[1]:
            raise ValueError(f"lag is {self.lag}; it is a range of steps from 1 upwards")
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
            raise ValueError(
                f"unknown setting {', '.join(unknown)}; known: {', '.join(sorted(known))}"
            )
        return dataclasses.replace(self, **changes)


# Clearer effects for short histories: faster and steeper responses, spend that follows its drivers.
_CLEAR = SimulationConfig(
    sparse=0.15,
    decay=(0.1, 0.5),
    slope=(1.5, 3.0),
    effect_on_channel=6.0,
    effect_on_mediator=1.2,
    effect_on_target=0.6,
    effect_of_mediator=0.7,
    effect_of_target=6.0,
    mediator_noise=0.18,
)

# More series share a receiver in large systems: sparser pairs, larger effects, less noise.
_CLEAR_LARGE = _CLEAR.changed(
    channel_to_channel=0.12,
    channel_to_mediator=0.2,
    channel_to_target=0.2,
    effect_on_mediator=2.0,
    effect_on_target=1.2,
    mediator_noise=0.1,
    target_noise=0.05,
)

PRESETS: dict[str, SimulationConfig] = {
    "airmmm": SimulationConfig(
        name="airmmm", stores=50, steps=670, channels=11, context=5, start="2022-01-01"
    ),
    "paper-small": _CLEAR.changed(name="paper-small"),
    "paper-large": _CLEAR_LARGE.changed(
        name="paper-large", stores=1000, steps=200, channels=16, mediators=3, archetypes=5
    ),
    "marketplace": _CLEAR_LARGE.changed(
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
