"""Launches of the likelihood's kernels. Host code only."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from causalmmm.kernels import launching
from causalmmm.kernels.extension import padded
from causalmmm.kernels.likelihood.triton import nll


def forward(inputs: Sequence[Tensor], likelihoods: Tensor) -> None:
    """``likelihoods`` [B, N] from dense ``inputs``, as the extension takes them."""
    _launch(nll.response_nll_kernel, inputs, (), (likelihoods,))


def backward(grad: Tensor, inputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    """``gradients``, of which that of beta, [B, N, N, D], is each store's own."""
    residual = inputs[0]
    scratch = residual.new_empty(*residual.shape[:2], residual.shape[2] - 1)
    _launch(nll.response_nll_bwd_kernel, inputs, (grad,), (scratch, *gradients))


def _launch(
    kernel: object, inputs: Sequence[Tensor], before: Sequence[Tensor], after: Sequence[Tensor]
) -> None:
    *floats, context_mask, target_mask = inputs
    stores, nodes, components, rows = inputs[1].shape
    side, long = padded(nodes), padded(rows + 1)
    with launching.on_device(inputs[0]):
        launching.launch(
            kernel,
            (stores,),
            *(*before, *floats, context_mask.view(torch.uint8), target_mask.view(torch.uint8)),
            *(*after, nodes, rows + 1),
            P=inputs[7].shape[-1],
            D=components,
            Q=inputs[6].shape[-1],
            NP=side,
            TP=long,
            tile=side * long,
        )
