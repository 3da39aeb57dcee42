"""Named laws, from the short daily panels of the paper to the weekly ones of most teams.

Settings only; what they mean is told in ``config``, and drawing lives in ``draw``.
"""

from __future__ import annotations

from typing import Any

from causalmmm.simulation.config import SimulationConfig

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

# What most teams have: weekly histories, effects in the week of the spend, controls that are known.
# Media is 15-40 % of sales; no effect outlasts its carry-over, as in the models users know.
_WEEKLY = SimulationConfig(
    freq="W-MON",
    start="2022-01-03",
    steps=156,
    context=0,
    archetypes=1,
    same_step=True,
    carry_in=0.0,
    channel_to_channel=0.0,
    target_to_channel=0.0,
    routes=(0.5, 0.25, 0.25),
    spend_memory=(0.1, 0.5),
    spend_noise=(0.4, 0.7),
    sparse=0.5,
    campaign_steps=(4.0, 13.0),
    shared_campaigns=True,
    outcome_slope=(1.0, 1.6),
    half_saturation=(0.6, 2.0),
    effect_on_target=0.18,
    effect_on_mediator=0.6,
    effect_of_mediator=0.7,
    effect_spread=0.4,
    store_spread=0.15,
    mediator_noise=0.06,
    target_noise=0.03,
    own_memory=(0.0, 0.0),
    controls=2,
    store_scale=0.5,
    level_spread=0.1,
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
    "weekly-mmm": _WEEKLY.changed(name="weekly-mmm", stores=8, channels=8),
    "weekly-national": _WEEKLY.changed(
        name="weekly-national", stores=1, steps=104, channels=4, effect_on_target=0.3
    ),
    # Effects by number of channels, so that media keeps its share of sales.
    "weekly-wide": _WEEKLY.changed(
        name="weekly-wide",
        stores=50,
        steps=208,
        channels=30,
        mediators=2,
        mediator_to_mediator=1.0,
        effect_on_target=0.055,
        effect_on_mediator=0.2,
        effect_of_mediator=0.5,
    ),
    # A law that no Hill function, geometric carry-over or additive season describes.
    "weekly-foreign": _WEEKLY.changed(
        name="weekly-foreign",
        stores=8,
        channels=8,
        saturation="log",
        carryover="weibull",
        multiplicative=True,
    ),
}


def resolve(preset: str | SimulationConfig, **changes: Any) -> SimulationConfig:
    """The preset of that name (or the configuration given) with the changes that are not None."""
    if isinstance(preset, str):
        if preset not in PRESETS:
            raise ValueError(f"unknown preset {preset!r}; known: {', '.join(PRESETS)}")
        preset = PRESETS[preset]
    return preset.changed(**{name: value for name, value in changes.items() if value is not None})
