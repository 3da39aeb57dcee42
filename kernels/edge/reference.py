"""Plain PyTorch form of the edge operators, which every faster implementation must reproduce.

Only ordinary differentiable operations live here, on whole [B, N, N, H] tensors; no dispatch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from causalmmm.kernels.edge.philox import edge_noise
from causalmmm.kernels.edge.records import Draw, FirstPass, SecondPass


def edge_mean(first: FirstPass) -> Tensor:
    """Mean of incoming edge states; see :func:`causalmmm.kernels.edge_mean`."""
    return mean_of_others(edge_states(first)).to(first.sender1.dtype)


def mean_of_others(states: Tensor) -> Tensor:
    """Mean over senders [B, N, H] of e, each node's own left out."""
    return _without_self(states).sum(1) / (states.shape[1] - 1)


def edge_sample(
    first: FirstPass, second: SecondPass, draw: Draw, states: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Sampled edge types, logits and divergence; see :func:`causalmmm.kernels.edge_sample`."""
    states = edge_states(first) if states is None else states
    hidden = _all_pairs(second.sender2, second.receiver2) + states @ second.w3.mT
    last = normalise(F.elu(F.linear(F.elu(hidden), second.w4, second.b4)))
    net_logits = last @ second.wo.mT + second.bo  # [B, N, N, K], before the prior
    logits, kl = posterior(net_logits.to(draw.log_prior.dtype), draw.log_prior)
    noise = None
    if draw.seed is not None:
        noise = edge_noise(draw.seed, draw.store, *logits.shape[2:], dtype=logits.dtype)
    return sample(logits, noise, draw.temperature, draw.hard), logits, kl


def edge_states(first: FirstPass) -> Tensor:
    """e [B, N, N, H] of the first pass; the diagonal holds finite values without meaning."""
    pairs = _all_pairs(first.sender1, first.receiver1)
    if first.features is not None and first.wf is not None:
        pairs = pairs + _without_self(first.features) @ first.wf.mT
    return normalise(F.elu(F.linear(F.elu(pairs), first.w2, first.b2)))


def posterior(net_logits: Tensor, log_prior: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [B, N, N, K], log prior plus the network's with forbidden types masked out; KL [B].

    Masked logits are -inf, so that softmax gives them exactly zero; every tensor that a gradient
    passes is finite, the diagonal and masked entries being replaced before the logarithms.
    """
    self_pair = _self_pair(net_logits)
    allowed = (log_prior > -torch.inf) | self_pair
    log_prior = torch.where(allowed & ~self_pair, log_prior, 0.0)
    logits = torch.where(self_pair, 0.0, net_logits + log_prior).masked_fill(~allowed, -torch.inf)
    log_q = torch.where(allowed, log_softmax(logits), 0.0)
    kl = torch.where(allowed, log_q.exp() * (log_q - log_prior), 0.0)
    return logits, _without_self(kl).sum((1, 2, 3))


def sample(logits: Tensor, noise: Tensor | None, temperature: Tensor, hard: bool) -> Tensor:
    """z [B, N, N, K]: Gumbel-Softmax sample, or posterior probabilities when there is no noise."""
    z = log_softmax(logits if noise is None else (logits + noise) / temperature).exp()
    if hard:
        chosen = F.one_hot(z.argmax(-1), z.shape[-1]).to(z.dtype)
        z = chosen + (z - z.detach())
    no_edge = F.one_hot(torch.zeros((), dtype=torch.int64, device=z.device), z.shape[-1])
    return torch.where(_self_pair(z), no_edge.to(z.dtype), z)


def log_softmax(x: Tensor) -> Tensor:
    """Over the last axis, moved to the front: torch is slow on rows of two or three numbers."""
    return x.movedim(-1, 0).log_softmax(0).movedim(0, -1)


def normalise(x: Tensor) -> Tensor:
    """LayerNorm over the last axis, without scale and shift."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-5)


def _all_pairs(sender: Tensor, receiver: Tensor) -> Tensor:
    return sender.unsqueeze(2) + receiver.unsqueeze(1)


def _self_pair(x: Tensor) -> Tensor:
    """[N, N, 1], true where sender and receiver are one node."""
    return torch.eye(x.shape[1], dtype=torch.bool, device=x.device).unsqueeze(-1)


def _without_self(x: Tensor) -> Tensor:
    return x.masked_fill(_self_pair(x), 0)
