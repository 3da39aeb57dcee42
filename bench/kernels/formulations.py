"""Ways of writing carry-over and saturation in PyTorch, against which the operator is measured.

All take x [R, T] and decay, slope, half_saturation [R, 1] and return the response [R, T].
"""

from __future__ import annotations

import torch
from torch import Tensor

from causalmmm.kernels.response import reference

CHUNK = 16


def loop_by_index(x: Tensor, decay: Tensor, slope: Tensor, half: Tensor) -> Tensor:
    """One step at a time, reading x[:, t]: what one writes first. Its backward pass adds up T
    gradients of the size of x."""
    state, states = torch.zeros_like(x[:, :1]), []
    for t in range(x.shape[-1]):
        state = decay * state + (1 - decay) * x[:, t : t + 1]
        states.append(state)
    return reference.hill(torch.cat(states, -1), slope, half)


def loop(x: Tensor, decay: Tensor, slope: Tensor, half: Tensor) -> Tensor:
    """One step at a time over x taken apart once: the loop at its best."""
    rest, keep = ((1 - decay) * x).unbind(-1), decay.squeeze(-1)
    state, states = torch.zeros_like(rest[0]), []
    for value in rest:
        state = keep * state + value
        states.append(state)
    return reference.hill(torch.stack(states, -1), slope, half)


def scan(x: Tensor, decay: Tensor, slope: Tensor, half: Tensor) -> Tensor:
    """In ceil(log2 T) steps: the reference operator."""
    return reference.adstock_hill(x, decay, slope, half)[0]


def chunked(x: Tensor, decay: Tensor, slope: Tensor, half: Tensor) -> Tensor:
    """A small matrix product inside chunks, a loop over the chunks."""
    rows, steps = x.shape
    age = torch.arange(CHUNK, device=x.device)
    lag = age[:, None] - age[None, :]
    weights = torch.where(lag >= 0, decay[..., None] ** lag.clamp(min=0), 0.0)
    inside = ((1 - decay) * x).reshape(rows, steps // CHUNK, CHUNK) @ weights.mT
    state, before = torch.zeros_like(x[:, 0]), []
    whole = decay.squeeze(-1) ** CHUNK
    for end in inside[..., -1].unbind(-1):
        before.append(state)
        state = whole * state + end
    carried = torch.stack(before, -1)[..., None] * (decay ** (age + 1))[:, None]
    return reference.hill((inside + carried).reshape(rows, steps), slope, half)


def loop_in_place(x: Tensor, decay: Tensor, slope: Tensor, half: Tensor) -> Tensor:
    """The loop with time outermost, writing over one buffer: forward only, positive stocks only."""
    keep = decay.squeeze(-1).contiguous()
    states = (x.mT * (1 - keep)).contiguous()
    for t in range(1, len(states)):
        states[t].addcmul_(states[t - 1], keep)
    log_half = half.squeeze(-1).log()
    return states.log_().sub_(log_half).mul_(slope.squeeze(-1)).sigmoid_().mT
