"""``Fitting``: how ``CausalMMM`` is fitted, by either regime; ``fit`` itself is in ``estimator``.

Here parameters become configurations, priors and a model; training is in ``causalmmm.engine``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from causalmmm.data.panel import Panel
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.nn.posterior import edge_log_prior
from causalmmm.engine.nn.pretrained import PretrainedGraphs
from causalmmm.engine.spec.config import ModelConfig, TrainConfig
from causalmmm.engine.training.checkpoint import EpochReport
from causalmmm.engine.training.divergence import DivergenceError
from causalmmm.engine.training.loop import train
from causalmmm.engine.training.ranks import Ranks
from causalmmm.engine.training.sharing import gain_of_sharing
from causalmmm.model.checkpoints import check_checkpoint, check_checkpoint_place, run_identity
from causalmmm.model.continuing import take_weights, weights_digest
from causalmmm.model.decide import Decisions
from causalmmm.model.diagnostics import divergence_message
from causalmmm.model.header import refuse
from causalmmm.model.pretrained import panel_graphs
from causalmmm.model.priors import edge_probability, positive_effects, spend_series
from causalmmm.model.regimes import fit_record, fit_regression

# Fewer teach each other less than the pretrained prior knows (docs/measurements.md, few stores).
_FEW_STORES = 40


class Fitting(Decisions):
    """The fitting part of ``CausalMMM``, with the parameters and fitted attributes it reads.

    It gives ``model_``, ``config_`` and ``history_``; ``fit`` has set what else it reads.
    """

    prior: float
    lags: int
    structure: str
    trained_on_: dict[str, Any]
    warnings_: list[str]  # of the fit
    history_: pd.DataFrame

    if TYPE_CHECKING:

        def get_params(self, deep: bool = True) -> dict[str, Any]: ...

    def _fit_regression(self, panel: Panel) -> None:
        """Give ``model_`` the response regression of the panel."""
        self.model_ = fit_regression(
            self._windows(panel.data),
            panel,
            prior=self.prior,
            edge_prior=self.edge_prior,
            forbidden=self.forbidden,
            required=self.required,
            signed=self.signed,
            reactive=self.reactive,
            structure=self.structure,
            seed=self.seed,
        )
        self.history_ = fit_record(self.model_, self.nodes_)

    def _fit_amortised(
        self,
        panel: Panel,
        model_config: ModelConfig,
        train_config: TrainConfig,
        progress: bool,
        on_epoch: Callable[[EpochReport], None] | None,
        checkpoint: Path | None,
        resume: bool,
        start: CausalModel | None,
    ) -> None:
        """Train the amortised model, a second time where stores prove to share no effects; or on
        from ``start``."""
        judged = self.structure == "auto" and model_config.structure == "learned" and self.lags > 0
        judged = judged and start is None
        alone = replace(model_config, structure="evidence") if judged else model_config
        configs = [model_config, alone] if judged else [model_config]
        first = model_config
        if checkpoint is not None:
            identities = [self._identity(config, start) for config in configs]
            if resume:
                first = configs[identities.index(check_checkpoint(checkpoint, identities))]
            else:
                check_checkpoint_place(checkpoint)
        history = self._train(
            panel, first, train_config, progress, on_epoch, checkpoint, resume, start
        )
        if judged and first is model_config:
            assert isinstance(self.model_, CausalModel)
            gain = gain_of_sharing(
                self.model_,
                self._windows(panel.data),
                train_config,
                seed=self.seed,
                device=self.device_,
            )
            if gain < 0:
                history = self._train(panel, alone, train_config, progress, on_epoch, checkpoint)
        if judged and self.config_ is alone:
            self.warnings_.append(
                "the stores of this panel do not share effects: a regression of each store alone "
                "predicts hidden steps better. Graphs now come from each store's own evidence "
                "(structure='evidence')"
            )
        self.history_ = pd.DataFrame([vars(r) for r in history])

    def _identity(self, config: ModelConfig, start: CausalModel | None) -> dict[str, Any]:
        identity = run_identity(self.get_params(), self.trained_on_, self.nodes_, config.structure)
        return identity if start is None else {**identity, "start": weights_digest(start)}

    def _train(
        self,
        panel: Panel,
        model_config: ModelConfig,
        train_config: TrainConfig,
        progress: bool,
        on_epoch: Callable[[EpochReport], None] | None,
        checkpoint: Path | None = None,
        resume: bool = False,
        start: CausalModel | None = None,
    ) -> list[EpochReport]:
        """Give ``model_`` a fresh model, or one with the weights of ``start``, and train it."""
        from causalmmm.model.progress import training_progress

        self.config_ = model_config
        graphs = None
        if model_config.structure == "pretrained":
            graphs = panel_graphs(panel, self.signed, self.calendar_)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.model_ = CausalModel(
                model_config,
                self.calendar_.groups,
                len(self.context_names_),
                positive_effects(self.nodes_, self.roles_, self.signed),
                edge_log_prior(self._edge_probability(graphs)),
                spend_series(self.roles_),
                graphs,
            ).to(self.device_)
        if start is not None:
            take_weights(self.model_, start)
        with training_progress(enabled=progress and Ranks.of_environment().rank == 0) as bar:

            def report(epoch: EpochReport) -> None:
                bar(epoch)
                if on_epoch is not None:
                    on_epoch(epoch)

            try:
                return train(
                    self.model_,
                    self._windows(panel.data),
                    train_config,
                    seed=self.seed,
                    device=self.device_,
                    on_epoch=report,
                    checkpoint=checkpoint,
                    identity=self._identity(model_config, start),
                    resume=resume,
                    continued=start is not None,
                )
            except DivergenceError as error:
                raise FloatingPointError(divergence_message(error, panel)) from error

    def model_config(self, stores: int = _FEW_STORES) -> ModelConfig:
        """The part of the parameters that shapes a model of so many stores, checked."""
        params = self.get_params()
        if self.structure == "auto":
            few = stores < _FEW_STORES and self.lags > 0
            params["structure"] = "pretrained" if few else "learned"
        return _config(ModelConfig, params)

    def train_config(self) -> TrainConfig:
        """The part of the parameters that drives training, checked."""
        return _config(TrainConfig, self.get_params())

    def _edge_probability(self, graphs: PretrainedGraphs | None) -> torch.Tensor:
        usual = self.prior if graphs is None else graphs.base.sigmoid()
        return edge_probability(self.nodes_, usual, self.edge_prior, self.forbidden, self.required)


def _config(kind: Any, params: Mapping[str, Any]) -> Any:
    values = {k: params[k] for k in kind.__dataclass_fields__}
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def device_named(name: str) -> torch.device:
    """The device of that name; "auto" is a GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise refuse(
            "no-device",
            f"There is no device '{name}' on this machine.",
            'Use device="cpu" or device="auto".',
        )
    ranks = Ranks.of_environment()
    if name == "cuda" and ranks.count > 1:  # every process of a machine has a GPU of its own
        return torch.device("cuda", ranks.local % torch.cuda.device_count())
    return torch.device(name)
