"""Recurrences in time: a loop over steps, or one ``Scan`` node in an exported graph."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from causalmmm.engine.ops.export_switch import exports_whole

State = tuple[Tensor, ...]
Step = Callable[[State, State], tuple[State, State]]


@exports_whole
def roll(step: Step, state: State, inputs: State) -> State:
    """Outputs [T, ...] of ``step(state, inputs[t]) -> (state, outputs[t])`` for t = 0 .. T - 1.

    Time is axis 0 of every input and output.
    """
    path = []
    for now in zip(*inputs, strict=True):
        state, outputs = step(state, now)
        path.append(outputs)
    return tuple(torch.stack(output) for output in zip(*path, strict=True))
