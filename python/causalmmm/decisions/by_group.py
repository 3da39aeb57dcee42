"""Sums over groups of stores, each group worked on by one thread, forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from causalmmm.decisions.in_order import MOST_THREADS, in_order

Part = Callable[[Tensor], Tensor]


def summed(parts: Sequence[Part], rows: Sequence[Tensor], money: Tensor) -> Tensor:
    """[D]: the sum over stores of what each part makes of its rows of money [S, C, W], [D, B].

    A plan of many stores is valued a hundred times in a search. Its operations are too small for
    threads to share one; where torch was imported first, so that waiting threads spin, two took six
    times as long as one beside another process.

    >>> rows = [torch.tensor([0, 2]), torch.tensor([1])]
    >>> parts = [lambda x: x.sum(-1).mT, lambda x: 10 * x.sum(-1).mT]
    >>> summed(parts, rows, torch.tensor([[[1.0]], [[2.0]], [[3.0]]]))
    tensor([24.])
    """
    total: Tensor = _Summed.apply(money, parts, rows)
    return total


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, money: Tensor, parts: Sequence[Part], rows: Sequence[Tensor]) -> Tensor:
        differentiable = ctx.needs_input_grad[0]

        def value(place: int) -> tuple[Tensor, Tensor]:
            chosen = money[rows[place]].detach().requires_grad_(differentiable)
            with torch.set_grad_enabled(differentiable):
                return chosen, parts[place](chosen).sum(1)

        found = list(in_order(value, range(len(parts)), MOST_THREADS))
        ctx.shape, ctx.rows, ctx.found = money.shape, rows, found if differentiable else []
        return torch.stack([total.detach() for _, total in found]).sum(0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        def slope(found: tuple[Tensor, Tensor]) -> Tensor:
            chosen, total = found
            (part,) = torch.autograd.grad(total, chosen, gradient)
            return part

        result = gradient.new_zeros(ctx.shape)
        slopes = in_order(slope, ctx.found, MOST_THREADS)
        for rows, part in zip(ctx.rows, slopes, strict=True):
            result[rows] = part
        return result, None, None
