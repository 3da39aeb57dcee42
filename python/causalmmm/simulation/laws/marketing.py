"""Random settings of the simulator: daily, weekly, monthly and wide panels, and one family held
out."""

from __future__ import annotations

from typing import Any

import numpy as np

from causalmmm.engine.spec.series import SeriesData
from causalmmm.simulation import simulate_series
from causalmmm.simulation.config import SimulationConfig
from causalmmm.simulation.laws.draw import LawDraw, positive_pairs, random_steps


def daily(rng: np.random.Generator, stores: int) -> LawDraw:
    """Days: campaigns, weekdays, effects from the next step on or within it."""
    at_once = rng.random() < 0.3
    return _draw(rng, stores, _settings(rng, same_step=at_once, channels=(2, 12)))


def weekly(rng: np.random.Generator, stores: int) -> LawDraw:
    """Weeks with effects within the step, known controls, level shifts, reactive spend."""
    return _draw(rng, stores, _weekly(rng, channels=(2, 10)))


def monthly(rng: np.random.Generator, stores: int) -> LawDraw:
    """Sums over the months of a weekly law, of two to eight years."""
    settings = _weekly(rng, channels=(2, 8)) | {"steps": int(rng.integers(110, 420))}
    drawn = _draw(rng, stores, settings)
    return LawDraw(_by_month(drawn.data), drawn.edges, drawn.positive)


def wide(rng: np.random.Generator, stores: int) -> LawDraw:
    """Twelve to twenty channels, some thirty-seven, in days or weeks."""
    channels = (21, 37) if rng.random() < 0.15 else (12, 20)
    if rng.random() < 0.5:
        return _draw(rng, stores, _weekly(rng, channels=channels))
    return _draw(rng, stores, _settings(rng, same_step=False, channels=channels))


def logistic(rng: np.random.Generator, stores: int) -> LawDraw:
    """Weeks with logistic saturation, which no training law has."""
    return _draw(rng, stores, _weekly(rng, channels=(3, 8)) | {"saturation": "logistic"})


def _draw(rng: np.random.Generator, stores: int, settings: dict[str, Any]) -> LawDraw:
    config = SimulationConfig(name="law", stores=stores, **settings)
    data, truth = simulate_series(config, seed=int(rng.integers(1 << 31)))
    return LawDraw(data, truth.edges, positive_pairs(config.roles))


def _by_month(weeks: SeriesData) -> SeriesData:
    """Sums of series and means of controls over the months of a panel whose stores share a grid."""
    months, month = np.unique(weeks.grid.astype("datetime64[M]"), return_inverse=True)
    member = month == np.arange(len(months))[:, None]  # [months, weeks]
    whole = member.sum(1) >= 4  # the first and the last may be cut off
    member = member[whole]
    stores = weeks.n_stores

    def summed(values: Any) -> Any:
        rows = values.reshape(stores, len(weeks.grid), -1)
        return (member.astype(np.float32) @ rows).reshape(stores * len(member), -1)

    return SeriesData(
        values=summed(weeks.values),
        offsets=np.arange(stores + 1, dtype=np.int64) * len(member),
        start=np.zeros(stores, dtype=np.int64),
        grid=months[whole].astype("datetime64[D]"),
        freq="MS",
        roles=weeks.roles,
        controls=summed(weeks.controls) / 4.345,
        context=weeks.context,
    )


def _weekly(rng: np.random.Generator, channels: tuple[int, int]) -> dict[str, Any]:
    """A weekly setting; half have the routes of textbooks, media of 10-60 % of sales."""
    settings = _settings(rng, same_step=True, channels=channels)
    count = settings["channels"]
    textbook = rng.random() < 0.6
    if textbook:
        quiet = rng.uniform(0.0, 0.4)
        direct, through = rng.uniform(0.3, 1.0), rng.uniform(0.0, 0.6)
        share = 0.999 * (1.0 - quiet) / (direct + through)
        settings |= {
            "routes": (share * direct, share * through * 0.5, share * through * 0.5)
            if settings["mediators"]
            else (1.0 - quiet, 0.0, 0.0),
            "channel_to_channel": 0.0,
            "target_to_channel": 0.0,
        }
    share_of_sales = _log_uniform(rng, 0.2, 3.0)
    return settings | {
        "freq": "W-MON",
        "start": "2022-01-03",
        "steps": round(_log_uniform(rng, 28, 260)),
        "sparse": float(rng.uniform(0.0, 0.8)),
        "campaign_steps": _span(rng, 2.0, 8.0, 13.0),
        "shared_campaigns": bool(rng.random() < 0.5),
        "outcome_slope": _span(rng, 1.0, 1.5, 2.5),
        "half_saturation": _span(rng, 0.4, 1.0, 2.0),
        "effect_on_target": share_of_sales / count,
        "effect_on_mediator": _log_uniform(rng, 0.2, 1.5),
        "effect_of_mediator": _log_uniform(rng, 0.2, 1.0),
        "own_memory": (0.0, float(rng.choice([0.0, rng.uniform(0.0, 0.6)]))),
        "mediator_noise": _log_uniform(rng, 0.03, 0.15),
        "target_noise": _log_uniform(rng, 0.015, 0.08),
        "controls": int(rng.integers(0, 4)),
        "carry_in": float(rng.choice([0.0, 1.0])),
        "store_spread": float(rng.uniform(0.05, 0.4)),
    }


def _settings(
    rng: np.random.Generator, *, same_step: bool, channels: tuple[int, int]
) -> dict[str, Any]:
    """A daily setting of the simulator; ranges contain those of its presets."""

    def uniform(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    reactive = rng.random() < 0.35
    shifted = rng.random() < 0.25
    lag = (1, int(rng.integers(1, 8))) if rng.random() < 0.3 else (1, 1)
    return {
        "steps": random_steps(rng),
        "channels": int(rng.integers(*channels, endpoint=True)),
        "mediators": int(rng.integers(0, 3)),
        "context": 2,
        "archetypes": int(rng.choice([0, 1, 3])),
        "same_step": same_step,
        "channel_to_channel": uniform(0.0, 0.25),
        "channel_to_mediator": uniform(0.1, 0.5),
        "channel_to_target": uniform(0.1, 0.6),
        "mediator_to_target": uniform(0.3, 0.8),
        "mediator_to_mediator": uniform(0.0, 0.6),
        "target_to_channel": uniform(0.0, 0.25),
        "spend_memory": _span(rng, 0.0, 0.3, 0.8),
        "spend_noise": _span(rng, 0.2, 0.4, 0.7),
        "sparse": uniform(0.0, 0.5),
        "campaign_steps": _span(rng, 4.0, 10.0, 30.0),
        "shared_campaigns": bool(rng.random() < 0.15),
        "decay": _span(rng, 0.0, 0.3, 0.85),
        "slope": _span(rng, 0.8, 1.5, 3.0),
        "outcome_slope": _span(rng, 1.0, 2.0, 4.0),
        "saturation": "hill" if rng.random() < 0.8 else "log",
        "carryover": "weibull" if rng.random() < 0.25 else "geometric",
        "effect_on_channel": _log_uniform(rng, 1.5, 8.0),
        "effect_on_mediator": _log_uniform(rng, 0.3, 2.0),
        "effect_on_target": _log_uniform(rng, 0.1, 1.0),
        "effect_of_mediator": _log_uniform(rng, 0.3, 1.0),
        "effect_of_target": _log_uniform(rng, 1.0, 8.0),
        "mediator_noise": uniform(0.08, 0.25),
        "target_noise": uniform(0.04, 0.15),
        "own_memory": (0.0, uniform(0.1, 0.6)),
        "lag": lag,
        "trend": _log_uniform(rng, 0.03, 0.3),
        "weekly": uniform(0.0, 0.25),
        "yearly": uniform(0.0, 0.3),
        "multiplicative": bool(rng.random() < 0.25),
        "demand_on_spend": uniform(0.1, 0.5) if reactive else 0.0,
        "demand_on_outcome": uniform(0.05, 0.2) if reactive else 0.0,
        "demand_memory": uniform(0.5, 0.9),
        "level_shift": uniform(-0.4, 0.6) if shifted else 0.0,
        "level_shift_at": uniform(0.2, 0.8),
        "break_at": 0.0,
    }


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _span(rng: np.random.Generator, low: float, middle: float, high: float) -> tuple[float, float]:
    """A range whose ends lie below and above ``middle``."""
    return float(rng.uniform(low, middle)), float(rng.uniform(middle, high))
