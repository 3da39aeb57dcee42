"""Laws with known graphs for pretraining: marketing panels of every kind, and foreign dynamics.

A law is a random setting of a family; a draw has panels of a few stores under one setting. Families
in ``HELD_OUT`` are never trained on: they tell how a pretrained prior does where it has no right to
know anything. Nothing here knows the prior.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from causalmmm.simulation.laws.curves import curved
from causalmmm.simulation.laws.draw import LawDraw
from causalmmm.simulation.laws.flaws import imperfect, simultaneous
from causalmmm.simulation.laws.flow_systems import flows
from causalmmm.simulation.laws.foreign import (
    autoregression,
    common_causes,
    coupled_maps,
    independent,
    nonlinear_additive,
    published,
    random_walks,
)
from causalmmm.simulation.laws.marketing import daily, logistic, monthly, weekly, wide
from causalmmm.simulation.laws.oscillators import kuramoto, lorenz, relaxation, springs

__all__ = ["HELD_OUT", "TRAINING", "LawDraw", "draw_law"]

Family = Callable[[np.random.Generator, int], LawDraw]

# Family -> its share of training draws. Half is marketing: breadth of the other half is what keeps
# a prior from failing on panels unlike the simulator's.
TRAINING: dict[str, tuple[Family, float]] = {
    "daily": (daily, 0.21),
    "weekly": (weekly, 0.20),
    "monthly": (monthly, 0.03),
    "wide": (wide, 0.05),
    "autoregression": (autoregression, 0.15),
    "imperfect": (imperfect, 0.105),
    "simultaneous": (simultaneous, 0.05),
    "curved": (curved, 0.05),
    "flows": (flows, 0.05),
    "coupled-maps": (coupled_maps, 0.02),
    "relaxation": (relaxation, 0.02),
    "common-causes": (common_causes, 0.02),
    "random-walks": (random_walks, 0.02),
    "independent": (independent, 0.025),
}
HELD_OUT: dict[str, Family] = {
    "logistic": logistic,
    "published": published,
    "nonlinear-additive": nonlinear_additive,
    "lorenz-96": lorenz,
    "kuramoto": kuramoto,
    "springs": springs,
}


def draw_law(name: str, seed: int, stores: int) -> LawDraw:
    """Panels of ``stores`` stores under one random setting of the family ``name``.

    The same name, seed and number of stores give the same draw. ``ValueError`` for a family that
    does not exist.
    """
    families = {known: family for known, (family, _) in TRAINING.items()} | HELD_OUT
    if name not in families:
        raise ValueError(f"unknown law {name!r}; choose from {', '.join(families)}")
    place = list(families).index(name)
    return families[name](np.random.default_rng([seed, place]), stores)
