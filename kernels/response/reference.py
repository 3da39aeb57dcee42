"""Plain PyTorch form of the response operator: what every faster path must reproduce.

Only ordinary differentiable tensor operations live here: no dispatch, no extension.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

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


def delayed(response: Tensor, delays: Sequence[int], rows: int) -> Tensor:
    """See :func:`causalmmm.kernels.response.delayed`."""
    if response.requires_grad:
        later: Tensor = _Delay.apply(response, delays, rows)
        return later
    return _delayed(response, delays, rows)


def _delayed(response: Tensor, delays: Sequence[int], rows: int) -> Tensor:
    shifted = []
    for begin, end, delay in _blocks(delays):
        delay = min(delay, rows)
        block = response[:, :, begin:end, : rows - delay]
        if delay:
            padding = response[:, :, begin:end, :1].expand(*block.shape[:-1], delay)
            block = torch.cat([padding, block], dim=-1)
        shifted.append(block)
    return torch.cat(shifted, dim=2)


def _blocks(delays: Sequence[int]) -> list[tuple[int, int, int]]:
    """First component, end and delay of components of equal delay, which shift together."""
    begin, blocks = 0, []
    for delay, same in groupby(delays):
        end = begin + len(list(same))
        blocks.append((begin, end, delay))
        begin = end
    return blocks


class _Delay(torch.autograd.Function):
    """:func:`_delayed` with a backward that writes every gradient once.

    That of the slices would fill and add a tensor of all responses for each of them.
    """

    @staticmethod
    def forward(ctx: Any, response: Tensor, delays: Sequence[int], rows: int) -> Tensor:
        ctx.delays, ctx.steps = delays, response.shape[-1]
        return _delayed(response, delays, rows)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (later,) = grad_outputs
        rows = later.shape[-1]
        grad = later.new_empty(*later.shape[:-1], ctx.steps)
        for begin, end, delay in _blocks(ctx.delays):
            delay = min(delay, rows)
            come, gone = later[:, :, begin:end], grad[:, :, begin:end]
            gone[..., : rows - delay] = come[..., delay:]
            gone[..., rows - delay :] = 0
            if delay:
                gone[..., 0] += come[..., :delay].sum(-1)
        return grad, None, None
