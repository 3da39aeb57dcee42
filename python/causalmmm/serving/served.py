"""What the server asks of a model."""

from __future__ import annotations

from typing import Any, Protocol

import pandas as pd

from causalmmm.data.panel import Panel


class Served(Protocol):
    """A model that can be served: an exported file, or a model directory. Which of ``roi``,
    ``paths`` and ``optimize`` it answers too stands in ``questions``."""

    info: dict[str, Any]
    schema: dict[str, Any]
    nodes: list[str]
    freq: str
    horizon: int
    max_horizon: int

    @property
    def questions(self) -> tuple[str, ...]: ...

    @property
    def min_steps(self) -> int: ...

    def panel(self, table: Any) -> Panel: ...

    def graphs(self, panel: Any, *, threshold: float = 0.0) -> pd.DataFrame: ...

    def predict(
        self, panel: Any, horizon: int | None = None, plan: Any | None = None, level: Any = (80, 95)
    ) -> pd.DataFrame: ...

    def decompose(self, panel: Any) -> pd.DataFrame: ...
