"""Recurrences in time, one step after the other: a loop, or one ``Scan`` in an exported graph."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

State = tuple[Tensor, ...]


def roll(
    step: Callable[[State, State], tuple[State, Tensor]], state: State, inputs: State
) -> Tensor:
    """Outputs [T, ...] of ``step(state, now) -> (state, output)`` over axis 0 of ``inputs``."""
    if torch.compiler.is_exporting():
        from torch._higher_order_ops.scan import scan

        def copied(before: State, now: State) -> tuple[State, Tensor]:
            after, output = step(before, now)
            return tuple(part.clone() for part in after), output.clone()

        begin = tuple(part.clone(memory_format=torch.contiguous_format) for part in state)
        _, outputs = scan(copied, begin, inputs, dim=0)
        result: Tensor = outputs
        return result
    path = []
    for now in zip(*inputs, strict=True):
        state, output = step(state, now)
        path.append(output)
    return torch.stack(path)
