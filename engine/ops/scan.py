"""Recurrences in time: a loop over steps, or one ``Scan`` node in an exported graph."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from causalmmm.engine.ops.export_switch import exporting

State = tuple[Tensor, ...]
Step = Callable[[State, State], tuple[State, State]]


def roll(step: Step, state: State, inputs: State) -> State:
    """Outputs [T, ...] of ``step(state, inputs[t]) -> (state, outputs[t])`` for t = 0 .. T - 1.

    Time is axis 0 of every input and output.
    """
    if exporting():
        return _exported_roll(step, state, inputs)
    path = []
    for now in zip(*inputs, strict=True):
        state, outputs = step(state, now)
        path.append(outputs)
    return tuple(torch.stack(output) for output in zip(*path, strict=True))


def _exported_roll(step: Step, state: State, inputs: State) -> State:
    from torch._higher_order_ops.scan import scan

    def without_aliases(before: State, now: State) -> tuple[State, State]:
        """``scan`` does not accept a body whose outputs are views of its inputs."""
        after, outputs = step(before, now)
        return _cloned(after), _cloned(outputs)

    initial = tuple(x.clone(memory_format=torch.contiguous_format) for x in state)
    contiguous = tuple(x.contiguous() for x in inputs)
    _, outputs = scan(without_aliases, initial, contiguous, dim=0)
    return tuple(outputs)


def _cloned(tensors: State) -> State:
    return tuple(x.clone() for x in tensors)
