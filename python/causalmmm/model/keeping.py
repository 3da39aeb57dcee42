"""What is done with a fitted model as a whole: to judge it, to save, load and export it.

How models are stored is in ``storage``, tests in ``causalmmm.evaluation``, the exported file in
``onnx_export``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pandas as pd

from causalmmm.engine.nn.model import CausalModel
from causalmmm.inference.compatibility import PanelLike
from causalmmm.model.fitting import Fitting, device_named

if TYPE_CHECKING:
    from causalmmm.simulation import Truth


class Keeping(Fitting):
    """How ``CausalMMM`` is judged and kept, with the parameters and fitted attributes it reads."""

    device: str
    regime_: str
    source_: dict[str, Any] | None  # where the command line read the panel

    if TYPE_CHECKING:

        def __init__(self, **parameters: Any) -> None: ...

        def set_params(self, **params: Any) -> Self: ...

        def fit(self, panel: PanelLike, *, progress: bool = True) -> Self: ...

    def evaluate(
        self,
        panel: PanelLike | None = None,
        truth: Truth | None = None,
        tests: Sequence[str] | None = None,
        *,
        horizon: int | None = None,
        origins: int = 5,
        plan: str = "none",
    ) -> pd.DataFrame:
        """Scores as rows test, method, series, horizon, metric, value.

        structure  edges against a simulation's ``truth``: AUROC and AUPRC (mean over stores, and
                   pooled), share of true edges among those given at least 0.8.
        holdout    the last ``horizon`` steps of the panel are hidden and forecast; mediators and
                   target over the first 1, 7 and all of them, beside the seasonal naive forecast
                   and the store's mean. A warning says so when the model was fitted on those steps.
        cv         a copy of the model is fitted on the steps before the first of ``origins``
                   forecasts of ``horizon`` steps, half a horizon apart; later ones add history.

        horizon  hidden steps; default: those that ``causalmmm fit --holdout`` kept from the model,
                 else the model's ``horizon``.
        plan     "none": forecasts are told the controls that are ``future_known`` and no spend;
                 "actual": what was spent in the hidden steps, too, as if it had been the plan.

        ``tests`` is by default "holdout", and "structure" where a truth is given. ``ValueError``
        for a test that does not exist or lacks what it needs.

        >>> list(model.evaluate(panel, tests=["holdout"], horizon=4, origins=1))
        ['test', 'method', 'series', 'horizon', 'metric', 'value']
        """
        from causalmmm.evaluation.evaluate import evaluate

        panel = self._known(panel)
        return evaluate(self, panel, truth, tests, horizon=horizon, origins=origins, plan=plan)

    def trust(
        self,
        panel: PanelLike | None = None,
        tests: Sequence[str] | None = None,
        *,
        horizon: int | None = None,
        origins: int = 5,
        progress: bool = True,
    ) -> pd.DataFrame:
        """Seven tests of whether the model deserves trust, with thresholds: test, measure, value,
        at_least, at_most, passed, meaning.

        holdout, cv    forecasts of hidden steps, spend known, beside naive ones.
        refresh        four more weeks (28 days, one month) of data: how far ROI moves.
        perturbation   5 % noise on spend: how far ROI moves.
        placebo        copies of channels, shuffled in time, must get no effect.
        future-spend   the next step's spend must not explain today's target.
        recovery       the model's own effects must be found again in data simulated from it.

        ``tests`` are all by default; ``horizon`` is what ``causalmmm fit --holdout`` kept from the
        model, else 13 weeks, 28 days or 3 months. ``passed`` is empty where a measure has no
        threshold. Copies of the model, with its parameters and seed, are fitted; with ``progress``
        their number is told before, and the time left after each.
        A test that makes no sense has one row, whose meaning says why. ``ValueError`` for a test
        that does not exist.
        """
        from causalmmm.evaluation.trust import to_stderr, trust

        say = to_stderr if progress else None
        return trust(self, self._known(panel), tests, horizon=horizon, origins=origins, say=say)

    def save(self, directory: str | Path, *, overwrite: bool = False) -> Path:
        """Write the model to a new directory: weights as safetensors, the rest as JSON.

        The training panel is not saved. An existing directory is refused (``ModelError``), unless
        it is a model and ``overwrite`` is given.

        >>> model.save("saved").name
        'saved'
        """
        from causalmmm.model.storage import save

        self._known_fitted()
        return save(self, directory, overwrite=overwrite)

    def export_onnx(
        self,
        path: str | Path,
        *,
        draws: int | None = None,
        max_horizon: int = 90,
        opset: int = 18,
    ) -> Path:
        """Write the model to one ONNX file that needs neither this package nor torch to run.

        Standard operators in float32 with dynamic batch, history and horizon; histories in user
        units and dates go in, graphs, forecasts, contributions and response curves come out.
        ``causalmmm.runtime.OnnxModel`` reads it with onnxruntime; ``docs/onnx.md`` tells
        others how.

        draws        futures behind forecasts, ``self.draws`` by default: then forecasts are those
                     of ``predict``. Fewer are faster, and their intervals coarser. The joint draws
                     of a response regression are part of it: ``ValueError`` for another number.
        max_horizon  most steps ahead; the file holds the draws of so many.
        opset        18, 20 or 21.

        Exporting the same model again gives the same bytes. ``ImportError`` without ``onnx``.
        """
        from causalmmm.model.onnx_export import export_onnx

        self._known_fitted()
        return export_onnx(self, path, draws=draws, max_horizon=max_horizon, opset=opset)

    @classmethod
    def load(cls, directory: str | Path, *, device: str | None = None) -> Self:
        """The model that ``save`` wrote, on ``device`` ("auto", "cpu", "cuda"; None: as fitted).

        It holds no data: pass a panel to ``graphs``, ``predict`` and ``evaluate``. Raises
        ``ModelError`` naming the file and everything in it that is missing, cut off, of another
        shape, or written by a newer version.

        >>> CausalMMM.load(model.save("kept")).nodes_ == model.nodes_
        True
        """
        from causalmmm.model.storage import read

        saved = read(directory)
        model = cls(**saved.parameters)
        if device is not None:
            model.device = device
        model.device_ = device_named(model.device)
        model.config_, model.calendar_, model.schema_ = saved.config, saved.calendar, saved.schema
        model.nodes_, model.roles_ = saved.nodes, saved.roles
        model.context_names_, model.control_names_ = saved.context_names, saved.control_names
        model.model_ = saved.model
        if isinstance(saved.model, CausalModel):
            model.model_ = saved.model.to(model.device_)
        model.regime_ = saved.regime
        model.history_, model.trained_on_ = saved.history, saved.trained_on
        model.source_, model.panel_, model.warnings_ = saved.source, None, saved.warnings
        return model
