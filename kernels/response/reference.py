"""Plain PyTorch form of the response operator: what every faster path must reproduce.

Only ordinary differentiable tensor operations live here: no dispatch, no extension.
"""

from __future__ import annotations

import torch
from torch import Tensor


def adstock_hill(
    x: Tensor,
    decay: Tensor,
    slope: Tensor,
    half_saturation: Tensor,
    initial: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Carry-over followed by saturation; see :func:`causalmmm.kernels.adstock_hill`."""
    compute = compute_dtype(x)
    decay, slope, half_saturation = (p.to(compute) for p in (decay, slope, half_saturation))
    state = adstock(x.to(compute), decay, None if initial is None else initial.to(compute))
    response = hill(state, slope, half_saturation)
    rows = response.shape[:-1]
    return response.to(x.dtype), state[..., -1].expand(rows)


def adstock(x: Tensor, decay: Tensor, initial: Tensor | None = None) -> Tensor:
    """a_t = decay_t a_{t-1} + (1 - decay_t) x_t along the last axis, in ceil(log2 T) vector steps.

    Each step doubles the span of past that an entry has absorbed; `decay` [..., 1] or [..., T].
    """
    steps = x.shape[-1]
    value = (1 - decay) * x
    if initial is not None:
        first = value[..., :1] + decay[..., :1] * initial.unsqueeze(-1)
        later = value[..., 1:].expand(*first.shape[:-1], steps - 1)
        value = torch.cat([first, later], dim=-1)
    gate = decay
    span = 1
    while span < steps:
        tail = gate if gate.shape[-1] == 1 else gate[..., span:]
        value = torch.cat([value[..., :span], value[..., span:] + tail * value[..., :-span]], -1)
        if gate.shape[-1] == 1:
            gate = gate * gate
        else:
            gate = torch.cat([gate[..., :span], gate[..., span:] * gate[..., :-span]], -1)
        span *= 2
    return value


def hill(state: Tensor, slope: Tensor, half_saturation: Tensor) -> Tensor:
    """sign(a) |a|^slope / (|a|^slope + half_saturation^slope), as a sigmoid of logarithms.

    Amounts below the smallest normal number of the dtype count as zero: there the response and
    every gradient are zero, where the formula itself would send gradients to infinity.
    """
    size = state.abs()
    absent = size < torch.finfo(state.dtype).tiny
    log_ratio = torch.where(absent, 1.0, size).log() - half_saturation.log()
    return torch.where(absent, 0.0, state.sign() * torch.sigmoid(slope * log_ratio))


def compute_dtype(x: Tensor) -> torch.dtype:
    """float64 stays float64; everything narrower is computed in float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32
