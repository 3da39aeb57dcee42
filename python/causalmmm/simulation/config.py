"""What a simulation is made of: every setting of the law from which stores are drawn.

Numbers only; named laws live in ``presets``, drawing in ``draw``, the dynamics in ``process``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalmmm.simulation.process import SATURATIONS

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
    later graph. ``routes`` replaces what is drawn of channel -> mediator and channel -> target: the
    shares of channels that act directly, through one mediator, and both; every mediator then drives
    the target, and the rest of the channels drive neither.

    Spend: a log AR(1) with memory ``spend_memory`` and innovations ``spend_noise``, times weekly
    and yearly seasonality, times campaigns. A share ``sparse`` of the channels is silent (exact
    zeros) between campaigns; the others run always and are raised by ``campaign_lift`` during one.
    ``campaign_steps`` is the range of their mean lengths; with ``shared_campaigns`` they begin and
    end in all stores at once.

    Responses: decay, slope and half-saturation of each sender are drawn uniformly from their ranges
    (mediators and target take ``outcome_slope``); half-saturation is in units of the sender's
    typical level. Context moves its logarithm with standard deviation ``context_strength`` over
    stores, and the logarithm of the slope with half of that. ``saturation`` is "hill", "logistic"
    or "log" (the last two have no slope; see ``process``), ``carryover`` "geometric" or "weibull":
    weights of a Weibull density with a shape out of ``weibull_shape`` and the mean delay of the
    geometric one of the same decay, over ``weibull_steps`` steps. ``carry_in`` is the carry-over of
    channels before the window, in units of their typical level.

    Effects: what a receiver gains from a fully saturated sender, in units of what the receiver
    would be without any sender: ``effect_on_*`` for channels as senders, ``effect_of_mediator`` on
    the target, ``effect_of_target`` on channels. These are medians over pairs; ``effect_spread`` is
    the log standard deviation over pairs and ``store_spread`` that of a store around its pair. An
    effect acts ``lag`` steps after its cause; the lag of each ordered pair is drawn from that
    range, both ends included, and shared by all stores. With ``same_step`` effects act within the
    step (lag 0) where roles order the pair: channel before mediators (the first before the second
    ...) before target; all other pairs keep their lag.

    Controls: ``controls`` columns, known and nobody's lever: in turn a standard normal AR(1) with
    memory ``control_memory``, and a promotion that runs (1) or not (0). Each raises the target by
    about ``control_effect`` per unit, in units of what it would be without any sender.

    Demand: a latent log AR(1) of the store with unit variance and memory ``demand_memory``, in no
    graph and no column. Spend follows the demand of the step before (of the same step with
    ``same_step``) with elasticity ``demand_on_spend``; mediators and target are raised by
    ``demand_on_outcome`` times the demand of the same step, in units of what they would be without
    any sender. Both are multiplied by a loading of the series, uniform between 0.5 and 1.5.

    Mediators and target: 1 + trend + seasonality, plus effects and noise (``mediator_noise``,
    ``target_noise``: standard deviations in units of the typical level), both remembered with
    ``own_memory``. ``trend`` is the standard deviation over stores of the growth per year. With
    ``multiplicative`` trend and season multiply effects and noise too. ``level_shift`` is added to
    the target's 1 from that share ``level_shift_at`` of the history on, in the first
    ``level_shift_stores`` stores (0: in all); ``level_shift_flag`` adds a control that is 1 from
    then on. ``store_scale`` and ``level_spread`` are log standard deviations: of the size of
    stores, and of each series' level around it.

    Difficulty, and why these values. ``airmmm``: two years of days let one store's history show
    most edges (per-store linear Granger about 0.87 AUROC) while channels explain about 0.35-0.5 of
    the target's variance beyond trend and season, as in real panels. ``paper-small``: at T = 100
    such effects would be lost in noise (0.75), so they are made clearer until per-store linear
    Granger with the lag that suits it best reaches 0.85-0.9. ``paper-large``: 20 series leave 100
    steps too few for any per-store VAR, so it has 200. In all, the probabilities of the kinds of
    pairs are close and archetypes avoid each other's edges, so that neither the receiver (0.4-0.7)
    nor how common an edge is (0.7-0.86) tells the graph. The values were set by these figures,
    never by a score of this package's own model; ``bench/results`` holds the measured ones.

    >>> from causalmmm.simulation import PRESETS
    >>> PRESETS["weekly-mmm"].changed(stores=5).stores
    5
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
    mediator_to_mediator: float = 0.0
    routes: tuple[float, ...] = ()
    cycle: int = 0
    break_at: float = 0.0

    spend_memory: tuple[float, float] = (0.3, 0.7)
    spend_noise: tuple[float, float] = (0.3, 0.5)
    sparse: float = 0.25
    campaign_share: tuple[float, float] = (0.3, 0.6)
    campaign_steps: tuple[float, float] = (7.0, 21.0)
    campaign_lift: float = 0.5
    shared_campaigns: bool = False

    decay: tuple[float, float] = (0.1, 0.7)
    slope: tuple[float, float] = (1.0, 2.5)
    outcome_slope: tuple[float, float] = (2.0, 4.0)
    half_saturation: tuple[float, float] = (0.6, 1.5)
    context_strength: float = 0.3
    saturation: str = "hill"
    carryover: str = "geometric"
    weibull_shape: tuple[float, float] = (1.2, 2.2)
    weibull_steps: int = 13
    carry_in: float = 1.0

    effect_on_channel: float = 2.0
    effect_on_mediator: float = 0.5
    effect_on_target: float = 0.2
    effect_of_mediator: float = 0.5
    effect_of_target: float = 2.0
    effect_spread: float = 0.35
    store_spread: float = 0.3
    lag: tuple[int, int] = (1, 1)
    same_step: bool = False

    controls: int = 0
    control_effect: float = 0.04
    control_memory: float = 0.5

    demand_on_spend: float = 0.0
    demand_on_outcome: float = 0.0
    demand_memory: float = 0.8

    mediator_noise: float = 0.2
    target_noise: float = 0.08
    own_memory: tuple[float, float] = (0.0, 0.5)
    trend: float = 0.1
    weekly: float = 0.12
    yearly: float = 0.15
    multiplicative: bool = False
    level_shift: float = 0.0
    level_shift_at: float = 0.5
    level_shift_stores: int = 0
    level_shift_flag: bool = False
    store_scale: float = 1.0
    level_spread: float = 0.3

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
        if self.routes and (len(self.routes) != 3 or min(self.routes) < 0 or sum(self.routes) > 1):
            raise ValueError(
                f"routes is {self.routes}; it is the shares of channels that act directly, through "
                "a mediator, and both, at most 1 together"
            )
        if self.routes and not self.mediators and sum(self.routes[1:]):
            raise ValueError(f"routes is {self.routes}; without a mediator all channels are direct")
        if self.saturation not in SATURATIONS:
            known = ", ".join(SATURATIONS)
            raise ValueError(f"saturation is {self.saturation!r}; the simulator draws {known}")
        if self.carryover not in ("geometric", "weibull"):
            raise ValueError(f"carryover is {self.carryover!r}; choose geometric or weibull")
        if self.controls < 0:
            raise ValueError("controls must not be negative")
        if not 0.0 <= self.level_shift_at <= 1.0:
            raise ValueError(
                f"level_shift_at is {self.level_shift_at}; it is a share of the history, 0 to 1"
            )
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
    def control_names(self) -> tuple[str, ...]:
        """control0 ..., then shift where the law flags its level shift."""
        flag = ("shift",) if self.level_shift_flag else ()
        return (*(f"control{k}" for k in range(self.controls)), *flag)

    @property
    def in_order(self) -> NDArray[np.bool_]:
        """bool [N, N]: the sender's role comes before the receiver's, so that effects may act
        within the step."""
        rank = np.maximum(np.arange(self.n_nodes) - self.channels + 1, 0)
        return np.asarray(rank[:, None] < rank[None, :])

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
