"""Gradient of the scores [B, N, N, K]: backwards through sampling, KL and the prior.

Shared by all paths: tensors of K numbers an edge are small beside those of H.
"""

from __future__ import annotations

import torch
from torch import Tensor

from causalmmm.kernels.edge import reference
from causalmmm.kernels.edge.noise import edge_noise


def draw(seed: Tensor | None, store: Tensor, like: Tensor) -> Tensor | None:
    """Gumbel noise for tensors shaped like [B, N, N, K], if there is a seed."""
    if seed is None:
        return None
    return edge_noise(seed, store, like.shape[1], like.shape[-1], dtype=like.dtype)


def backward(
    grads: tuple[Tensor, Tensor, Tensor],
    outputs: tuple[Tensor, Tensor],
    log_prior: Tensor,
    temperature: Tensor,
    seed: Tensor | None,
    store: Tensor,
    hard: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients of scores and of log prior, both [B, N, N, K], zero on self pairs.

    `grads` of z, logits and kl; `outputs` z and logits. The score of an edge type and its log prior
    enter the logits as a sum, and the prior once more through KL = sum q (log q - log prior).
    """
    grad_z, grad_logits, grad_kl = grads
    z, logits = outputs
    if hard:  # the gradient is that of the soft sample, which was not kept
        z = reference.sample(logits, draw(seed, store, logits), temperature, hard=False)
    slope = z * (grad_z - (z * grad_z).sum(-1, keepdim=True))
    slope = slope if seed is None else slope / temperature
    allowed = logits > -torch.inf
    log_q = reference.log_softmax(logits)
    q = log_q.exp()
    surprise = torch.where(allowed, log_q - log_prior, 0.0)
    weight = q * grad_kl.view(-1, 1, 1, 1)
    through_kl = weight * (surprise - (q * surprise).sum(-1, keepdim=True))
    total = (slope + grad_logits + through_kl).masked_fill_(~allowed, 0)
    self_pair = torch.eye(z.shape[1], dtype=torch.bool, device=z.device).unsqueeze(-1)
    total.masked_fill_(self_pair, 0)
    return total, total - weight.masked_fill_(self_pair, 0)
