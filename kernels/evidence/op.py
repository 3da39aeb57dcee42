"""The compiled evidence operators as PyTorch operators: registration and fake tensors.

Nothing is computed here. The extension works on addresses; this module owns the memory behind them.
Arguments and results are those of the plain forms in ``engine.evidence``; ``scales`` are the ridge,
the bound of standardised values and the spread below which a series counts as constant.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from causalmmm import _C
from causalmmm.kernels.extension import by_triton
from causalmmm.kernels.launching import launches_of
from causalmmm.kernels.memory import addresses, dense
from causalmmm.kernels.registration import operator

Statistics = tuple[Tensor, Tensor, Tensor, Tensor]
Terms = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


@operator("window_statistics")
def window_statistics(
    residual: Tensor,
    received: Tensor,
    active: Tensor,
    context_mask: Tensor,
    lags: int,
    scales: Sequence[float],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Edge features [B, N, N, 2 lags + 5], node features [B, N, lags + 5], spread and rows [B, N]
    from residuals and ``active`` [B, N, T] and the mask [B, T]."""
    outputs = _statistics(residual, lags)
    inputs = dense(residual, received, active, context_mask)
    if by_triton(residual):
        launches_of("evidence").window_statistics(inputs, outputs, lags, scales)
        return outputs
    sizes = (*residual.shape, lags)
    threads = torch.get_num_threads()
    _C.window_statistics(sizes, tuple(scales), addresses(inputs), addresses(outputs), threads)
    return outputs


@window_statistics.register_fake
def _(
    residual: Tensor,
    received: Tensor,
    active: Tensor,
    context_mask: Tensor,
    lags: int,
    scales: Sequence[float],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _statistics(residual, lags)


def _statistics(residual: Tensor, lags: int) -> Statistics:
    stores, nodes, _ = residual.shape
    empty = residual.new_empty
    edges = empty(stores, nodes, nodes, 2 * lags + 5)
    return edges, empty(stores, nodes, lags + 5), empty(stores, nodes), empty(stores, nodes)


@operator("response_terms")
def response_terms(
    residual: Tensor,
    ar_weights: Tensor,
    responses: Tensor,
    solver: Tensor,
    basis: Tensor,
    beta: Tensor,
    log_noise: Tensor,
    active: Tensor,
    context_mask: Tensor,
    scales: Sequence[float],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The fields of ``ResponseTerms``, in their order, from residuals and ``active`` [B, N, T],
    weights [N, P], responses [B, N, D, T - 1], solver [B, Q, T], basis [B, T, Q], beta [N, N, D],
    log noise [B, N] and the mask [B, T]."""
    outputs = _terms(responses)
    inputs = dense(
        *(residual, ar_weights, responses, solver, basis),
        *(beta, log_noise, active, context_mask),
    )
    if by_triton(residual):
        launches_of("evidence").response_terms(inputs, outputs, scales)
        return outputs
    stores, nodes, components, steps = responses.shape
    sizes = (stores, nodes, components, steps + 1, basis.shape[-1], ar_weights.shape[-1])
    threads = torch.get_num_threads()
    _C.response_terms(sizes, tuple(scales), addresses(inputs), addresses(outputs), threads)
    return outputs


@response_terms.register_fake
def _(
    residual: Tensor,
    ar_weights: Tensor,
    responses: Tensor,
    solver: Tensor,
    basis: Tensor,
    beta: Tensor,
    log_noise: Tensor,
    active: Tensor,
    context_mask: Tensor,
    scales: Sequence[float],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _terms(responses)


def _terms(responses: Tensor) -> Terms:
    stores, nodes, components, _ = responses.shape
    wide = nodes * components
    empty = responses.new_empty
    return (
        empty(stores, nodes, nodes, _C.RESPONSE_STATISTICS),
        empty(stores, nodes, nodes),
        empty(stores, nodes, nodes),
        empty(stores, nodes, nodes, nodes),
        empty(stores, wide, wide),
        empty(stores, wide, nodes),
        empty(stores, nodes),
    )


@operator("coordinate_ascent")
def coordinate_ascent(
    xty: Tensor, overlap: Tensor, log_odds: Tensor, spread: float, sweeps: int
) -> tuple[Tensor, Tensor]:
    """Log Bayes factors and posterior means [B, N, N] from xty and log odds [B, N, N] and overlap
    [B, N, N, N]."""
    outputs = xty.new_empty(xty.shape), xty.new_empty(xty.shape)
    inputs = dense(xty, overlap, log_odds)
    if by_triton(xty):
        launches_of("evidence").mean_field(inputs, outputs, spread, sweeps)
        return outputs
    sizes = (*xty.shape[:2], sweeps)
    threads = torch.get_num_threads()
    _C.mean_field(sizes, spread, addresses(inputs), addresses(outputs), threads)
    return outputs


@coordinate_ascent.register_fake
def _(
    xty: Tensor, overlap: Tensor, log_odds: Tensor, spread: float, sweeps: int
) -> tuple[Tensor, Tensor]:
    return xty.new_empty(xty.shape), xty.new_empty(xty.shape)
