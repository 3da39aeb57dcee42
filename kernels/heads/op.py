"""The heads of pairs as a PyTorch operator: registration, fake tensors, autograd.

Nothing is computed here.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from causalmmm.kernels.launching import launches_of
from causalmmm.kernels.memory import dense
from causalmmm.kernels.registration import operator

Results = tuple[Tensor, Tensor, Tensor, Tensor]


@operator("pair_heads")
def pair_heads(
    edges: Tensor,
    sender: Tensor,
    receiver: Tensor,
    log_prior: Tensor,
    evidence: Tensor,
    bias: Tensor,
    shift: Tensor,
    log_sd: Tensor,
) -> Results:
    """Log Bayes factors, informed log prior, and mean and log deviation of the effects of pairs.

        log_bf_ij   = evidence . edges_ij + bias                            0 where i = j
        informed_ij = log_prior_ij + (0, log_bf_ij)
        mean_ij     = sender_i . receiver_j + shift_0 . edges_ij            in [-3, 3]
        log_sd'_ij  = log_sd_ij + shift_1 . edges_ij                        in [-6, 1]

    Args:
        edges: features [B, N, N, F], sender first; the one argument without gradient.
        sender, receiver: [B, N, R].
        log_prior: [B, N, N, 2].
        evidence, bias: [1, F] and [1].
        shift: [2, F].
        log_sd: [N, N], that all stores share.

    Returns:
        [B, N, N], [B, N, N, 2], [B, N, N] and [B, N, N].
    """
    inputs = dense(edges, sender, receiver, log_prior, evidence, bias, shift, log_sd)
    outputs = _results(edges, log_prior)
    launches_of("heads").forward(inputs, outputs)
    return outputs


@operator("pair_heads_backward")
def _backward(
    grad_log_bf: Tensor | None,
    grad_informed: Tensor | None,
    grad_mean: Tensor | None,
    grad_log_sd: Tensor | None,
    edges: Tensor,
    sender: Tensor,
    receiver: Tensor,
    mean: Tensor,
    log_sd: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of sender and receiver, and one after the other those of evidence, bias, shift and
    the shared log deviations."""
    incoming = (grad_log_bf, grad_informed, grad_mean, grad_log_sd)
    grads = [None if grad is None else grad.contiguous() for grad in incoming]
    inputs = dense(edges, sender, receiver, mean, log_sd)
    gradients = sender.new_empty(sender.shape), receiver.new_empty(receiver.shape)
    return *gradients, launches_of("heads").backward(grads, inputs, gradients)


@pair_heads.register_fake
def _(
    edges: Tensor,
    sender: Tensor,
    receiver: Tensor,
    log_prior: Tensor,
    evidence: Tensor,
    bias: Tensor,
    shift: Tensor,
    log_sd: Tensor,
) -> Results:
    return _results(edges, log_prior)


@_backward.register_fake
def _(
    grad_log_bf: Tensor | None,
    grad_informed: Tensor | None,
    grad_mean: Tensor | None,
    grad_log_sd: Tensor | None,
    edges: Tensor,
    sender: Tensor,
    receiver: Tensor,
    mean: Tensor,
    log_sd: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    flat = edges.new_empty(sum(_parts(edges)))
    return sender.new_empty(sender.shape), receiver.new_empty(receiver.shape), flat


def _results(edges: Tensor, log_prior: Tensor) -> Results:
    pairs, empty = edges.shape[:3], edges.new_empty
    return empty(pairs), empty(log_prior.shape), empty(pairs), empty(pairs)


def _parts(edges: Tensor) -> tuple[int, int, int, int]:
    """Numbers of evidence, bias, shift and shared log deviations."""
    _, nodes, _, features = edges.shape
    return features, 1, 2 * features, nodes * nodes


def _remember(ctx: Any, inputs: tuple[Tensor, ...], output: Results) -> None:
    ctx.set_materialize_grads(False)
    edges, sender, receiver = inputs[:3]
    ctx.save_for_backward(edges, sender, receiver, *output[2:])


def _differentiate(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    edges = ctx.saved_tensors[0]
    sender, receiver, flat = _backward(*grads, *ctx.saved_tensors)
    evidence, bias, shift, log_sd = flat.split(_parts(edges))
    _, nodes, _, features = edges.shape
    log_sd, shift = log_sd.view(nodes, nodes), shift.view(2, features)
    return None, sender, receiver, grads[1], evidence.view(1, features), bias, shift, log_sd


pair_heads.register_autograd(_differentiate, setup_context=_remember)
