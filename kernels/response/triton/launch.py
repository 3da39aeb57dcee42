"""Launches of the delays' kernels. Host code only."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from causalmmm.kernels import launching
from causalmmm.kernels.extension import padded
from causalmmm.kernels.response.triton import delay


def forward(response: Tensor, delays: Sequence[int], later: Tensor) -> None:
    """``later`` from responses without gaps."""
    _launch(delay.delayed_kernel, response, delays, later, response.shape[-1], later.shape[-1])


def backward(grad: Tensor, delays: Sequence[int], earlier: Tensor) -> None:
    """``earlier``, the gradient of the responses."""
    _launch(delay.delayed_bwd_kernel, grad, delays, earlier, earlier.shape[-1], grad.shape[-1])


def _launch(
    kernel: object, x: Tensor, delays: Sequence[int], out: Tensor, steps: int, rows: int
) -> None:
    components, long = len(delays), padded(steps)
    with launching.on_device(x):
        launching.launch(
            kernel,
            (x.shape[0] * x.shape[1],),
            *(x, _on_device(tuple(delays), x.device), out, steps, rows),
            D=components,
            DP=padded(components),
            TP=long,
            tile=padded(components) * long,
        )


@cache
def _on_device(delays: tuple[int, ...], device: torch.device) -> Tensor:
    """Kept, as a captured graph must not copy from the host."""
    return torch.tensor(delays, dtype=torch.int32, device=device)
