"""``OnnxModel``: the questions of ``CausalMMM``, answered by onnxruntime.

The graph computes; this module turns panels into its inputs and its outputs into frames.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from causalmmm.runtime.file import open_file, refuse

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd

    from causalmmm.data.panel import Panel
    from causalmmm.data.plan import Plan
    from causalmmm.decisions.period import By, Period
    from causalmmm.decisions.tables import GroupEffects

Arrays = dict[str, NDArray[Any]]
GRAPH = ("probability", "effect", "effect_lower", "effect_upper")
FORECAST = ("mean", "bounds")
_PERIOD = "period"  # an input of files that answer for returns
CURVE = ("response", "response_lower", "response_upper", "response_expected")
_GRAPH_NAMES = dict(zip(("probability", "effect", "lower", "upper"), GRAPH, strict=True))
_VALUES_AT_ONCE = 8_000_000  # of a series by draw, store, channel and step
_CURVE_NAMES = dict(zip(("effect", "lower", "upper", "expected"), CURVE, strict=True))


class OnnxModel:
    """A model that ``CausalMMM.export_onnx`` or ``causalmmm export`` wrote.

    path     the file.
    threads  batches computed side by side, each on one core; by default one per core, at most 8.
    batch    stores in a batch.

    Raises ``ModelError`` for a file that is not there, cut off, changed or not ours. May be shared
    between threads, and pickled: a copy opens the file again.

    >>> answers = OnnxModel("model.onnx", threads=1)
    >>> list(answers.graphs(daily))
    ['store', 'source', 'target', 'probability', 'effect', 'lower', 'upper']
    >>> len(answers.predict(daily, 3)) == 3 * len(daily.nodes) * daily.n_stores
    True
    """

    def __init__(self, path: str | Path, *, threads: int | None = None, batch: int = 16) -> None:
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        if batch < 1:
            raise ValueError(f"batch must be at least 1 store, got {batch}")
        self.path = Path(path)
        self.threads = threads or min(len(os.sched_getaffinity(0)), 8)
        self.batch = batch
        self._session, self.info = open_file(self.path)
        self.inputs = [value.name for value in self._session.get_inputs()]
        self.schema: dict[str, Any] = self.info["schema"]
        self.nodes: list[str] = self.info["nodes"]
        self.roles: list[str] = self.info["roles"]
        self.context: list[str] = self.info["context"]
        self.controls: list[str] = self.info["controls"]
        self.freq: str = self.info["calendar"]["freq"]
        self.window: int = self.info["window"]
        self.horizon: int = self.info["horizon"]
        self.max_horizon: int = self.info["max_horizon"]
        self.draws: int = self.info["draws"]

    def __repr__(self) -> str:
        return f"OnnxModel('{self.path}', {len(self.nodes)} series, run {self.info['run'][:8]})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.path, self.threads, self.batch)

    @property
    def questions(self) -> tuple[str, ...]:
        """What the file answers, by the names of the methods."""
        of_all = ("graphs", "predict", "decompose", "response_curves")
        return (*of_all, "contributions", "paths", "roi") if _PERIOD in self.inputs else of_all

    @property
    def min_steps(self) -> int:
        """Fewest steps of a history."""
        from causalmmm.inference.compatibility import steps_needed

        return steps_needed(self._config())

    def check_answers(self, question: str) -> None:
        """Raise ``ModelError`` unless the file answers a question; see :attr:`questions`."""
        if question not in self.questions:
            raise refuse(
                "not-in-this-file",
                f"'{self.path}' does not answer {question}: that needs joint draws of effects, "
                "which the files of response regressions have that this version exported.",
                "Fit with regime='regression' and export again, or ask the model itself.",
            )

    # ---- questions ---------------------------------------------------------------------------

    def panel(self, table: Any) -> Panel:
        """A table, or a panel, checked to be one that this model can answer for.

        A table is read under the schema in the file. Raises ``PanelError`` listing what is wrong.
        """
        from causalmmm.data.schema import Schema
        from causalmmm.inference.compatibility import as_panel, check_lengths, check_names

        panel = as_panel(table, Schema.check(self.schema))
        fitted = {"series": self.nodes, "context": self.context, "controls": self.controls}
        check_names(panel, fitted, self.freq)
        check_lengths(panel, self._config())
        self._check_dates(panel.data.grid)
        return panel

    def graphs(self, panel: Any, *, threshold: float = 0.0) -> pd.DataFrame:
        """Posterior graphs; see ``CausalMMM.graphs``."""
        from causalmmm.inference import frames

        panel = self.panel(panel)
        answers = self._answers(panel, GRAPH)
        return frames.joined([(s, _graph_part(panel, s, found, threshold)) for s, found in answers])

    def graph(self, store: str, *, threshold: float = 0.5, panel: Any) -> nx.DiGraph[str]:
        """The graph of one store; see ``CausalMMM.graph``."""
        from causalmmm.inference.frames import store_graph

        panel = self.panel(panel).select([store])
        edges = self.graphs(panel, threshold=threshold)
        return store_graph(store, threshold, self.nodes, self.roles, edges)

    def predict(
        self,
        panel: Any,
        horizon: int | None = None,
        plan: Any | None = None,
        level: Sequence[int] = (80, 95),
    ) -> pd.DataFrame:
        """Forecasts of every series; see ``CausalMMM.predict``."""
        from causalmmm.inference import frames

        panel = self.panel(panel)
        checked, steps, levels = self._ahead(panel, horizon, plan, level)
        answers = self._answers(panel, FORECAST, plan=checked, steps=steps, levels=levels)
        return frames.joined(
            [(s, _forecast_part(panel, s, found, steps, levels)) for s, found in answers]
        )

    def answer(
        self,
        panel: Any,
        *,
        horizon: int | None = None,
        plan: Any | None = None,
        level: Sequence[int] = (80, 95),
        threshold: float = 0.0,
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """``graphs`` and ``predict`` at once, at little more than the cost of one of them."""
        from causalmmm.inference import frames

        panel = self.panel(panel)
        checked, steps, levels = self._ahead(panel, horizon, plan, level)
        answers = self._answers(panel, GRAPH + FORECAST, plan=checked, steps=steps, levels=levels)
        graphs = [(s, _graph_part(panel, s, found, threshold)) for s, found in answers]
        forecasts = [(s, _forecast_part(panel, s, found, steps, levels)) for s, found in answers]
        return frames.joined(graphs), frames.joined(forecasts)

    def decompose(self, panel: Any) -> pd.DataFrame:
        """What the target is made of, step by step; see ``CausalMMM.decompose``."""
        from causalmmm.inference import frames

        panel = self.panel(panel)
        answers = self._answers(panel, ("contribution",), contributions=True)
        return frames.joined(
            [
                (stores, frames.contribution_frame(panel, stores, found["contribution"]))
                for stores, found in answers
            ]
        )

    def response_curves(
        self,
        channel: str | None = None,
        store: str | None = None,
        panel: Any = None,
        *,
        points: int = 50,
    ) -> pd.DataFrame:
        """What constant spend adds to the target; see ``CausalMMM.response_curves``."""
        from causalmmm.inference import frames

        panel = self.panel(panel)
        if store is not None:
            panel = panel.select([store])
        channels = frames.curve_channels(panel, channel)
        parts = []
        for stores, found in self._answers(panel, CURVE, points=points):
            amounts = frames.curve_amounts(panel, stores, self.window, points)
            values = {name: found[output] for name, output in _CURVE_NAMES.items()}
            parts.append((stores, frames.curve_frame(panel, stores, channels, amounts, values)))
        return frames.joined(parts)

    def contributions(self, panel: Any) -> pd.DataFrame:
        """What every series added to the target; see ``CausalMMM.contributions``. Of a response
        regression's file: ``ModelError`` otherwise, as for :meth:`paths` and :meth:`roi`."""
        from causalmmm.runtime.returns import SUMS, contributions_table

        self.check_answers("contributions")
        panel = self.panel(panel)
        answers = self._answers(panel, tuple(SUMS.values()), self._at_once(panel, 0), sums=True)
        return contributions_table(panel, answers)

    def paths(
        self, panel: Any, *, start: str | None = None, end: str | None = None, by: By = "store"
    ) -> pd.DataFrame:
        """What the spend of a period brought, path by path; see ``CausalMMM.paths``."""
        from causalmmm.decisions.tables import paths_table

        names, found, read, _ = self._effects("paths", panel, start, end, by)
        return paths_table(names, found, read)

    def roi(
        self, panel: Any, *, start: str | None = None, end: str | None = None, by: By = "store"
    ) -> pd.DataFrame:
        """Return on the spend of a period; see ``CausalMMM.roi``."""
        from causalmmm.decisions.period import groups_of
        from causalmmm.decisions.tables import roi_table, spent

        names, found, read, period = self._effects("roi", panel, start, end, by)
        _, group = groups_of(read, by)
        return roi_table(names, found, read, *spent(read, period, group, len(names)))

    def run(self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> Arrays:
        """The graph itself, on arrays; docs/onnx.md describes inputs and outputs."""
        found = self._session.run(list(outputs), dict(inputs))
        return dict(zip(outputs, found, strict=True))

    # ---- batches -----------------------------------------------------------------------------

    def _effects(
        self, question: str, panel: Any, start: str | None, end: str | None, by: By
    ) -> tuple[list[str], GroupEffects, Panel, Period]:
        """Names of groups, effects of their spend, and the steps and period that they are of."""
        from causalmmm.decisions.period import read_period, tail_of
        from causalmmm.runtime.feeds import dates_ahead
        from causalmmm.runtime.returns import RETURNS, effects_of

        self.check_answers(question)
        panel = self.panel(panel)
        read, period = read_period(panel, self.window, start, end)
        tail = tail_of(panel)
        self._check_dates(dates_ahead(panel, np.arange(panel.n_stores), tail))
        size, outputs = self._at_once(panel, tail), tuple(RETURNS.values())
        answers = self._answers(panel, outputs, size, steps=tail, period=period)
        return *effects_of(panel, answers, by), read, period

    def _at_once(self, panel: Panel, steps: int) -> int:
        """Stores in a batch whose draws of every channel are held."""
        rows = min(int(panel.lengths.max()), self.window) + steps
        return max(1, min(self.batch, _VALUES_AT_ONCE // (self.draws * len(self.nodes) * rows)))

    def _config(self) -> Any:
        from causalmmm.engine.spec.config import ModelConfig, from_json

        return from_json(ModelConfig, self.info["config"])

    def _ahead(
        self, panel: Panel, horizon: int | None, plan: Any | None, level: Sequence[int]
    ) -> tuple[Plan | None, int, list[float]]:
        from causalmmm.data.plan import validate_plan
        from causalmmm.inference.frames import levels_of, steps_of
        from causalmmm.runtime.feeds import dates_ahead

        levels = levels_of(level)
        checked = None if plan is None else validate_plan(plan, panel)
        steps = steps_of(horizon, checked, self.horizon)
        if steps > self.max_horizon:
            raise ValueError(
                f"the file forecasts up to {self.max_horizon} steps, not {steps}: "
                "export the model with a larger max_horizon"
            )
        self._check_dates(dates_ahead(panel, np.arange(panel.n_stores), steps))
        return checked, steps, levels

    def _check_dates(self, dates: NDArray[np.datetime64]) -> None:
        first, last = (np.datetime64(day, "D") for day in self.info["dates"])
        if dates.min() < first or dates.max() > last:
            wrong = dates.min() if dates.min() < first else dates.max()
            raise ValueError(
                f"the calendar of the file reaches from {first} to {last}, not to {wrong}"
            )

    def _answers(
        self, panel: Panel, outputs: Sequence[str], size: int | None = None, **asked: Any
    ) -> list[tuple[NDArray[np.int64], Arrays]]:
        from causalmmm.inference.frames import groups
        from causalmmm.inference.interrupt import current_check
        from causalmmm.runtime.feeds import feeds

        check = current_check()

        def one(stores: NDArray[np.int64]) -> tuple[NDArray[np.int64], Arrays]:
            check()
            graphs = GRAPH[0] in outputs
            given = feeds(panel, stores, window=self.window, graphs=graphs, **asked)
            return stores, self.run({k: given[k] for k in self.inputs}, outputs)

        chosen = list(groups(panel, self.window, size or self.batch))
        if self.threads == 1 or len(chosen) == 1:
            return list(map(one, chosen))
        with ThreadPoolExecutor(min(self.threads, len(chosen))) as pool:
            return list(pool.map(one, chosen))


def _reopened(path: Path, threads: int, batch: int) -> OnnxModel:
    return OnnxModel(path, threads=threads, batch=batch)


def _graph_part(
    panel: Panel, stores: NDArray[np.int64], found: Arrays, threshold: float
) -> pd.DataFrame:
    from causalmmm.inference.frames import graph_frame

    values = {name: found[output] for name, output in _GRAPH_NAMES.items()}
    return graph_frame(panel, stores, values, threshold)


def _forecast_part(
    panel: Panel, stores: NDArray[np.int64], found: Arrays, steps: int, levels: Sequence[float]
) -> pd.DataFrame:
    from causalmmm.inference.frames import forecast_frame
    from causalmmm.runtime.feeds import dates_ahead

    values = np.concatenate([found["mean"][..., None], found["bounds"]], axis=-1)
    return forecast_frame(panel, stores, dates_ahead(panel, stores, steps), values, levels)
