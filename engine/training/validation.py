"""Validation: which stores, which rows, and the loss on them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from causalmmm.engine.batches.batch import Batch
from causalmmm.engine.batches.windows import Windows
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.nn.posterior import effect_noise
from causalmmm.engine.spec.config import TrainConfig
from causalmmm.engine.training.cuda_graphs import Graphs, Inputs
from causalmmm.engine.training.ranks import Ranks

_MIN_STORES_TO_HOLD_OUT = 20  # with fewer, all stores train and validate
_MAX_VALIDATION_STORES = 2000

# Purposes of sampling seeds; part of every run's random numbers.
TRAINING, VALIDATION = 0, 1


def sampling_seed(seed: int, purpose: int, position: int) -> int:
    """A 63-bit seed for the update or validation batch at ``position``."""
    words = np.random.SeedSequence((seed, 2, purpose, position)).generate_state(2, np.uint32)
    return int(words[0]) << 31 | int(words[1]) >> 1


def split_stores(
    stores: int, share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Training and validation stores: disjoint, unless stores are few or ``share`` is 0."""
    everyone = np.arange(stores)
    held_out = min(round(share * stores), _MAX_VALIDATION_STORES)
    if stores < _MIN_STORES_TO_HOLD_OUT or held_out == 0:
        return everyone, everyone[:_MAX_VALIDATION_STORES]
    order = np.random.default_rng((seed, 0)).permutation(stores)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


class Validation:
    """Negative ELBO per store at the final temperature, always on the same target blocks of
    ``stores``; the ranks take turns with the batches."""

    def __init__(
        self,
        model: CausalModel,
        windows: Windows,
        stores: NDArray[np.int64],
        config: TrainConfig,
        *,
        seed: int,
        device: torch.device,
        stores_per_batch: int,
        training_stores: int,
        ranks: Ranks = Ranks(),  # noqa: B008  (immutable)
    ) -> None:
        self.model, self.windows, self.stores, self.config = model, windows, stores, config
        self.seed, self.device, self.ranks = seed, device, ranks
        self.stores_per_batch, self.training_stores = stores_per_batch, training_stores
        self.graphs = Graphs(self._run, device)

    @torch.no_grad()
    def __call__(self, store_log_bf: Tensor | None) -> float:
        """``store_log_bf`` [S, N, N] of all stores of the panel, or None (see ``CausalModel``)."""
        self.model.eval()
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for index, batch in enumerate(self._batches()):
            if index % self.ranks.count != self.ranks.rank:
                continue
            batch = batch.to(self.device)
            seed = sampling_seed(self.seed, VALIDATION, index)
            inputs = Inputs.of(
                batch,
                store_log_bf=None if store_log_bf is None else store_log_bf[batch.store],
                noise=effect_noise(batch, seed),
                temperature=self.config.temperature[1],
                seed=seed,
                kl_weight=1.0,
                weight=len(batch.store),
            )
            total += self.graphs(inputs)
        return self.ranks.sum(total).item() / len(self.stores)

    def _run(self, inputs: Inputs) -> Tensor:
        losses = inputs.losses(self.model, self.training_stores)
        return losses.total.double() * inputs.weight

    def _batches(self) -> Iterator[Batch]:
        rng, config = np.random.default_rng((self.seed, 3)), self.config
        for begin in range(0, len(self.stores), self.stores_per_batch):
            chunk = self.stores[begin : begin + self.stores_per_batch]
            yield self.windows.cross(chunk, config.target_share, rng, same=config.same_window)
