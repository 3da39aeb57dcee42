"""Launches of the calendar's kernels. Host code only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from causalmmm.kernels import launching
from causalmmm.kernels.calendar.triton import residuals
from causalmmm.kernels.extension import padded


def forward(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
    """``outputs`` of :func:`causalmmm.kernels.calendar.calendar_residuals` for dense ``inputs``."""
    _launch(residuals.calendar_residuals_kernel, inputs, outputs, {})


def backward(
    inputs: Sequence[Tensor],
    kept: Sequence[Tensor],
    grads: Sequence[Tensor | None],
    gradients: Sequence[Tensor],
) -> None:
    """``gradients`` [B, N, Q] and [B, Q] of the parameters, store by store."""
    names = ("RESIDUAL", "COEFFICIENTS", "SOLVER", "SPREAD")
    present = {f"FROM_{n}": grad is not None for n, grad in zip(names, grads, strict=True)}
    placeholders = (*kept[:1], *kept[:2], kept[2])  # of the right dtypes, and not read
    incoming = [p if g is None else g for g, p in zip(grads, placeholders, strict=True)]
    after = (*kept, *incoming, *gradients)
    _launch(residuals.calendar_residuals_bwd_kernel, inputs, after, present)


def _launch(
    kernel: object, inputs: Sequence[Tensor], after: Sequence[Tensor], flags: Mapping[str, int]
) -> None:
    x, basis, *masks, shared, log_ridge = inputs
    stores, nodes, steps = x.shape
    terms = basis.shape[-1]
    side, long, deep = padded(nodes), padded(steps), padded(terms)
    with launching.on_device(x):
        launching.launch(
            kernel,
            (stores,),
            *(x, basis, *(mask.view(torch.uint8) for mask in masks), shared, log_ridge),
            *(*after, nodes, steps),
            Q=terms,
            QP=deep,
            NP=side,
            TP=long,
            **flags,
            tile=max(side, 2 * deep) * long,
        )
