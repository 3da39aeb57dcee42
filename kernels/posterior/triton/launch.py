"""Launches of the posterior kernels. Host code only."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from causalmmm.kernels import launching
from causalmmm.kernels.extension import padded
from causalmmm.kernels.posterior.triton import effects, prior

_PARTS = 64  # partial sums of a gradient, whatever the device: equal inputs give equal bits


def mixture_prior(inputs: Sequence[Tensor], outputs: Sequence[Tensor], bound: float) -> None:
    """Prior, KL and log weights of the prototypes for dense ``inputs``."""
    odds, mixture, factor, _ = inputs
    stores, nodes, _ = factor.shape
    side = padded(nodes)
    with launching.on_device(odds):
        launching.launch(
            prior.mixture_prior_kernel,
            (stores,),
            *(*inputs, *outputs, bound, nodes),
            PROTOTYPES=len(mixture),
            PP=padded(len(mixture)),
            NP=side,
            tile=side**2,
        )


def mixture_prior_backward(
    grads: Sequence[Tensor | None], log_share: Tensor, inputs: Sequence[Tensor], bound: float
) -> tuple[Tensor, Tensor]:
    """Gradients of the prototypes' log odds and of their mixture."""
    (grad_prior, grad_kl), (odds, mixture, factor, fixed) = grads, inputs
    stores, nodes, _ = factor.shape
    side, prototypes, parts = padded(nodes), len(mixture), min(_PARTS, stores)
    d_score, d_mixture = factor.new_empty(2, stores, prototypes)
    d_odds = odds.new_empty(parts, *odds.shape)
    from_prior = grad_prior is not None
    with launching.on_device(odds):
        launching.launch(
            prior.mixture_score_bwd_kernel,
            (stores,),
            *(odds if grad is None else grad for grad in grads),
            *(log_share, odds, mixture, fixed, d_score, d_mixture, bound, nodes),
            PROTOTYPES=prototypes,
            PP=padded(prototypes),
            NP=side,
            FROM_PRIOR=from_prior,
            FROM_KL=grad_kl is not None,
            tile=side**2,
        )
        launching.launch(
            prior.mixture_odds_bwd_kernel,
            (parts, prototypes),
            *(odds if grad_prior is None else grad_prior, d_score, log_share, odds, factor),
            *(fixed, d_odds, bound, stores, nodes, parts),
            PROTOTYPES=prototypes,
            NP=side,
            FROM_PRIOR=from_prior,
            tile=side**2,
        )
    return d_odds.sum(0), d_mixture.sum(0)


def sampled_effects(inputs: Sequence[Tensor], outputs: Sequence[Tensor], prior_sd: float) -> None:
    """Effects and their KL for dense ``inputs``: means, log deviations, noise and logits."""
    stores, nodes, _ = inputs[0].shape
    side = padded(nodes)
    with launching.on_device(inputs[0]):
        launching.launch(
            effects.sampled_effects_kernel,
            (stores,),
            *(*inputs, *outputs, prior_sd, nodes),
            NP=side,
            tile=side**2,
        )


def sampled_effects_backward(
    inputs: Sequence[Tensor],
    grads: Sequence[Tensor | None],
    gradients: Sequence[Tensor],
    prior_sd: float,
) -> None:
    """``gradients`` of means, log deviations and logits."""
    mean = inputs[0]
    stores, nodes, _ = mean.shape
    side = padded(nodes)
    with launching.on_device(mean):
        launching.launch(
            effects.sampled_effects_bwd_kernel,
            (stores,),
            *(*inputs, *(mean if grad is None else grad for grad in grads), *gradients),
            *(prior_sd, nodes),
            NP=side,
            FROM_EFFECT=grads[0] is not None,
            FROM_KL=grads[1] is not None,
            tile=side**2,
        )
