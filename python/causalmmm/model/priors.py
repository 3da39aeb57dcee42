"""What the user knows beforehand, by name, as the priors and signs that the model takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

Pair = tuple[str, str]
_OUTCOMES = ("mediator", "target")
_DRIVERS = ("channel", "organic")


def edge_probability(
    nodes: Sequence[str],
    prior: float | Tensor,
    edge_prior: Mapping[Pair, float] | None,
    forbidden: Sequence[Pair],
    required: Sequence[Pair],
) -> Tensor:
    """Prior probability [N, N] of every edge: 0 where forbidden, 1 where required.

    ``prior`` is that of all other pairs, one number or [N, N].
    Raises ``ValueError`` for names that are no series, values that are no probabilities, and pairs
    that are both forbidden and required.
    """
    probability = torch.zeros(len(nodes), len(nodes)) + prior
    for pair, value in (edge_prior or {}).items():
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"edge_prior of {pair} is a probability, got {value}")
        for i, j in _indices(nodes, [pair], "edge_prior"):
            probability[i, j] = value
    excluded = set(_indices(nodes, forbidden, "forbidden"))
    certain = set(_indices(nodes, required, "required"))
    if both := excluded & certain:
        i, j = min(both)
        raise ValueError(f"{nodes[i]} -> {nodes[j]} is forbidden and required")
    for i, j in excluded:
        probability[i, j] = 0.0
    for i, j in certain:
        probability[i, j] = 1.0
    return probability


def positive_effects(nodes: Sequence[str], roles: Sequence[str], signed: Sequence[Pair]) -> Tensor:
    """bool [N, N]: spend does not lower a mediator or the target, unless the user says it may."""
    drivers = torch.tensor([role in _DRIVERS for role in roles])
    outcomes = torch.tensor([role in _OUTCOMES for role in roles])
    positive = drivers.unsqueeze(1) & outcomes.unsqueeze(0)
    for i, j in _indices(nodes, signed, "signed"):
        positive[i, j] = False
    return positive


def reactive_series(
    nodes: Sequence[str], roles: Sequence[str], reactive: Sequence[str]
) -> list[int]:
    """Indices of the channels that follow demand within the step; ``ValueError`` for others."""
    drivers = [name for name, role in zip(nodes, roles, strict=True) if role in _DRIVERS]
    for name in reactive:
        if name not in drivers:
            raise ValueError(
                f"reactive names {name!r}, which is no channel of the panel: {drivers}"
            )
    return [list(nodes).index(name) for name in reactive]


def spend_series(roles: Sequence[str]) -> Tensor:
    """bool [N]: series in which zero means a pause, not a low value."""
    return torch.tensor([role in _DRIVERS for role in roles])


def _indices(nodes: Sequence[str], pairs: Sequence[Pair], what: str) -> Iterator[tuple[int, int]]:
    """Index pairs of named pairs; "*" stands for every series."""
    for pair in pairs:
        if isinstance(pair, str) or len(pair) != 2:
            raise ValueError(f"{what} holds pairs (source, target), got {pair!r}")
        for name in pair:
            if name != "*" and name not in nodes:
                raise ValueError(
                    f"{what} names {name!r}, which is no series of the panel: {list(nodes)}"
                )
        sources, targets = (nodes if name == "*" else [name] for name in pair)
        for source in sources:
            for target in targets:
                if source != target:
                    yield nodes.index(source), nodes.index(target)
