"""Recurrences in time, one step after the other: a loop, or one ``Scan`` in an exported graph."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

State = tuple[Tensor, ...]


def roll(step: Callable[[State, State], tuple[State, State]], state: State, inputs: State) -> State:
    """Outputs [T, ...] of ``step(state, now) -> (state, outputs)`` over axis 0 of ``inputs``."""
    if torch.compiler.is_exporting():
        from torch._higher_order_ops.scan import scan

        def copied(before: State, now: State) -> tuple[State, State]:
            after, outputs = step(before, now)
            return _copied(after), _copied(outputs)

        begin = tuple(part.clone(memory_format=torch.contiguous_format) for part in state)
        given = tuple(part.contiguous() for part in inputs)
        _, outputs = scan(copied, begin, given, dim=0)
        return tuple(outputs)
    path = []
    for now in zip(*inputs, strict=True):
        state, outputs = step(state, now)
        path.append(outputs)
    return tuple(torch.stack(part) for part in zip(*path, strict=True))


def _copied(parts: State) -> State:
    return tuple(part.clone() for part in parts)
