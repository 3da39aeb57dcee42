"""``Predictor``: what a fitted model can be asked. Panels in, frames with named columns out.

The mathematics lives in ``causalmmm.engine``, fitting in ``fitting``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from causalmmm.data.panel import Panel
from causalmmm.data.plan import Plan, beyond_history, validate_plan
from causalmmm.data.schema import Schema
from causalmmm.dates import USUAL_HORIZON
from causalmmm.engine.batches.windows import Windows
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.regression import Regression
from causalmmm.engine.spec.calendar import Calendar, CalendarSpec, extend_grid
from causalmmm.engine.spec.config import ModelConfig
from causalmmm.engine.spec.series import SeriesData
from causalmmm.findings import first_few
from causalmmm.inference.compatibility import PanelLike, as_panel, check_lengths, check_names
from causalmmm.inference.frames import levels_of, steps_of, store_graph
from causalmmm.model.answers import AmortisedAnswers, Held, RegressionAnswers, StoreAnswers
from causalmmm.model.fleet import Fleet
from causalmmm.model.priors import Pair
from causalmmm.model.tables import (
    adstock_table,
    contribution_table,
    curve_table,
    forecast_table,
    graph_table,
    sum_table,
)

if TYPE_CHECKING:
    import networkx as nx


class NotFittedError(RuntimeError):
    """Raised by every question asked of a model before ``fit`` or ``load``."""


class Predictor:
    """The questions part of ``CausalMMM``, with the parameters and fitted attributes it reads."""

    horizon: int | None
    draws: int
    seed: int
    window: int
    edge_prior: Mapping[Pair, float] | None
    forbidden: Sequence[Pair]
    required: Sequence[Pair]
    signed: Sequence[Pair]
    reactive: Sequence[str]
    device_: torch.device
    model_: CausalModel | Regression
    config_: ModelConfig
    calendar_: CalendarSpec
    schema_: Schema
    nodes_: list[str]
    roles_: tuple[str, ...]
    context_names_: list[str]
    control_names_: list[str]
    panel_: Panel | None  # of a loaded model: none
    _held: Held | None = None

    @property
    def horizon_(self) -> int:
        """Steps ahead where a question names no other number: ``horizon``, or what is usual for the
        frequency of the fit."""
        return USUAL_HORIZON[self.calendar_.freq[0]] if self.horizon is None else self.horizon

    def graphs(self, panel: PanelLike | None = None, *, threshold: float = 0.0) -> pd.DataFrame:
        """Posterior graphs: store, source, target, probability, effect, lower, upper.

        A new store is scored without training. ``effect`` is what the source adds to the target per
        step on average over the store's window, in the target's units, where the edge is present,
        with what the target's own past keeps of it from step to step (its long-run effect);
        ``lower`` and ``upper`` bound it with 90 % posterior probability. They allow for what a
        window leaves open about the shape of the response curve. Rows with a probability below
        ``threshold`` are left out. Of the response regression (not in months) probabilities are
        its own and the pretrained prior's together, which are better calibrated (its own alone with
        ``structure="evidence"``); effects given the edge stay its own.

        >>> list(model.graphs(threshold=0.5))
        ['store', 'source', 'target', 'probability', 'effect', 'lower', 'upper']
        """
        panel = self._known(panel)
        windows = self._windows(panel.data)
        return graph_table(self._answers(windows, panel), windows, panel, threshold)

    def graph(
        self, store: str, *, threshold: float = 0.5, panel: PanelLike | None = None
    ) -> nx.DiGraph[str]:
        """The graph of one store: nodes with role; edges with probability, effect, lower, upper.

        >>> graph = model.graph(panel.stores[0])
        >>> graph.nodes["gmv"]["role"]
        'target'
        """
        panel = self._known(panel).select([store])
        edges = self.graphs(panel, threshold=threshold)
        return store_graph(store, threshold, self.nodes_, self.roles_, edges)

    def predict(
        self,
        panel: PanelLike | None = None,
        horizon: int | None = None,
        plan: Any | None = None,
        level: Sequence[int] = (80, 95),
        *,
        fleet: Fleet | None = None,
    ) -> pd.DataFrame:
        """Forecast every series of every store: store, date, series, mean, lower_80, upper_80, ...

        panel    histories to continue (the training panel by default); carry-over, seasonality and
                 the graph are read from them.
        horizon  steps ahead; by default the plan's length, or the model's ``horizon_``.
        plan     future spend and controls, a frame with one row per store and date that continues
                 each history; planned series are taken as given, the others are forecast. Controls
                 without a plan go back to their mean as fast as they used to, and intervals allow
                 for that; context that moves stays at its last value.
        level    central intervals in percent.
        fleet    takes the sum over stores of the target's joint draws, for bounds of the total.

        ``mean`` and bounds are those of ``draws`` simulated futures, of which every step's value is
        integrated in closed form given the steps before. Equal seeds give equal bits.

        >>> forecast = model.predict(horizon=13, level=(80,))
        >>> list(forecast), len(forecast) == 13 * len(panel.nodes) * panel.n_stores
        (['store', 'date', 'series', 'mean', 'lower_80', 'upper_80'], True)
        """
        panel = self._known(panel)
        levels = levels_of(level)
        if self.draws < 1:
            raise ValueError(f"draws must be at least 1, got {self.draws}")
        future_plan = None if plan is None else self._checked_plan(plan, panel)
        promised = panel.schema.known_controls
        if plan is None and promised:
            warnings.warn(
                f"the schema says that future values of {first_few(promised)} are known, but there "
                "is no plan with them: they are expected to go back to their mean",
                stacklevel=2,
            )
        steps = steps_of(horizon, future_plan, self.horizon_)
        windows = self._windows(panel.data, ahead=steps)
        return forecast_table(
            self._answers(windows, panel, fleet=fleet),
            windows,
            panel,
            future_plan,
            steps=steps,
            levels=levels,
            copies=max(1, self.draws // 4),
        )

    def _checked_plan(self, plan: Any, panel: Panel, *, controls: bool = True) -> Plan:
        """The plan as arrays, with warnings of what is not used of it and what was never seen."""
        checked = validate_plan(plan, panel, controls=controls)
        noticed = [f"{f.message} {f.remedy}".strip() for f in checked.notices]
        for message in (*noticed, *beyond_history(checked, panel)):
            warnings.warn(message, UserWarning, stacklevel=3)
        return checked

    def decompose(self, panel: PanelLike | None = None) -> pd.DataFrame:
        """What the target is made of, step by step: store, date, component, value.

        Components: ``baseline`` (calendar and controls, with every other series at zero), each
        other series by name (its direct effect, weighed by the probability of its edge: carry-over,
        saturation and what the target's own past keeps of it included), ``own past`` (what the
        target keeps of earlier deviations that no series explains), and ``remainder``. Those of one
        date sum to the observed value; without the remainder they sum to the model's one-step
        prediction. Covers the last ``window`` steps of each history but the first, which has no
        past.

        >>> parts = model.decompose()
        >>> sums = parts.groupby(["store", "date"])["value"].sum()
        >>> sales = panel.to_frame().groupby([panel.schema.store, panel.schema.date])["gmv"].sum()
        >>> bool(np.allclose(sums, sales[sums.index], rtol=1e-4))
        True
        """
        panel = self._known(panel)
        windows = self._windows(panel.data)
        return contribution_table(self._answers(windows, panel), windows, panel)

    def contributions(self, panel: PanelLike | None = None) -> pd.DataFrame:
        """What every series added to the target over each history, in the target's units.

        store, series, direct, direct_lower, direct_upper, total, total_lower, total_upper:
        ``direct`` holds mediators at what happened; ``total`` sets the channel to zero and predicts
        the mediators anew (Jin et al., 2017, eq. 10, rolled through mediators). Bounds are central
        90 % intervals of joint posterior draws. Only the response regression has such draws:
        ``ValueError`` for an amortised model.

        >>> list(model.contributions())[:5]
        ['store', 'series', 'direct', 'direct_lower', 'direct_upper']
        """
        panel = self._known(panel)
        windows = self._windows(panel.data)
        answers = self._answers(windows, panel)
        if not isinstance(answers, RegressionAnswers):
            raise ValueError(
                "contributions with intervals need the response regression: fit with "
                "regime='regression', or use decompose()"
            )
        return sum_table(answers, windows, panel)

    def response_curves(
        self,
        channel: str | None = None,
        store: str | None = None,
        panel: PanelLike | None = None,
        *,
        points: int = 50,
        fleet: Fleet | None = None,
    ) -> pd.DataFrame:
        """What constant spend adds to the target per step in the long run.

        store, channel, amount, expected, effect, lower, upper: ``amount`` runs from zero to twice
        the largest of the store's window, in the channel's units (exposure where it has one);
        ``effect`` is the direct effect while the edge is present, once carry-over and the target's
        own past have settled, with its central 90 % interval; ``expected`` is the effect times the
        probability of the edge, as in :meth:`decompose`. ``fleet`` is as in :meth:`predict`.

        >>> list(model.response_curves("x0", points=5))
        ['store', 'channel', 'amount', 'expected', 'effect', 'lower', 'upper']
        """
        panel = self._known(panel)
        if store is not None:
            panel = panel.select([store])
        windows = self._windows(panel.data)
        return curve_table(
            self._answers(windows, panel, fleet=fleet), windows, panel, channel, points
        )

    def adstock(self, lags: int = 12) -> pd.DataFrame:
        """Adstock curves: when a step's spend acts on the target, channel by channel.

        channel, lag, share, lower, upper: ``share`` of the direct effect that arrives ``lag`` steps
        after the spend; all stores have these. Bounds are central 90 % intervals; the amortised
        model has none. The target's own past carries effects on beyond these curves.

        >>> shares = model.adstock(lags=3).groupby("channel")["share"].sum()
        >>> bool((shares <= 1 + 1e-6).all())
        True
        """
        self._known_fitted()
        if lags < 0:
            raise ValueError(f"lags must be at least 0, got {lags}")
        return adstock_table(self.model_, self.nodes_, self.roles_, lags)

    @contextmanager
    def sharing(self) -> Iterator[None]:
        """Inside, several questions about one panel work out its stores' posteriors once.

        What is known of the stores is held in memory until the end, so ask of some hundred stores
        at most. Answers are the same to the bit; the amortised model has nothing to share.

        >>> with model.sharing():
        ...     parts, edges = model.decompose(), model.graphs()
        """
        outer, self._held = self._held, {}
        try:
            yield
        finally:
            self._held = outer

    def _known(self, panel: PanelLike | None) -> Panel:
        """The panel to answer for, checked to have the series the model was fitted on."""
        self._known_fitted()
        if panel is None:
            if self.panel_ is None:
                raise ValueError("a loaded model holds no data: pass the panel to answer for")
            return self.panel_
        panel = as_panel(panel, self.schema_)
        if panel is not self.panel_:
            names = {
                "series": self.nodes_,
                "context": self.context_names_,
                "controls": self.control_names_,
            }
            check_names(panel, names, self.calendar_.freq)
            check_lengths(panel, self.config_)
        return panel

    def _answers(
        self,
        windows: Windows,
        panel: Panel,
        *,
        fleet: Fleet | None = None,
    ) -> StoreAnswers:
        """Answers of the fitted model for a panel, whichever its regime."""
        if isinstance(self.model_, Regression):
            return RegressionAnswers(
                self.model_, windows, panel, seed=self.seed, fleet=fleet, held=self._held
            )
        return AmortisedAnswers(
            self.model_, windows, panel, draws=self.draws, seed=self.seed, device=self.device_
        )

    def _known_fitted(self) -> None:
        if not hasattr(self, "model_"):
            raise NotFittedError("this CausalMMM is not fitted: call fit(panel), or load a model")

    def _windows(self, data: SeriesData, ahead: int = 0) -> Windows:
        grid = extend_grid(data.grid, data.freq, ahead) if ahead else data.grid
        return Windows(data, Calendar(self.calendar_, grid), int(self.window), self.config_.memory)
