"""``CausalMMM``: the estimator. Its parameters and ``fit`` live here.

How either regime is fitted is in ``fitting``; how a model is judged and kept, in ``keeping``; what
a fitted model can be asked, in ``predictor`` and ``decide``.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from causalmmm.data.fingerprint import training_record
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.spec.calendar import calendar_spec
from causalmmm.engine.spec.config import ModelConfig, TrainConfig
from causalmmm.engine.training.checkpoint import EpochReport
from causalmmm.engine.training.threads import threads_for
from causalmmm.inference.compatibility import PanelLike, as_panel, check_lengths, check_window
from causalmmm.model.continuing import check_start
from causalmmm.model.demand import check_memory
from causalmmm.model.diagnostics import doubts
from causalmmm.model.fitting import device_named
from causalmmm.model.header import refuse
from causalmmm.model.keeping import Keeping
from causalmmm.model.predictor import NotFittedError as NotFittedError
from causalmmm.model.priors import Pair
from causalmmm.model.regimes import chosen_regime


class CausalMMM(Keeping):
    """Per-store causal marketing mix model: graphs, effects and forecasts of every store.

    Parameters name the fields of ``engine.spec.config`` (``hidden`` ... ``store_effects`` shape the
    model, ``epochs`` ... ``amp`` its training) and what the user knows beforehand:

    regime      "amortised" (one model for all stores, trained), "regression" (the response
                regression in closed form, with effects within the step), or "auto": by evidence
                of when effects begin, by frequency and number of stores (see ``chosen_regime``).
    structure   where graphs of the amortised model come from (see ``ModelConfig``). "auto" learns
                them from all stores together; below 40 stores the pretrained prior reads each
                store, and each store's own evidence decides where stores prove to share no effects
                (with a warning; the model is then fitted twice). Graphs of the regression are its
                own evidence and the pretrained prior together (but for months); "evidence" leaves
                the prior out.
    prior       prior probability of an edge; the structure "pretrained" has one by kind of pair.
    edge_prior  {(source, target): probability} for single edges; 0 forbids an edge, 1 requires it.
    forbidden   pairs (source, target) that cannot be edges; "*" stands for every series.
    required    pairs that must be edges; their strength is still learned.
    signed      pairs from a channel to a mediator or the target whose effect may be negative
                (all others are non-negative).
    reactive    channels whose spend follows demand within the step, as bids that rise with searches
                do: what they do in that step cannot be told from the demand, so their effect begins
                one step later, and contributions leave out what came before.
    holidays    country code of a public-holiday calendar for the baseline, or None.
    horizon     steps that ``predict`` and ``optimize`` look ahead where they are told no number;
                by default 28 days, 13 weeks or 3 months (``horizon_`` after ``fit``).
    draws       futures drawn per store for forecasts.
    seed, device   the same seed on the same device gives the same bits; device "auto" takes a GPU.
    deterministic  fit with one thread of a CPU, so that the number of threads changes no bit.

    After ``fit``: ``regime_``, ``nodes_`` (series in order), ``history_`` (losses per epoch, or
    what the evidence chose for every series), ``model_`` (the torch module or the regression),
    ``panel_`` (the training panel; not saved).

    >>> from causalmmm import CausalMMM, simulate
    >>> panel, _ = simulate("weekly-mmm", seed=0, stores=2, steps=80)
    >>> model = CausalMMM(seed=0).fit(panel, progress=False)
    >>> model.regime_
    'regression'
    """

    def __init__(
        self,
        *,
        horizon: int | None = None,
        prior: float = ModelConfig.prior,
        edge_prior: Mapping[Pair, float] | None = None,
        forbidden: Sequence[Pair] = (),
        required: Sequence[Pair] = (),
        signed: Sequence[Pair] = (),
        reactive: Sequence[str] = (),
        holidays: str | None = None,
        hidden: int = ModelConfig.hidden,
        lags: int = ModelConfig.lags,
        raw_window: int = ModelConfig.raw_window,
        decays: Sequence[float] = ModelConfig.decays,
        delays: Sequence[int] = ModelConfig.delays,
        ar_lags: int = ModelConfig.ar_lags,
        yearly: int | None = ModelConfig.yearly,
        prototypes: int = ModelConfig.prototypes,
        effect_spread: float = ModelConfig.effect_spread,
        regime: str = "auto",
        structure: str = "auto",
        saturation: bool = ModelConfig.saturation,
        carryover: bool = ModelConfig.carryover,
        store_effects: bool = ModelConfig.store_effects,
        epochs: int | None = TrainConfig.epochs,
        steps: int = TrainConfig.steps,
        batch_stores: int | None = TrainConfig.batch_stores,
        window: int = TrainConfig.window,
        target_share: float = TrainConfig.target_share,
        same_window: bool = TrainConfig.same_window,
        learning_rate: float = TrainConfig.learning_rate,
        weight_decay: float = TrainConfig.weight_decay,
        clip: float = TrainConfig.clip,
        temperature: Sequence[float] = TrainConfig.temperature,
        validation: float = TrainConfig.validation,
        patience: int = TrainConfig.patience,
        amp: bool = TrainConfig.amp,
        draws: int = 32,
        seed: int = 0,
        device: str = "auto",
        deterministic: bool = False,
    ) -> None:
        self.horizon = horizon
        self.prior = prior
        self.edge_prior = edge_prior
        self.forbidden = forbidden
        self.required = required
        self.signed = signed
        self.reactive = reactive
        self.holidays = holidays
        self.hidden = hidden
        self.lags = lags
        self.raw_window = raw_window
        self.decays = decays
        self.delays = delays
        self.ar_lags = ar_lags
        self.yearly = yearly
        self.prototypes = prototypes
        self.effect_spread = effect_spread
        self.regime = regime
        self.structure = structure
        self.saturation = saturation
        self.carryover = carryover
        self.store_effects = store_effects
        self.epochs = epochs
        self.steps = steps
        self.batch_stores = batch_stores
        self.window = window
        self.target_share = target_share
        self.same_window = same_window
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.clip = clip
        self.temperature = temperature
        self.validation = validation
        self.patience = patience
        self.amp = amp
        self.draws = draws
        self.seed = seed
        self.device = device
        self.deterministic = deterministic

    # ---- scikit-learn's contract -------------------------------------------------------------

    @classmethod
    def _names(cls) -> list[str]:
        return [p for p in inspect.signature(cls.__init__).parameters if p != "self"]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's parameters by name.

        >>> CausalMMM(horizon=13).get_params()["horizon"]
        13
        """
        return {name: getattr(self, name) for name in self._names()}

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name; unknown names raise ``ValueError``.

        >>> CausalMMM().set_params(horizon=13).horizon
        13
        """
        unknown = sorted(set(params) - set(self._names()))
        if unknown:
            raise ValueError(f"unknown parameters {unknown}; known are {self._names()}")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self).__init__).parameters
        changed = [
            f"{name}={value!r}"
            for name, value in self.get_params().items()
            if value != defaults[name].default
        ]
        return f"CausalMMM({', '.join(changed)})"

    # ---- fitting -----------------------------------------------------------------------------

    def fit(
        self,
        panel: PanelLike,
        y: None = None,
        *,
        progress: bool = True,
        checkpoint: str | Path | None = None,
        resume: bool = False,
        on_epoch: Callable[[EpochReport], None] | None = None,
        init_model: CausalMMM | str | Path | None = None,
    ) -> Self:
        """Fit one model for all stores of the panel; returns self.

        panel       a :class:`Panel`, or any table that ``Panel.from_frame`` reads.
        progress    show a progress bar with losses and rate.
        checkpoint  file that is rewritten after every epoch; with ``resume`` the run continues
                    from it and ends with the same bits as a run that was never interrupted.
        on_epoch    called with an ``EpochReport`` after every epoch.
        init_model  a model, or the directory of one, to go on from: fitted on an earlier state of
                    this panel, with the same series and parameters; stores and dates may differ. A
                    fifth of the updates then does, and effects stay where the data do not move
                    them. The amortised model only.

        Raises ``PanelError`` when a store's history is too short for the model's lags, or when the
        fit would need more memory than there is, and ``ModelError`` for a checkpoint that cannot be
        written, is damaged, or belongs to a run with other data, parameters or versions; it names
        what differs.

        >>> model = CausalMMM(seed=0).fit(panel, progress=False)
        >>> model.nodes_ == panel.nodes
        True
        """
        panel = as_panel(panel)
        if isinstance(init_model, (str, Path)):
            init_model = type(self).load(init_model)
        model_config, train_config = self.model_config(panel.n_stores), self.train_config()
        if init_model is not None:
            if self.structure == "auto" and init_model.regime_ == "amortised":
                model_config = replace(model_config, structure=init_model.config_.structure)
            check_start(init_model, model_config, self.holidays, panel)
        check_window(train_config.window, model_config)
        check_lengths(panel, model_config)
        self.regime_, why = "amortised", "it goes on from another fit"
        if init_model is None:
            self.regime_, why = chosen_regime(self.regime, self.structure, panel)
        self.device_ = device_named(self.device)
        if self.deterministic and self.device_.type != "cpu":
            told = f"deterministic=True fits on a CPU, and the device is {self.device_}"
            raise refuse("not-deterministic", f"{told}.", "Set device='cpu' (--device cpu).")
        check_memory(panel, self.regime_, model_config, train_config, self.device_)
        self.nodes_ = list(panel.nodes)
        self.roles_ = panel.data.roles
        self.context_names_ = list(panel.context_names)
        self.control_names_ = list(panel.control_names)
        self.schema_ = panel.schema
        if init_model is None:
            self.calendar_ = calendar_spec(panel.data, self.yearly, self.holidays)
        else:  # weights keep their meaning under the terms and scales that they were fitted with
            self.calendar_ = init_model.calendar_
        self.panel_ = panel
        self.trained_on_ = {**training_record(panel), "regime because": why}
        self.warnings_ = []
        self.source_ = None
        self.config_ = model_config
        # the regression's operations are too small for threads: two are no faster than one, and,
        # where torch was imported first and lets them spin, six times slower beside another process
        one = self.deterministic or self.regime_ == "regression"
        with threads_for(0) if one else nullcontext():
            if self.regime_ == "regression":
                if checkpoint is not None:
                    raise ValueError("the response regression has no checkpoints: it takes seconds")
                self._fit_regression(panel)
            else:
                self._fit_amortised(
                    panel,
                    model_config,
                    train_config,
                    progress,
                    on_epoch,
                    checkpoint=None if checkpoint is None else Path(checkpoint),
                    resume=resume,
                    start=_network(init_model),
                )
        self.warnings_ += doubts(self)
        for message in self.warnings_:
            warnings.warn(message, UserWarning, stacklevel=2)
        return self


def _network(init_model: CausalMMM | None) -> CausalModel | None:
    if init_model is None:
        return None
    assert isinstance(init_model.model_, CausalModel)  # ``check_start`` has seen to it
    return init_model.model_


def load(directory: str | Path, *, device: str | None = None) -> CausalMMM:
    """The model of a directory; see :meth:`CausalMMM.load`.

    >>> load(model.save("again")).nodes_ == model.nodes_
    True
    """
    return CausalMMM.load(directory, device=device)
