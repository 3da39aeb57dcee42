"""Tensors in another dtype, all of them by one kernel and their gradients by another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def cast(tensors: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """The tensors, of one dtype, in ``dtype``; gradients come back in their own.

    An update casts some 13 small tensors, each way: one by one that would be as many kernels.

    >>> weight, bias = torch.ones(2, 2), torch.ones(2)
    >>> [x.dtype for x in cast([weight, bias], torch.bfloat16)]
    [torch.bfloat16, torch.bfloat16]
    """
    if all(tensor.dtype == dtype for tensor in tensors):
        return list(tensors)
    return list(_Cast.apply(dtype, *tensors))


class _Cast(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.dtype = tensors[0].dtype
        ctx.set_materialize_grads(False)
        return tuple(_copies(tensors, dtype))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        own = iter(_copies([grad for grad in grads if grad is not None], ctx.dtype))
        return None, *(None if grad is None else next(own) for grad in grads)


def _copies(tensors: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    copies = [torch.empty_like(x, dtype=dtype) for x in tensors]  # of equal strides: one kernel
    torch._foreach_copy_(copies, list(tensors))
    return copies
