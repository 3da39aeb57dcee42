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


@torch.no_grad()
def validation_loss(
    model: CausalModel,
    windows: Windows,
    stores: NDArray[np.int64],
    config: TrainConfig,
    *,
    seed: int,
    device: torch.device,
    stores_per_batch: int,
    training_stores: int,
    store_log_bf: Tensor | None,
    ranks: Ranks = Ranks(),  # noqa: B008  (immutable)
) -> float:
    """Negative ELBO per store at the final temperature, always on the same target blocks; the
    ranks take turns with the batches."""
    model.eval()
    sums = torch.zeros(2, dtype=torch.float64, device=device)  # of losses and of stores
    for index, batch in enumerate(_batches(windows, stores, stores_per_batch, config, seed)):
        if index % ranks.count != ranks.rank:
            continue
        batch = batch.to(device)
        batch_seed = sampling_seed(seed, VALIDATION, index)
        loss = model(
            batch,
            temperature=config.temperature[1],
            seed=batch_seed,
            noise=effect_noise(batch, batch_seed),
            stores=training_stores,
            store_log_bf=None if store_log_bf is None else store_log_bf[batch.store],
        )
        sums[0] += loss.total.double() * len(batch.store)
        sums[1] += len(batch.store)
    total, count = ranks.sum(sums).tolist()
    return total / count


def _batches(
    windows: Windows, stores: NDArray[np.int64], size: int, config: TrainConfig, seed: int
) -> Iterator[Batch]:
    rng = np.random.default_rng((seed, 3))
    for begin in range(0, len(stores), size):
        chunk = stores[begin : begin + size]
        yield windows.cross(chunk, config.target_share, rng, same=config.same_window)
