"""Regressions whose prior variances evidence chooses, as PyTorch operators; float64, on a CPU.

Nothing is computed here. ``scales`` are the least and most variance, the least noise and the least
gamma, then what the operator names.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from causalmmm import _C
from causalmmm.kernels.memory import addresses, dense
from causalmmm.kernels.registration import operator


@operator("lag_relevance")
def lag_relevance(
    series: Tensor,
    used: Tensor,
    outcome: Tensor,
    freedom: Tensor,
    lags: int,
    rounds: int,
    scales: Sequence[float],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Prior variances [B, N, N L], noise [B, N], and log Bayes factors without signs and z scores
    [B, N, N], receiver first, from series [B, N, T], used rows and outcomes [B, N, T - L] and
    degrees of freedom [B, N]. ``scales`` end with the first variance of an autoregressive
    coefficient and the most precision of the data over the prior's."""
    outputs = _lag_results(series, lags)
    inputs = dense(series, used, outcome, freedom)
    sizes = (*series.shape, lags, rounds)
    threads = torch.get_num_threads()
    _C.lag_relevance(sizes, tuple(scales), addresses(inputs), addresses(outputs), threads)
    return outputs


@lag_relevance.register_fake
def _(
    series: Tensor,
    used: Tensor,
    outcome: Tensor,
    freedom: Tensor,
    lags: int,
    rounds: int,
    scales: Sequence[float],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _lag_results(series, lags)


def _lag_results(series: Tensor, lags: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    stores, nodes, _ = series.shape
    empty = series.new_empty
    pairs = (stores, nodes, nodes)
    return empty(stores, nodes, nodes * lags), empty(stores, nodes), empty(pairs), empty(pairs)


@operator("bank_relevance")
def bank_relevance(
    bank: Tensor,
    received: Tensor,
    used: Tensor,
    now: Tensor,
    receivers: Sequence[int],
    rounds: int,
    scales: Sequence[float],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log Bayes factors without signs, roots of shares of variance and z scores [B, R, N], and
    coefficients [B, R, N D + P], from responses [B, T, N, D], series [B, N, T], used rows
    [B, N, T - P] and which senders act within the step, bool [R, N]. ``scales`` end with the
    calendar's share of the degrees of freedom."""
    outputs = _bank_results(bank, used, len(receivers))
    inputs = dense(bank, received, used, now)
    stores, steps, nodes, components = bank.shape
    sizes = (stores, nodes, components, steps, steps - used.shape[-1], rounds)
    threads = torch.get_num_threads()
    places = addresses(inputs), addresses(outputs)
    _C.bank_relevance(sizes, tuple(scales), list(receivers), *places, threads)
    return outputs


@bank_relevance.register_fake
def _(
    bank: Tensor,
    received: Tensor,
    used: Tensor,
    now: Tensor,
    receivers: Sequence[int],
    rounds: int,
    scales: Sequence[float],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _bank_results(bank, used, len(receivers))


def _bank_results(bank: Tensor, used: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    stores, steps, nodes, components = bank.shape
    pairs = (stores, count, nodes)
    width = nodes * components + steps - used.shape[-1]
    empty = bank.new_empty
    return empty(pairs), empty(pairs), empty(pairs), empty(stores, count, width)
