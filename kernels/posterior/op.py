"""The compiled posterior as PyTorch operators: registration, fake tensors, autograd.

Nothing is computed here. The extension works on addresses; this module owns the memory behind them.
Formulas: ``csrc/posterior/posterior.h``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from causalmmm import _C
from causalmmm.kernels.extension import by_triton
from causalmmm.kernels.launching import launches_of
from causalmmm.kernels.memory import addresses, dense
from causalmmm.kernels.registration import operator


@operator("mixture_prior")
def _mixture_prior(
    odds: Tensor, mixture: Tensor, factor: Tensor, fixed_prior: Tensor, bound: float
) -> tuple[Tensor, Tensor, Tensor]:
    inputs = dense(odds, mixture, factor, fixed_prior)
    outputs = _prior_outputs(mixture, factor)
    if by_triton(odds):
        launches_of("posterior").mixture_prior(inputs, outputs, bound)
        return outputs
    _C.prior_forward(
        *(_prior_sizes(odds, factor), bound, addresses(inputs)),
        *(addresses(outputs), torch.get_num_threads()),
    )
    return outputs


def mixture_prior(
    odds: Tensor, mixture: Tensor, factor: Tensor, fixed_prior: Tensor, bound: float
) -> tuple[Tensor, Tensor]:
    """Log prior [B, N, N, 2] of every edge, and KL [B] of the prototypes' weights.

    From log odds of P prototypes [P, N, N], which count up to ``bound``, logits of their mixture
    [P], log Bayes factors [B, N, N] and a log prior [N, N, 2] that is taken where it is infinite.
    The first two have gradients.
    """
    log_prior, kl, _ = _mixture_prior(odds, mixture, factor, fixed_prior, bound)
    return log_prior, kl


@operator("mixture_prior_backward")
def _mixture_prior_backward(
    grad_log_prior: Tensor | None,
    grad_kl: Tensor | None,
    log_share: Tensor,
    odds: Tensor,
    mixture: Tensor,
    factor: Tensor,
    fixed_prior: Tensor,
    bound: float,
) -> tuple[Tensor, Tensor]:
    inputs = dense(odds, mixture, factor, fixed_prior)
    incoming = [None if grad is None else grad.contiguous() for grad in (grad_log_prior, grad_kl)]
    if by_triton(odds):
        gradients = launches_of("posterior").mixture_prior_backward(
            incoming, log_share, inputs, bound
        )
        return gradients[0], gradients[1]
    runs = -(-len(factor) // _C.POSTERIOR_RUN)
    sums = odds.new_empty(runs, *odds.shape), mixture.new_empty(runs, *mixture.shape)
    _C.prior_backward(
        *(_prior_sizes(odds, factor), bound, addresses(inputs), log_share.data_ptr()),
        *(addresses(incoming), addresses(sums), torch.get_num_threads()),
    )
    return sums[0].sum(0), sums[1].sum(0)


@operator("sampled_effects")
def sampled_effects(
    mean: Tensor, log_sd: Tensor, logits: Tensor, noise: Tensor, prior_sd: float
) -> tuple[Tensor, Tensor]:
    """Sampled log effects [B, N, N], and the KL [B] of their posterior to N(0, prior_sd^2), each
    pair's weighted by the probability of its edge.

    From means and log standard deviations [B, N, N], the edges' logits [B, N, N, 2] and standard
    normal ``noise`` [B, N, N]. The first three have gradients.
    """
    inputs = dense(mean, log_sd, noise, logits)
    outputs = mean.new_empty(mean.shape), mean.new_empty(len(mean))
    if by_triton(mean):
        launches_of("posterior").sampled_effects(inputs, outputs, prior_sd)
        return outputs
    _C.effects_forward(
        *(tuple(mean.shape[:2]), prior_sd, addresses(inputs)),
        *(addresses(outputs), torch.get_num_threads()),
    )
    return outputs


@operator("sampled_effects_backward")
def _sampled_effects_backward(
    grad_effect: Tensor | None,
    grad_kl: Tensor | None,
    mean: Tensor,
    log_sd: Tensor,
    logits: Tensor,
    noise: Tensor,
    prior_sd: float,
) -> tuple[Tensor, Tensor, Tensor]:
    inputs = dense(mean, log_sd, noise, logits)
    incoming = [None if grad is None else grad.contiguous() for grad in (grad_effect, grad_kl)]
    gradients = _empty(mean, log_sd, logits)
    if by_triton(mean):
        launches_of("posterior").sampled_effects_backward(inputs, incoming, gradients, prior_sd)
        return gradients
    _C.effects_backward(
        *(tuple(mean.shape[:2]), prior_sd, addresses(inputs), addresses(incoming)),
        *(addresses(gradients), torch.get_num_threads()),
    )
    return gradients


@_mixture_prior.register_fake
def _(
    odds: Tensor, mixture: Tensor, factor: Tensor, fixed_prior: Tensor, bound: float
) -> tuple[Tensor, Tensor, Tensor]:
    return _prior_outputs(mixture, factor)


@_mixture_prior_backward.register_fake
def _(
    grad_log_prior: Tensor | None,
    grad_kl: Tensor | None,
    log_share: Tensor,
    odds: Tensor,
    mixture: Tensor,
    factor: Tensor,
    fixed_prior: Tensor,
    bound: float,
) -> tuple[Tensor, Tensor]:
    return odds.new_empty(odds.shape), mixture.new_empty(mixture.shape)


@sampled_effects.register_fake
def _(
    mean: Tensor, log_sd: Tensor, logits: Tensor, noise: Tensor, prior_sd: float
) -> tuple[Tensor, Tensor]:
    return mean.new_empty(mean.shape), mean.new_empty(len(mean))


@_sampled_effects_backward.register_fake
def _(
    grad_effect: Tensor | None,
    grad_kl: Tensor | None,
    mean: Tensor,
    log_sd: Tensor,
    logits: Tensor,
    noise: Tensor,
    prior_sd: float,
) -> tuple[Tensor, Tensor, Tensor]:
    return _empty(mean, log_sd, logits)


def _empty(mean: Tensor, log_sd: Tensor, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Uninitialised memory of these shapes, without gaps."""
    return (
        mean.new_empty(mean.shape),
        log_sd.new_empty(log_sd.shape),
        logits.new_empty(logits.shape),
    )


def _prior_sizes(odds: Tensor, factor: Tensor) -> tuple[int, int, int]:
    return len(factor), factor.shape[1], len(odds)


def _prior_outputs(mixture: Tensor, factor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    stores, empty = len(factor), factor.new_empty
    return empty(*factor.shape, 2), empty(stores), empty(stores, len(mixture))


def _remember_prior(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.bound = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(output[2], *tensors)


def _differentiate_prior(
    ctx: Any, grad_log_prior: Tensor | None, grad_kl: Tensor | None, _: Tensor | None
) -> tuple[Tensor | None, ...]:
    gradients = _mixture_prior_backward(grad_log_prior, grad_kl, *ctx.saved_tensors, ctx.bound)
    return *gradients, None, None, None


def _remember_effects(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.prior_sd = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors)


def _differentiate_effects(
    ctx: Any, grad_effect: Tensor | None, grad_kl: Tensor | None
) -> tuple[Tensor | None, ...]:
    gradients = _sampled_effects_backward(grad_effect, grad_kl, *ctx.saved_tensors, ctx.prior_sd)
    return *gradients, None, None


_mixture_prior.register_autograd(_differentiate_prior, setup_context=_remember_prior)
sampled_effects.register_autograd(_differentiate_effects, setup_context=_remember_effects)
