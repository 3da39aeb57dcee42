"""Responses later by their delays, as a PyTorch operator: registration, fake tensors, autograd."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from causalmmm import _C
from causalmmm.kernels.extension import by_triton
from causalmmm.kernels.launching import launches_of
from causalmmm.kernels.registration import operator


@operator("delayed")
def delayed(response: Tensor, delays: Sequence[int], rows: int) -> Tensor:
    """The first rows [B, N, D, rows] of responses [B, N, D, T] with component d later by
    ``delays[d]`` steps; before its first value a component has that value. float32."""
    response = response.contiguous()
    later = _result(response, rows)
    if by_triton(response):
        if rows > response.shape[-1]:
            raise ValueError(f"at most all rows can be kept, got {rows} of {response.shape[-1]}")
        launches_of("response").forward(response, delays, later)
        return later
    _C.delay_forward(
        *(_sizes(response.shape, rows), list(delays)),
        *(response.data_ptr(), later.data_ptr(), torch.get_num_threads()),
    )
    return later


@operator("delayed_backward")
def backward(grad: Tensor, delays: Sequence[int], steps: int) -> Tensor:
    """The gradient [B, N, D, steps] of the responses."""
    grad = grad.contiguous()
    earlier = _result(grad, steps)
    if by_triton(grad):
        launches_of("response").backward(grad, delays, earlier)
        return earlier
    _C.delay_backward(
        *(_sizes(earlier.shape, grad.shape[-1]), list(delays)),
        *(grad.data_ptr(), earlier.data_ptr(), torch.get_num_threads()),
    )
    return earlier


@delayed.register_fake
def _(response: Tensor, delays: Sequence[int], rows: int) -> Tensor:
    return _result(response, rows)


@backward.register_fake
def _(grad: Tensor, delays: Sequence[int], steps: int) -> Tensor:
    return _result(grad, steps)


def _result(response: Tensor, rows: int) -> Tensor:
    return response.new_empty(*response.shape[:-1], rows)


def _sizes(shape: torch.Size, rows: int) -> tuple[int, int, int]:
    return shape[0] * shape[1], shape[-1], rows


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    response, ctx.delays, _ = inputs
    ctx.steps = response.shape[-1]


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    return backward(grad, ctx.delays, ctx.steps), None, None


delayed.register_autograd(_differentiate, setup_context=_remember)
