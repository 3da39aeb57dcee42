"""Gradient of the logits [B, N, N, K]: backwards through sample, KL and prior, in PyTorch.

Part of the `chunked` path: tensors of K numbers an edge are small beside those of H. No layer of
the network here.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from causalmmm.kernels.edge import reference
from causalmmm.kernels.edge.philox import edge_noise
from causalmmm.kernels.edge.records import Draw

CHUNK_EDGES = 1 << 16  # at a time, and for each thread of a CPU


def noise(draw: Draw, like: Tensor) -> Tensor | None:
    """Gumbel noise for tensors shaped like [B, N, N, K], if there is a seed."""
    if draw.seed is None:
        return None
    return edge_noise(draw.seed, draw.store, like.shape[1], like.shape[-1], dtype=like.dtype)


def backward(
    grads: tuple[Tensor | None, Tensor | None, Tensor | None],
    outputs: tuple[Tensor, Tensor],
    draw: Draw,
    prior_grad: bool,
) -> tuple[Tensor, Tensor]:
    """Gradient of the network's logits, and that of `log_prior` in its shape (empty if not needed).

    `grads` are those of z, logits and kl, None for zero; `outputs` are z and logits.
    """
    (z, logits), prior = outputs, draw.log_prior
    grad_z, grad_logits = (z.new_zeros(()).expand_as(z) if x is None else x for x in grads[:2])
    grad_kl = z.new_zeros(()).expand(len(z)) if grads[2] is None else grads[2]
    d_logits = torch.empty_like(z)
    d_prior = torch.zeros_like(prior) if prior_grad else prior.new_empty(0)
    for chunk in chunks(d_logits):
        d_logits[chunk], d_prior_chunk = _backward(
            (grad_z[chunk], grad_logits[chunk], grad_kl[chunk]),
            (z[chunk], logits[chunk]),
            draw.of(chunk),
        )
        if prior_grad and prior.ndim == 4:
            d_prior[chunk] = d_prior_chunk
        elif prior_grad:
            d_prior += d_prior_chunk.sum(0)
    return d_logits, d_prior


def chunks(x: Tensor) -> Iterator[slice]:
    """Slices of the stores of x [B, N, N, K], each small enough to work on at once."""
    edges = CHUNK_EDGES * (torch.get_num_threads() if x.device.type == "cpu" else 64)
    size = max(1, edges // x.shape[1] ** 2)
    for start in range(0, x.shape[0], size):
        yield slice(start, min(start + size, x.shape[0]))


def _backward(
    grads: tuple[Tensor, Tensor, Tensor], outputs: tuple[Tensor, Tensor], draw: Draw
) -> tuple[Tensor, Tensor]:
    """Gradients of the network's logits and of log prior, both [B, N, N, K], zero on self pairs.

    The two enter the posterior's logits as a sum, and the prior once more through
    KL = sum q (log q - log prior).
    """
    grad_z, grad_logits, grad_kl = grads
    z, logits = outputs
    if draw.hard:  # the gradient is that of the soft sample, which was not kept
        z = reference.sample(logits, noise(draw, logits), draw.temperature, hard=False)
    through_z = z * (grad_z - (z * grad_z).sum(-1, keepdim=True))  # [B, N, N, K]
    through_z = through_z if draw.seed is None else through_z / draw.temperature
    allowed = logits > -torch.inf
    log_q = reference.log_softmax(logits)
    q = log_q.exp()
    log_ratio = torch.where(
        allowed, log_q - draw.log_prior, 0.0
    )  # [B, N, N, K], zero where forbidden
    q_grad_kl = q * grad_kl.view(-1, 1, 1, 1)
    through_kl = q_grad_kl * (log_ratio - (q * log_ratio).sum(-1, keepdim=True))
    d_logits = (through_z + grad_logits + through_kl).masked_fill_(~allowed, 0)
    self_pair = torch.eye(z.shape[1], dtype=torch.bool, device=z.device).unsqueeze(-1)
    d_logits.masked_fill_(self_pair, 0)
    return d_logits, d_logits - q_grad_kl.masked_fill_(self_pair, 0)
