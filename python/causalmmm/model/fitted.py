"""``FittedModel``: what storage, export and evaluation need of a fitted model, as a protocol.

The estimator satisfies it; nothing here computes, and nothing here imports the estimator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from causalmmm.data.schema import Schema
    from causalmmm.decisions.period import By
    from causalmmm.engine.nn.model import CausalModel
    from causalmmm.engine.regression import Regression
    from causalmmm.engine.spec.calendar import CalendarSpec
    from causalmmm.engine.spec.config import ModelConfig
    from causalmmm.inference.compatibility import PanelLike


class FittedModel(Protocol):
    """Settings, names and tensors of a fitted model, and the questions that it answers.

    ``nodes_`` are the series in order and ``roles_`` their roles; ``trained_on_`` is the record of
    the training panel (``data.fingerprint.training_record``), ``warnings_`` what the fit warned of,
    ``source_`` where the command line read the panel.
    """

    draws: int
    seed: int
    window: int
    regime_: str
    model_: CausalModel | Regression
    config_: ModelConfig
    calendar_: CalendarSpec
    schema_: Schema
    nodes_: list[str]
    roles_: tuple[str, ...]
    context_names_: list[str]
    control_names_: list[str]
    history_: pd.DataFrame
    trained_on_: dict[str, Any]
    warnings_: list[str]
    source_: dict[str, Any] | None
    device_: torch.device

    @property
    def horizon_(self) -> int: ...

    def get_params(self, deep: bool = True) -> dict[str, Any]: ...

    def set_params(self, **params: Any) -> Any: ...

    def fit(self, panel: PanelLike, *, progress: bool = True) -> Any: ...

    def graphs(self, panel: PanelLike | None = None) -> pd.DataFrame: ...

    def predict(
        self,
        panel: PanelLike | None = None,
        horizon: int | None = None,
        plan: Any | None = None,
        level: Sequence[int] = (80, 95),
    ) -> pd.DataFrame: ...

    def decompose(self, panel: PanelLike | None = None) -> pd.DataFrame: ...

    def contributions(self, panel: PanelLike | None = None) -> pd.DataFrame: ...

    def paths(
        self,
        panel: PanelLike | None = None,
        *,
        start: str | None = None,
        end: str | None = None,
        by: By = "store",
    ) -> pd.DataFrame: ...

    def response_curves(
        self, channel: str | None = None, store: str | None = None, panel: PanelLike | None = None
    ) -> pd.DataFrame: ...
