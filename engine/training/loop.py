"""Training: epochs of cross-window updates, early stopping, exact resumption."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from causalmmm.engine.batches.windows import Windows
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.spec.config import TrainConfig
from causalmmm.engine.training.checkpoint import (
    EpochReport,
    TrainState,
    load_checkpoint,
    save_checkpoint,
)
from causalmmm.engine.training.cuda_graphs import Updates
from causalmmm.engine.training.divergence import DivergenceError
from causalmmm.engine.training.ranks import Ranks
from causalmmm.engine.training.refit import refit_prototypes
from causalmmm.engine.training.schedule import (
    Schedule,
    epoch_count,
    parameter_groups,
    refit_epochs,
    stores_per_update,
    values_per_store,
)
from causalmmm.engine.training.threads import threads_for
from causalmmm.engine.training.validation import (
    TRAINING,
    Validation,
    sampling_seed,
    split_stores,
)

_UPDATES_PER_VALIDATION = 10  # where an epoch has fewer


def train(
    model: CausalModel,
    windows: Windows,
    config: TrainConfig,
    *,
    seed: int,
    device: torch.device,
    on_epoch: Callable[[EpochReport], None] | None = None,
    checkpoint: Path | None = None,
    identity: Mapping[str, Any] | None = None,
    resume: bool = False,
    continued: bool = False,
) -> list[EpochReport]:
    """Fit ``model`` in place and leave it with the weights of its best epoch.

    A ``continued`` fit starts from the weights of an earlier one: it takes a fifth of the updates
    at a twentieth of the learning rate, and keeps the weights it began with where none are better.

    Every random choice of epoch e depends on (seed, e) alone, so a run resumed from ``checkpoint``
    takes the same steps as one that was never interrupted; it must have the ``identity`` (JSON
    values) of the run that wrote it, or ``CheckpointError`` names what differs. With fewer than 20
    stores, or with ``config.validation == 0``, all stores validate, on target blocks that training
    does not use as such; otherwise a fixed share of the stores is held out. Processes that
    ``torchrun`` starts share every update (see ``ranks``); the first keeps the checkpoint.
    """
    ranks = Ranks.of_environment()
    ranks.join(device)
    run = _Run(model, windows, config, seed=seed, device=device, ranks=ranks, continued=continued)
    state = TrainState()
    whose = {**(identity or {}), "epochs": run.epochs}
    if resume and checkpoint is not None:
        state = load_checkpoint(checkpoint, model, run.update.optimiser, whose)
    with (
        model.mixed_precision(config.amp and device.type == "cuda"),
        threads_for(run.batch_size * values_per_store(windows)),
    ):
        if continued and state.epoch == 0:
            run.validate(state)
        while state.epoch < run.epochs and state.stale < config.patience:
            report = run.epoch(state)
            if checkpoint is not None and ranks.rank == 0:
                save_checkpoint(checkpoint, model, run.update.optimiser, state, whose)
            if on_epoch is not None:
                on_epoch(report)
    model.load_state_dict(state.best_weights)
    model.eval()
    return state.history


class _Run:
    """What stays fixed during a run: panel, settings, stores, schedule and optimiser."""

    def __init__(
        self,
        model: CausalModel,
        windows: Windows,
        config: TrainConfig,
        *,
        seed: int,
        device: torch.device,
        ranks: Ranks,
        continued: bool,
    ) -> None:
        windows = windows.on(device)
        self.model, self.windows, self.config = model, windows, config
        self.seed, self.device, self.ranks = seed, device, ranks
        stores = windows.data.n_stores
        self.training_stores, self.validation_stores = split_stores(stores, config.validation, seed)
        self.batch_size = config.batch_stores or stores_per_update(windows)
        self.updates = math.ceil(len(self.training_stores) / self.batch_size)  # per epoch
        self.epochs = config.epochs or epoch_count(
            config.steps, windows.data.n_nodes, self.updates, continued=continued
        )
        self.refit_before = set() if continued else refit_epochs(self.epochs)
        self.validate_every = math.ceil(_UPDATES_PER_VALIDATION / self.updates)
        self.schedule = Schedule(config, self.epochs * self.updates, continued=continued)
        groups = parameter_groups(model, config)
        self.update = Updates(
            model, groups, config, stores=len(self.training_stores), device=device, ranks=ranks
        )
        self.validation = Validation(
            model,
            windows,
            self.validation_stores,
            config,
            seed=seed,
            device=device,
            stores_per_batch=self.batch_size,
            training_stores=len(self.training_stores),
            ranks=ranks,
        )
        # from initial weights, so before a checkpoint is loaded
        self.store_log_bf = _store_log_bf(model, windows, self.batch_size, device)

    def epoch(self, state: TrainState) -> EpochReport:
        """One pass over the training stores, validation included; advances ``state``."""
        if state.epoch in self.refit_before and self.model.config.structure == "learned":
            refit_prototypes(
                self.model,
                self.windows,
                self.training_stores,
                self.update.optimiser,
                stores_per_batch=self.batch_size,
                device=self.device,
                seed=self.seed,
            )
        began = time.perf_counter()
        means = self._updates(state.epoch)
        elapsed = time.perf_counter() - began
        state.epoch += 1
        if state.epoch % self.validate_every == 0 or state.epoch == self.epochs:
            self.validate(state)
        report = EpochReport(
            epoch=state.epoch,
            epochs=self.epochs,
            train=means[0],
            validation=state.score,
            kl_edges=means[1],
            gradient_norm=means[2],
            stores_per_second=len(self.training_stores) / elapsed,
        )
        state.history.append(report)
        return report

    def _updates(self, epoch: int) -> list[float]:
        """The updates of an epoch, counted from 0; their mean loss, KL of the edges and gradient
        norm."""
        config, schedule = self.config, self.schedule
        rng = np.random.default_rng((self.seed, 1, epoch))
        order = rng.permutation(self.training_stores)
        self.model.train()
        losses = []
        for index, stores in enumerate(np.array_split(order, self.updates)):
            position = epoch * self.updates + index
            draw = self.windows.draw(
                np.sort(stores), config.target_share, rng, same=config.same_window
            )
            part = draw.part(self.ranks.share(len(stores)))
            batch = self.windows.batch(part).to(self.device)
            log_bf = None if self.store_log_bf is None else self.store_log_bf[batch.store]
            loss = self.update(
                batch,
                rate=config.learning_rate * schedule.rate(position),
                temperature=schedule.temperature(position),
                seed=sampling_seed(self.seed, TRAINING, position),
                kl_weight=schedule.kl(position),
                store_log_bf=log_bf,
                of=len(stores),
            )
            losses.append(loss)
        results = self._joined(torch.stack(losses))
        if not results[:, 0].isfinite().all():
            raise self._divergence(epoch, results)
        return results[:, :3].mean(0).tolist()

    def _joined(self, results: Tensor) -> Tensor:
        """Results of the updates of an epoch [updates, 5] from those of this rank."""
        by_rank = results.new_zeros(self.ranks.count, *results.shape)
        by_rank[self.ranks.rank] = results
        by_rank = self.ranks.sum(by_rank).cpu()
        joined = by_rank.sum(0)
        joined[:, 2] = by_rank[0, :, 2]  # the gradient is that of all ranks already
        if self.ranks.count > 1:  # where several ranks met such stores, that of the first counts
            culprit = (by_rank[..., 4] > 0).int().argmax(0)
            for update, rank in enumerate(culprit.tolist()):
                stores = len(np.array_split(self.training_stores, self.updates)[update])
                offset = Ranks(rank, self.ranks.count).share(stores).start
                joined[update, 3] = by_rank[rank, update, 3] + offset
        return joined

    def _divergence(self, epoch: int, results: Tensor) -> DivergenceError:
        """Names the first store that diverged, from the ``results`` [updates, 5] of an epoch."""
        error = DivergenceError(epoch + 1, self.config.learning_rate)
        update = int(results[:, 0].isfinite().logical_not().int().argmax())
        first, count = (int(value) for value in results[update, 3:])
        rng = np.random.default_rng((self.seed, 1, epoch))  # draws the windows of the epoch again
        batches = np.array_split(rng.permutation(self.training_stores), self.updates)
        if 0 < count < len(batches[update]):  # all of them: the weights were lost before
            for stores in batches[: update + 1]:
                draw = self.windows.draw(
                    np.sort(stores), self.config.target_share, rng, same=self.config.same_window
                )
            error.store, error.begin = int(draw.stores[first]), int(draw.begin[first])
            error.end = error.begin + int(draw.lengths[first])
        return error

    def validate(self, state: TrainState) -> None:
        """Score the model on the validation stores, and keep its weights if it is the best."""
        state.score = self.validation(self.store_log_bf)
        if state.score < state.best:
            state.best, state.stale = state.score, 0
            state.best_weights = copy.deepcopy(self.model.state_dict())
        elif self.schedule.kl(state.epoch * self.updates) == 1.0:  # losses are comparable from here
            state.stale += 1


def _store_log_bf(
    model: CausalModel, windows: Windows, batch_size: int, device: torch.device
) -> Tensor | None:
    """[S, N, N]: log Bayes factors of the edges from each store alone, for the structures
    "pretrained" and "evidence". They do not depend on what is learned, so they are computed
    once."""
    if model.config.structure not in ("pretrained", "evidence"):
        return None
    stores: NDArray[np.int64] = np.arange(windows.data.n_stores)
    computed = []
    with torch.no_grad():
        for k in range(0, len(stores), batch_size):
            inferred = model.infer(windows.full(stores[k : k + batch_size]).to(device))
            assert inferred.store_log_bf is not None
            computed.append(inferred.store_log_bf)
    return torch.cat(computed)
