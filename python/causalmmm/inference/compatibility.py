"""Whether a panel is one that a fitted model can answer for: its series, frequency and lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from causalmmm.data.panel import Panel
from causalmmm.engine.spec.config import ModelConfig
from causalmmm.findings import Finding, PanelError, first_few

if TYPE_CHECKING:
    from narwhals.typing import IntoDataFrame

# A panel, or a pandas, polars or Arrow table that ``Panel.from_frame`` reads.
PanelLike: TypeAlias = "Panel | IntoDataFrame"

_BEYOND_MEMORY = 12


def steps_needed(config: ModelConfig) -> int:
    """Fewest steps of a history: what the lags reach back to, and some to learn from."""
    return config.memory + _BEYOND_MEMORY


def as_panel(panel: PanelLike, schema: Any = None) -> Panel:
    """The panel itself, or that of a table."""
    return panel if isinstance(panel, Panel) else Panel.from_frame(panel, schema)


def check_names(panel: Panel, fitted: Mapping[str, Sequence[str]], freq: str) -> None:
    """Raise ``PanelError`` unless series, context and controls are those that were ``fitted``."""
    given = {"series": panel.nodes, "context": panel.context_names, "controls": panel.control_names}
    for kind, want in fitted.items():
        have = list(given[kind])
        if list(want) != have:
            columns = ", ".join(sorted(set(want) ^ set(have))) or None
            _refuse(f"{kind} {list(want)}", f"{have}", columns)
    if panel.data.freq[0] != freq[0]:
        _refuse(f"frequency {freq}", panel.data.freq, None)


def check_window(window: int, config: ModelConfig) -> None:
    """Raise ``ValueError`` when a window holds fewer steps than the model's lags need."""
    need = steps_needed(config)
    if window < need:
        raise ValueError(
            f"window={window} is too short: a model with lags={config.lags} and "
            f"ar_lags={config.ar_lags} needs {need} steps; raise window, or lower lags"
        )


def check_lengths(panel: Panel, config: ModelConfig) -> None:
    """Raise ``PanelError`` naming every store whose history is too short for the model's lags."""
    need = steps_needed(config)
    short = np.flatnonzero(panel.lengths < need)
    if len(short):
        names = tuple(panel.stores[short].tolist())
        least = int(panel.lengths[short].min())
        where = f"store '{names[0]}' has"
        if len(short) > 1:
            where = f"{len(short)} stores ({first_few(names, 5)}) have down to"
        raise PanelError(
            [
                Finding(
                    severity="error",
                    code="history-too-short",
                    store=names[0],
                    stores=names,
                    rows=least,
                    message=f"{where} {least} steps; a model with lags={config.lags} and "
                    f"ar_lags={config.ar_lags} needs {need}",
                    remedy="give them a longer history, leave them out (--skip-bad-stores), or "
                    "lower lags",
                )
            ]
        )


def _refuse(fitted: str, given: str, column: str | None) -> None:
    raise PanelError(
        [
            Finding(
                severity="error",
                code="panel-does-not-match-model",
                column=column,
                message=f"the model was fitted on {fitted}, the panel has {given}",
                remedy="give the panel the schema and frequency that the model was fitted with",
            )
        ]
    )
