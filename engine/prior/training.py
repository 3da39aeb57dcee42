"""Training of the prior's network on labelled graphs of many laws.

Every choice of an epoch depends on (seed, epoch) alone, so that a run that was stopped goes on from
its checkpoint with the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from causalmmm.engine.prior.familiarity import Familiarity
from causalmmm.engine.prior.network import PriorNetwork

_VALIDATION = 0.05  # share of the laws, the last ones
_WARM_UP = 0.1  # share of the updates
_TOGETHER = (1, 1, 2, 4)  # stores of a panel, drawn for every update; most users have few
_SCALED_BY = 1000  # laws that standardise the statistics


@dataclass(frozen=True)
class Example:
    """S stores of one law: statistics [S, N, N, F] (float16 keeps them small), edges bool
    [S, N, N], and kinds int64 [N] of the series (see ``kinds_of``)."""

    features: Tensor
    edges: Tensor
    kinds: Tensor


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of pretraining.

    laws           drawn, of which the last 20th validates.
    epochs         passes over the laws.
    width          of the network.
    learning_rate  the largest, after a warm-up; a cosine takes it to zero.
    laws_at_once   per update, with equally many series.
    """

    laws: int = 30_000
    epochs: int = 4
    width: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    laws_at_once: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("laws", "epochs", "width", "laws_at_once"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.learning_rate > 0.0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")


@dataclass(frozen=True)
class PretrainReport:
    """One epoch: mean cross entropy per pair in training and on held-out laws."""

    epoch: int
    train: float
    validation: float


def train_prior(
    examples: Sequence[Example],
    config: PretrainConfig,
    on_epoch: Callable[[PretrainReport], None],
    checkpoint: Path | None = None,
) -> tuple[PriorNetwork, Familiarity, list[PretrainReport]]:
    """The network trained on all but the last of the examples, and what is familiar to it."""
    count = max(1, round(_VALIDATION * len(examples)))
    if len(examples) <= count:
        raise ValueError(f"pretraining needs at least two laws, got {len(examples)}")
    training, validation = examples[:-count], examples[-count:]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = PriorNetwork(examples[0].features.shape[-1], config.width)
    _standardise(network, training)
    optimiser = torch.optim.AdamW(
        network.parameters(), config.learning_rate, weight_decay=config.weight_decay
    )
    history: list[PretrainReport] = []
    if checkpoint is not None and checkpoint.is_file():
        history = _restore(checkpoint, network, optimiser)
    for epoch in range(len(history), config.epochs):
        loss = _epoch(network, optimiser, training, config, epoch)
        history.append(PretrainReport(epoch, loss, held_out_loss(network, validation)))
        on_epoch(history[-1])
        if checkpoint is not None:
            _keep(checkpoint, network, optimiser, history)
    familiarity = Familiarity(examples[0].features.shape[-1])
    familiarity.learn(training, validation)
    return network.eval(), familiarity, history


def _epoch(
    network: PriorNetwork,
    optimiser: torch.optim.Optimizer,
    training: Sequence[Example],
    config: PretrainConfig,
    epoch: int,
) -> float:
    """One pass over the laws; mean loss."""
    rng = np.random.default_rng([config.seed, epoch])
    groups = _groups(training, config, rng)
    total = 0.0
    for number, members in enumerate(groups):
        progress = (epoch + number / len(groups)) / config.epochs
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * _schedule(progress)
        together = int(_TOGETHER[rng.integers(len(_TOGETHER))])
        loss = _loss(network, [training[k] for k in members], together)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        total += loss.item() * len(members)
    return total / len(training)


def _groups(
    training: Sequence[Example], config: PretrainConfig, rng: np.random.Generator
) -> list[list[int]]:
    """Positions of laws of equally many series, some at a time, in random order."""
    by_size: dict[int, list[int]] = {}
    for k in rng.permutation(len(training)).tolist():
        by_size.setdefault(len(training[k].kinds), []).append(k)
    size = config.laws_at_once
    groups = [some[k : k + size] for some in by_size.values() for k in range(0, len(some), size)]
    return [groups[k] for k in rng.permutation(len(groups)).tolist()]


def _schedule(progress: float) -> float:
    """Share of the learning rate: up in a line, down along a cosine."""
    if progress < _WARM_UP:
        return (progress + 1e-3) / _WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (progress - _WARM_UP) / (1 - _WARM_UP)))


def _loss(network: PriorNetwork, examples: Sequence[Example], together: int) -> Tensor:
    """Mean cross entropy of all ordered pairs of laws with equally many series, in panels of
    ``together`` stores (fewer where a law has fewer)."""
    features = torch.cat([example.features for example in examples]).float()
    edges = torch.cat([example.edges for example in examples]).float()
    pairs = ~torch.eye(edges.shape[-1], dtype=torch.bool)
    states = network.states(features)
    panel, number = [], 0
    for example in examples:
        panel += [number + k // together for k in range(len(example.edges))]
        number = panel[-1] + 1
    member = torch.tensor(panel)
    count = torch.bincount(member).float()
    mean = states[1].new_zeros(number, *states[1].shape[1:]).index_add(0, member, states[1])
    mean = mean / count.view(-1, 1, 1, 1)
    logits = network.logits(states, mean[member], count[member])[:, pairs]
    return nn.functional.binary_cross_entropy_with_logits(logits, edges[:, pairs])


@torch.no_grad()
def held_out_loss(network: PriorNetwork, examples: Sequence[Example]) -> float:
    """Mean cross entropy per pair of stores alone, each law counted once."""
    return float(torch.stack([_loss(network, [example], 1) for example in examples]).mean())


@torch.no_grad()
def _standardise(network: PriorNetwork, training: Sequence[Example]) -> None:
    """Set the network's scales and the frequency of edges by kinds of sender and receiver."""
    some = torch.cat([e.features.float().flatten(0, 2) for e in training[:_SCALED_BY]])
    network.center.copy_(some.mean(0))
    network.spread.copy_(some.std(0).clamp_min(1e-2))
    present, counted = torch.zeros(2, *network.base.shape)
    for example in training:
        i, j = torch.meshgrid(example.kinds, example.kinds, indexing="ij")
        pairs = ~torch.eye(len(example.kinds), dtype=torch.bool)
        place = (i[pairs], j[pairs])
        present.index_put_(place, example.edges.float().sum(0)[pairs], accumulate=True)
        stores = torch.full((int(pairs.sum()),), float(len(example.edges)))
        counted.index_put_(place, stores, accumulate=True)
    network.base.copy_(torch.logit((present + 1.0) / (counted + 8.0)))


def _keep(
    path: Path,
    network: PriorNetwork,
    optimiser: torch.optim.Optimizer,
    history: Sequence[PretrainReport],
) -> None:
    state = {
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "history": [vars(report) for report in history],
    }
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def _restore(
    path: Path, network: PriorNetwork, optimiser: torch.optim.Optimizer
) -> list[PretrainReport]:
    state: dict[str, Any] = torch.load(path, weights_only=True)
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    return [PretrainReport(**report) for report in state["history"]]
