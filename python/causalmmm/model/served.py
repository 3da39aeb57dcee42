"""``ServedModel``: a model directory as a server asks it, beside the exported file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from causalmmm.data.panel import Panel
from causalmmm.decisions.budgets import MOST_CELLS, Budget
from causalmmm.decisions.period import tail_of
from causalmmm.extras import package_version
from causalmmm.findings import refusal
from causalmmm.inference.compatibility import as_panel, check_lengths, check_names, steps_needed
from causalmmm.inference.frames import steps_of
from causalmmm.model.estimator import CausalMMM, load
from causalmmm.model.header import HEADER, WEIGHTS

_MOST_STEPS = {"D": 366, "W": 104, "M": 36}  # of a forecast or a plan


class ServedModel:
    """A fitted model in a directory; answers like ``OnnxModel``, and about money too.

    Panels must be given, as no training data are in a directory. Nothing that changes the model can
    be asked.
    """

    questions = ("graphs", "predict", "decompose", "paths", "roi", "optimize")

    def __init__(self, directory: Path) -> None:
        self.model: CausalMMM = load(directory, device="cpu")
        digest = hashlib.blake2b(digest_size=16)
        for name in (HEADER, WEIGHTS):
            digest.update((directory / name).read_bytes())
        self.info: dict[str, Any] = {"version": package_version(), "run": digest.hexdigest()}
        self.schema: dict[str, Any] = self.model.schema_.model_dump()
        self.nodes: list[str] = list(self.model.nodes_)
        self.freq: str = self.model.calendar_.freq
        self.horizon = self.model.horizon_
        self.max_horizon = max(self.horizon, _MOST_STEPS[self.freq[0]])

    @property
    def min_steps(self) -> int:
        """Fewest steps of a history."""
        return steps_needed(self.model.config_)

    def panel(self, table: Any) -> Panel:
        """A table, checked to be one that this model can answer for."""
        panel = as_panel(table, self.model.schema_)
        model = self.model
        names = {"series": model.nodes_, "context": model.context_names_}
        check_names(panel, names | {"controls": model.control_names_}, self.freq)
        check_lengths(panel, model.config_)
        return panel

    def graphs(self, panel: Panel, *, threshold: float = 0.0) -> pd.DataFrame:
        return self.model.graphs(panel, threshold=threshold)

    def predict(
        self, panel: Panel, horizon: int | None = None, plan: Any = None, level: Any = (80, 95)
    ) -> pd.DataFrame:
        self._check_horizon(horizon)
        return self.model.predict(panel, horizon, plan, level)

    def decompose(self, panel: Panel) -> pd.DataFrame:
        return self.model.decompose(panel)

    def roi(self, panel: Panel, **asked: Any) -> pd.DataFrame:
        """See ``CausalMMM.roi``."""
        return self.model.roi(panel, **asked)

    def paths(self, panel: Panel, **asked: Any) -> pd.DataFrame:
        """See ``CausalMMM.paths``."""
        return self.model.paths(panel, **asked)

    def optimize(
        self,
        panel: Panel,
        horizon: int | None = None,
        budget: float | None = None,
        *,
        groups: Mapping[str, str] | None = None,
        **asked: Any,
    ) -> Budget:
        """See ``CausalMMM.optimize``."""
        self._check_horizon(horizon)
        steps = steps_of(horizon, None, self.horizon) + tail_of(panel)
        cells = panel.n_stores * len(self.nodes) * steps
        if cells > MOST_CELLS:
            raise refusal(
                "too-many-cells",
                f"The plan has {cells} values (stores x series x steps); a server plans up to "
                f"{MOST_CELLS} at a time.",
                "Plan fewer stores or steps, or use 'causalmmm optimize'.",
            )
        return self.model.optimize(horizon, budget, panel=panel, groups=groups, **asked)

    def _check_horizon(self, horizon: int | None) -> None:
        if horizon is not None and horizon > self.max_horizon:
            raise ValueError(f"horizon is at most {self.max_horizon}, got {horizon}")
