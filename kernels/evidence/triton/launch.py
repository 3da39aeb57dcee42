"""Launches of the evidence kernels: scratch and sizes of tiles. Host code only."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from causalmmm.kernels import launching
from causalmmm.kernels.evidence.triton import mean_field as mean
from causalmmm.kernels.evidence.triton import regression, response, window
from causalmmm.kernels.extension import padded

_GRAM_ROWS = 32  # of a Gram matrix for each program


def window_statistics(
    inputs: Sequence[Tensor], outputs: Sequence[Tensor], lags: int, scales: Sequence[float]
) -> None:
    """``outputs`` of :func:`causalmmm.kernels.evidence.window_statistics` for dense ``inputs``."""
    (residual, *_, context_mask), (edges, nodes, spread, rows) = inputs, outputs
    stores, count, steps = residual.shape
    if lags >= steps:
        raise ValueError(f"a window must be longer than the lags, got {steps} and {lags}")
    ridge, clip, flat = scales
    series = *inputs[:3], context_mask.view(torch.uint8)
    scale, empty = spread.new_empty(spread.shape), residual.new_empty
    wide = count * lags
    gram, cross = empty(stores, wide, wide), empty(stores, wide, count)
    same, counts = empty(stores, count, count), empty(stores, 2, count)
    side, long, deep, width = padded(count), padded(steps), padded(lags), padded(wide)
    block = min(width, _GRAM_ROWS)
    with launching.on_device(residual):
        launching.launch(
            window.window_moments_kernel,
            (stores,),
            *(*series, nodes, spread, rows, scale, flat, clip, count, steps),
            L=lags,
            NP=side,
            TP=long,
            tile=side * long,
        )
        launching.launch(
            window.window_gram_kernel,
            (stores, -(-wide // block)),
            *(*series, scale, gram, cross, same, counts, clip, count, steps),
            L=lags,
            NP=side,
            TP=long,
            WP=width,
            BR=block,
            tile=block * width,
        )
        weight, blocks = _ridge_regression(gram, cross, None, ridge)
        launching.launch(
            window.window_features_kernel,
            (stores,),
            *(cross, same, counts, weight, blocks, edges, nodes, ridge, clip, count),
            L=lags,
            LP=deep,
            NP=side,
            tile=side**2 * deep,
        )


def response_terms(
    inputs: Sequence[Tensor], outputs: Sequence[Tensor], scales: Sequence[float]
) -> None:
    """``outputs`` of :func:`causalmmm.kernels.evidence.response_terms` for dense ``inputs``."""
    residual, ar_weights, responses, solver, basis, beta, log_noise, active, mask = inputs
    statistics, xty, xtx_diag, overlap, gram, cross, share = outputs
    stores, count, components, rows = responses.shape
    ridge, clip, _ = scales
    lags, terms, wide = ar_weights.shape[-1], basis.shape[-1], count * components
    side, deep, width = padded(count), padded(components), padded(wide)
    block = min(width, _GRAM_ROWS)
    size = gram.new_empty(stores, wide)
    calendar = {"Q": terms, "QP": padded(terms), "TP": padded(rows + 1)}
    with launching.on_device(residual):
        launching.launch(
            response.response_gram_kernel,
            (stores, -(-wide // block)),
            *(residual, ar_weights, responses, solver, basis, log_noise, active),
            *(mask.view(torch.uint8), gram, cross, share, size, clip, count, rows + 1),
            P=lags,
            PP=padded(lags),
            D=components,
            NP=side,
            WP=width,
            **calendar,
            BR=block,
            tile=block * width,
        )
        launching.launch(
            response.response_overlap_kernel,
            (stores * count,),
            *(gram, beta, log_noise, share, overlap, count),
            D=components,
            NP=side,
            tile=side**2,
        )
        weight, blocks = _ridge_regression(gram, cross, size, ridge)
        launching.launch(
            response.response_statistics_kernel,
            (stores,),
            *(gram, cross, size, weight, blocks, beta, log_noise, share),
            *(statistics, xty, xtx_diag, ridge, count),
            D=components,
            DP=deep,
            NP=side,
            tile=side**2 * deep,
        )


def mean_field(
    inputs: Sequence[Tensor], outputs: Sequence[Tensor], spread: float, sweeps: int
) -> None:
    """``outputs`` of :func:`causalmmm.kernels.evidence.coordinate_ascent` for dense ``inputs``."""
    xty = inputs[0]
    stores, count, _ = xty.shape
    side = padded(count)
    with launching.on_device(xty):
        launching.launch(
            mean.mean_field_kernel,
            (stores,),
            *(*inputs, *outputs, spread**-2, count, sweeps),
            NP=side,
            tile=side**2,
        )


def _ridge_regression(
    gram: Tensor, cross: Tensor, size: Tensor | None, ridge: float
) -> tuple[Tensor, Tensor]:
    """Coefficients [B, W, N] and the diagonal blocks [B, N, C, C] of their covariance."""
    stores, wide, count = cross.shape
    columns, width = wide // count, padded(wide)
    weight, blocks = cross.new_empty(cross.shape), cross.new_empty(stores, wide, columns)
    launching.launch(
        regression.ridge_regression_kernel,
        (stores,),
        *(gram, cross, cross if size is None else size, weight, blocks, ridge, count),
        C=columns,
        SIZED=size is not None,
        NP=padded(count),
        WP=width,
        tile=width**2,
    )
    return weight, blocks
