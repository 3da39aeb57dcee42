"""What a change of spend does: counterfactuals of joint posterior draws, and budgets on them.

One system of equations serves all decisions; nothing here knows dates, names or money.
"""

from causalmmm.engine.decisions.allocation import (
    Allocation,
    Prices,
    allocate,
    planned_change,
    prices,
)
from causalmmm.engine.decisions.experiments import Agreement, agree, removed_variance
from causalmmm.engine.decisions.from_regression import regression_system
from causalmmm.engine.decisions.goals import Goal, OutOfReachError, budget_for
from causalmmm.engine.decisions.limits import Limits, StoreSums, Sums
from causalmmm.engine.decisions.paths import PathEffects, path_effects
from causalmmm.engine.decisions.system import Equation, System

__all__ = [
    "System",
    "Equation",
    "regression_system",
    "PathEffects",
    "path_effects",
    "Agreement",
    "agree",
    "removed_variance",
    "Limits",
    "Sums",
    "StoreSums",
    "Allocation",
    "allocate",
    "planned_change",
    "Prices",
    "prices",
    "Goal",
    "OutOfReachError",
    "budget_for",
]
