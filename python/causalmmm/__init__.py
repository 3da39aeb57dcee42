"""Per-store causal marketing mix modelling: graphs, forecasts and effects from one panel.

Names are imported on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Threads that wait must not keep a core busy: on a machine with other work they slow each other
# down. OpenMP reads this once, when torch loads it, for torch's threads and those of csrc alike.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Public name -> the module that defines it.
_HOME = {
    "CausalMMM": "model.estimator",
    "Config": "config.configuration",
    "ConfigError": "findings",
    "Finding": "findings",
    "ModelError": "findings",
    "Panel": "data.panel",
    "PanelError": "findings",
    "Plan": "data.plan",
    "RefusedInput": "findings",
    "Report": "findings",
    "Schema": "data.schema",
    "TableFile": "data.table_file",
    "load": "model.estimator",
    "pretrained_graphs": "model.pretrained",
    "simulate": "simulation",
    "validate": "data.validation",
    "validate_plan": "data.plan",
}

__all__ = sorted(_HOME)  # noqa: PLE0605  (a list, made from the table)

if TYPE_CHECKING:
    from causalmmm.config.configuration import Config as Config
    from causalmmm.data.panel import Panel as Panel
    from causalmmm.data.plan import Plan as Plan
    from causalmmm.data.plan import validate_plan as validate_plan
    from causalmmm.data.schema import Schema as Schema
    from causalmmm.data.table_file import TableFile as TableFile
    from causalmmm.data.validation import validate as validate
    from causalmmm.findings import ConfigError as ConfigError
    from causalmmm.findings import Finding as Finding
    from causalmmm.findings import ModelError as ModelError
    from causalmmm.findings import PanelError as PanelError
    from causalmmm.findings import RefusedInput as RefusedInput
    from causalmmm.findings import Report as Report
    from causalmmm.model.estimator import CausalMMM as CausalMMM
    from causalmmm.model.estimator import load as load
    from causalmmm.model.pretrained import pretrained_graphs as pretrained_graphs
    from causalmmm.simulation import simulate as simulate


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
