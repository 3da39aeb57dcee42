"""Per-store causal marketing mix modelling: graphs, forecasts and effects from one panel.

Names are imported on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# One line per public name: the module that defines it.
_HOME = {
    "CausalMMM": "estimator",
    "Config": "config",
    "ConfigError": "findings",
    "Finding": "findings",
    "ModelError": "storage",
    "Panel": "panel",
    "PanelError": "findings",
    "Plan": "plan",
    "RefusedInput": "findings",
    "Report": "findings",
    "Schema": "schema",
    "load": "storage",
    "simulate": "simulation",
    "validate": "validation",
    "validate_plan": "plan",
}

__all__ = sorted(_HOME)  # noqa: PLE0605  (a list, made from the table)

if TYPE_CHECKING:
    from causalmmm.config import Config as Config
    from causalmmm.estimator import CausalMMM as CausalMMM
    from causalmmm.findings import ConfigError as ConfigError
    from causalmmm.findings import Finding as Finding
    from causalmmm.findings import PanelError as PanelError
    from causalmmm.findings import RefusedInput as RefusedInput
    from causalmmm.findings import Report as Report
    from causalmmm.panel import Panel as Panel
    from causalmmm.plan import Plan as Plan
    from causalmmm.plan import validate_plan as validate_plan
    from causalmmm.schema import Schema as Schema
    from causalmmm.simulation import simulate as simulate
    from causalmmm.storage import ModelError as ModelError
    from causalmmm.storage import load as load
    from causalmmm.validation import validate as validate


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'causalmmm' has no attribute '{name}'")
    from causalmmm.extras import needing

    with needing(name):
        value = getattr(import_module(f"causalmmm.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
