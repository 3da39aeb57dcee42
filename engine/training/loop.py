"""Training: epochs of cross-window updates, early stopping on held-out stores, exact resumption."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from causalmmm.engine.batches.windows import Batch, Windows
from causalmmm.engine.nn.model import CausalModel, effect_noise
from causalmmm.engine.spec.config import TrainConfig
from causalmmm.engine.training.cuda_graphs import Updates
from causalmmm.engine.training.prototypes import fit_mixture, toggle_prototype_edges

_VALUES_PER_UPDATE = 100_000
_FEW_SERIES, _PASSES, _LONGEST = 8, 50, 4.0
_UPDATES_PER_VALIDATION = 10
_FAST = 4.0  # learning rate of parameters with a meaning, relative to that of the networks
_MEANINGS = ("prototypes", "mixture")
_EVERY_STORE_VALIDATES_BELOW = 20
_REFIT_AT = (0.25, 0.35, 0.45)  # of all epochs
_REFIT_STORES = 500


@dataclass
class EpochReport:
    """What one epoch did: losses per store in nats, and its rate in stores per second.

    ``validation`` is the latest score on held-out stores, NaN before the first.
    """

    epoch: int
    epochs: int
    train: float
    validation: float
    kl_edges: float
    stores_per_second: float


@dataclass
class TrainState:
    """Everything that a resumed run needs to continue bit for bit."""

    epoch: int = 0
    score: float = math.nan
    best: float = math.inf
    stale: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    history: list[EpochReport] = field(default_factory=list)


def train(
    model: CausalModel,
    windows: Windows,
    config: TrainConfig,
    *,
    seed: int,
    device: torch.device,
    on_epoch: Callable[[EpochReport], None] | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
) -> list[EpochReport]:
    """Fit ``model`` in place and leave it with the weights of its best epoch.

    Every random choice of epoch e depends on (seed, e) alone, so a run resumed from ``checkpoint``
    takes the same steps as one that was never interrupted. With fewer than 20 stores, or with
    ``config.validation == 0``, all stores validate, on hidden blocks that training does not use
    as such; otherwise a fixed share of the stores is held out.
    """
    fit_stores, validation_stores = _split(windows.data.n_stores, config.validation, seed)
    at_once = config.batch_stores or _stores_per_update(windows)
    per_epoch = math.ceil(len(fit_stores) / at_once)
    epochs = config.epochs or _epochs(config.steps, windows.data.n_nodes, per_epoch)
    groups = _parameter_groups(model, config)
    update = Updates(model, groups, config, stores=len(fit_stores), device=device)
    schedule = _Schedule(config, epochs * per_epoch)
    state = TrainState()
    store_log_bf = _evidence_alone(model, windows, at_once, device)  # before weights are restored
    if resume:
        if checkpoint is None or not checkpoint.exists():
            raise FileNotFoundError(f"nothing to resume: no checkpoint at {checkpoint}")
        state = _restore(checkpoint, model, update.optimiser, epochs)
    validate_every = math.ceil(_UPDATES_PER_VALIDATION / per_epoch)
    model.autocast = config.amp and device.type == "cuda"
    refits = _refits(epochs)
    while state.epoch < epochs and state.stale < config.patience:
        if state.epoch in refits and model.config.structure == "learned":
            refit_prototypes(model, windows, fit_stores, update.optimiser, at_once, device, seed)
        began = time.perf_counter()
        rng = np.random.default_rng((seed, 1, state.epoch))
        order = rng.permutation(fit_stores)
        model.train()
        losses = []
        for step, stores in enumerate(np.array_split(order, per_epoch)):
            position = state.epoch * per_epoch + step
            batch = windows.cross(
                np.sort(stores), config.target_share, rng, same=config.same_window
            )
            losses.append(
                update(
                    batch,
                    rate=config.learning_rate * schedule.rate(position),
                    temperature=schedule.temperature(position),
                    seed=_sampling_seed(seed, 0, position),
                    kl_weight=schedule.kl(position),
                    store_log_bf=None if store_log_bf is None else store_log_bf[batch.store],
                )
            )
        mean_total, mean_kl = torch.stack(losses).mean(0).tolist()
        if not math.isfinite(mean_total):
            raise FloatingPointError(
                f"the loss is not finite in epoch {state.epoch + 1}; lower learning_rate "
                f"(now {config.learning_rate}) or look for extreme values with validate"
            )
        elapsed = time.perf_counter() - began
        state.epoch += 1
        if state.epoch % validate_every == 0 or state.epoch == epochs:
            batches = _validation_batches(windows, validation_stores, at_once, config, seed)
            state.score = _validate(
                model, batches, config, device, seed, len(fit_stores), store_log_bf
            )
            if state.score < state.best:
                state.best, state.stale = state.score, 0
                state.best_weights = copy.deepcopy(model.state_dict())
            elif schedule.kl(state.epoch * per_epoch) == 1.0:
                state.stale += 1
        report = EpochReport(
            epoch=state.epoch,
            epochs=epochs,
            train=mean_total,
            validation=state.score,
            kl_edges=mean_kl,
            stores_per_second=len(fit_stores) / elapsed,
        )
        state.history.append(report)
        if checkpoint is not None:
            _store(checkpoint, model, update.optimiser, state, epochs)
        if on_epoch is not None:
            on_epoch(report)
    model.load_state_dict(state.best_weights)
    model.eval()
    model.autocast = False
    return state.history


def _epochs(steps: int, nodes: int, per_epoch: int) -> int:
    """Of about ``steps`` updates; of more where an update holds few stores because series are many,
    and where so many would not pass the stores 50 times, up to four times as many."""
    updates = steps * max(1.0, nodes / _FEW_SERIES)
    updates = min(max(updates, _PASSES * per_epoch), _LONGEST * updates)
    return max(5, round(updates / per_epoch))


def _evidence_alone(
    model: CausalModel, windows: Windows, at_once: int, device: torch.device
) -> Tensor | None:
    """[S, N, N]: what each store alone says of its edges, where graphs come from that. It does not
    depend on what is learned, and is worked out once."""
    if model.config.structure != "evidence":
        return None
    everyone = np.arange(windows.data.n_stores)
    parts = [everyone[k : k + at_once] for k in range(0, len(everyone), at_once)]
    with torch.no_grad():
        found = [model.infer(windows.full(part).to(device)).store_log_bf for part in parts]
    return torch.cat([store_log_bf for store_log_bf in found if store_log_bf is not None])


def _refits(epochs: int) -> set[int]:
    """Epochs before which the prototypes are fitted anew: while the KL term grows."""
    return {max(1, round(share * epochs)) for share in _REFIT_AT}


@torch.no_grad()
def refit_prototypes(
    model: CausalModel,
    windows: Windows,
    stores: NDArray[np.int64],
    optimiser: torch.optim.Optimizer,
    at_once: int,
    device: torch.device,
    seed: int,
) -> None:
    """Fit the prototypes to the evidence of at most ``_REFIT_STORES`` stores, as they are now."""
    model.eval()
    some = stores[:: math.ceil(len(stores) / _REFIT_STORES)]
    found = []
    for k in range(0, len(some), at_once):
        inferred = model.infer(windows.full(some[k : k + at_once]).to(device))
        if inferred.evidence is None:
            return
        found.append((inferred.evidence, (-inferred.log_noise).exp()))
    encoder, decoder = model.encoder, model.decoder
    prior = encoder.log_prior[..., 1].exp()
    factor = torch.cat([evidence.factor for evidence, _ in found])
    mixture = fit_mixture(factor, prior, len(encoder.prototypes), seed=seed)
    if mixture is None:
        return
    nodes, width = len(prior), found[0][0].gram.shape[-1]
    gram = factor.new_zeros(len(encoder.prototypes), nodes, width, width)
    cross = factor.new_zeros(gram.shape[:-1])
    for share, (evidence, precision) in zip(mixture.share.split(at_once), found, strict=True):
        weight = precision.square() * evidence.share
        gram += torch.einsum("bp,bj,bmn->pjmn", share, weight, evidence.gram)
        cross += torch.einsum("bp,bj,bmj->pjm", share, precision, evidence.cross)
    rate, beta = toggle_prototype_edges(
        mixture,
        factor,
        gram,
        cross,
        decoder.beta,
        prior,
        decoder.positive,
        steps=min(int(np.median(windows.data.lengths)), windows.window),
    )
    encoder.prototypes.copy_(rate.logit(1e-4))
    encoder.mixture.copy_(mixture.log_weight)
    decoder.set_beta(beta)
    for parameter in (encoder.prototypes, encoder.mixture):
        for moment in optimiser.state.get(parameter, {}).values():
            moment.zero_()


def _parameter_groups(model: CausalModel, config: TrainConfig) -> list[dict[str, Any]]:
    """The encoder's networks learn at the nominal rate. What has a meaning of its own (decays,
    effects, baselines, prototypes) has further to go: it learns faster and is not decayed."""
    networks: list[Tensor] = []
    meanings: list[Tensor] = []
    for name, parameter in model.named_parameters():
        amortised = name.startswith("encoder.") and name.split(".")[1] not in _MEANINGS
        (networks if amortised else meanings).append(parameter)
    return [
        {"params": networks, "pace": 1.0, "weight_decay": config.weight_decay},
        {"params": meanings, "pace": _FAST, "weight_decay": 0.0},
    ]


def _stores_per_update(windows: Windows) -> int:
    """About 100,000 values an update: small enough for many updates, large enough to vectorise."""
    data = windows.data
    steps = min(int(np.median(data.lengths)), windows.window)
    return int(np.clip(_VALUES_PER_UPDATE // (steps * data.n_nodes), 8, 256))


class _Schedule:
    """Learning rate (warm-up, then cosine), temperature and KL weight of every update."""

    def __init__(self, config: TrainConfig, total: int) -> None:
        self.total, self.warm = max(total, 1), max(1, min(50, total // 10))
        self.hot, self.cold = config.temperature

    def rate(self, step: int) -> float:
        if step < self.warm:
            return (step + 1) / self.warm
        return 0.5 * (1 + math.cos(math.pi * step / self.total)) * 0.98 + 0.02

    def temperature(self, step: int) -> float:
        share = min(1.0, step / (0.6 * self.total))
        return self.hot * (self.cold / self.hot) ** share

    def kl(self, step: int) -> float:
        """0 while effects are learned behind open gates, then up to 1."""
        return min(1.0, max(0.0, (step / self.total - 0.1) / 0.3))


def _sampling_seed(seed: int, purpose: int, position: int) -> int:
    """A 63-bit seed for the update (purpose 0) or validation batch (purpose 1) at ``position``."""
    words = np.random.SeedSequence((seed, 2, purpose, position)).generate_state(2, np.uint32)
    return int(words[0]) << 31 | int(words[1]) >> 1


def _split(stores: int, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    everyone = np.arange(stores)
    held = min(round(share * stores), 2000)
    if stores < _EVERY_STORE_VALIDATES_BELOW or held == 0:
        return everyone, everyone[:2000]
    order = np.random.default_rng((seed, 0)).permutation(stores)
    return np.sort(order[held:]), np.sort(order[:held])


def _validation_batches(
    windows: Windows, stores: NDArray[np.int64], at_once: int, config: TrainConfig, seed: int
) -> Iterator[Batch]:
    """The same hidden blocks at every call."""
    rng = np.random.default_rng((seed, 3))
    for begin in range(0, len(stores), at_once):
        part = stores[begin : begin + at_once]
        yield windows.cross(part, config.target_share, rng, same=config.same_window)


@torch.no_grad()
def _validate(
    model: CausalModel,
    batches: Iterator[Batch],
    config: TrainConfig,
    device: torch.device,
    seed: int,
    stores: int,
    store_log_bf: Tensor | None,
) -> float:
    """Negative ELBO per store at the floor temperature."""
    model.eval()
    total, count = 0.0, 0
    for index, batch in enumerate(batches):
        batch = batch.to(device)
        draw = _sampling_seed(seed, 1, index)
        loss = model(
            batch,
            temperature=config.temperature[1],
            seed=draw,
            noise=effect_noise(batch, draw),
            stores=stores,
            store_log_bf=None if store_log_bf is None else store_log_bf[batch.store],
        )
        total += loss.total.item() * len(batch.store)
        count += len(batch.store)
    return total / count


def _store(
    path: Path, model: CausalModel, optimiser: torch.optim.Optimizer, state: TrainState, epochs: int
) -> None:
    """Write a checkpoint beside the old one, then replace it, so that a crash leaves one intact."""
    fresh = path.with_suffix(".partial")
    torch.save(
        {
            "epochs": epochs,
            "model": model.state_dict(),
            "optimiser": optimiser.state_dict(),
            "state": {**vars(state), "history": [vars(r) for r in state.history]},
        },
        fresh,
    )
    fresh.replace(path)


def _restore(
    path: Path, model: CausalModel, optimiser: torch.optim.Optimizer, epochs: int
) -> TrainState:
    saved = torch.load(path, map_location="cpu", weights_only=True)
    if saved["epochs"] != epochs:
        raise ValueError(
            f"{path} was written by a run of {saved['epochs']} epochs, this one has {epochs}: "
            "resume with the settings the run began with"
        )
    model.load_state_dict(saved["model"])
    for there, here in zip(saved["optimiser"]["param_groups"], optimiser.param_groups, strict=True):
        there |= {name: here[name] for name in ("lr", "fused", "capturable")}  # of this device
    optimiser.load_state_dict(saved["optimiser"])
    state = saved["state"]
    return TrainState(**{**state, "history": [EpochReport(**r) for r in state["history"]]})
