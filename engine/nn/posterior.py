"""Records of what the model infers about a window, and functions of the posterior over graphs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from causalmmm.engine.batches.batch import Batch
from causalmmm.engine.evidence.response import ResponseEvidence
from causalmmm.engine.nn.baseline import Projection
from causalmmm.kernels import EdgeSample

_MAX_PRIOR_LOG_ODDS = 20.0


class EdgePrior(NamedTuple):
    """Prior of every store's graph, and the KL of the prototype weights that it rests on.

    log_prior  [B, N, N, 2], log probabilities of "none" and "causal".
    kl         [B].
    """

    log_prior: Tensor
    kl: Tensor

    @property
    def log_odds(self) -> Tensor:
        """[B, N, N]: log odds of "causal", bounded; without gradient."""
        return log_odds(self.log_prior.detach())


@dataclass
class Posterior:
    """Posterior of graphs and effects, inferred by the encoder.

    edges          ``EdgeSample``: z and logits [B, N, N, 2], kl [B].
    effect_mean    [B, N, N], posterior mean of a store's log effect relative to the shared one.
    effect_log_sd  [B, N, N], log of its posterior standard deviation.
    state          [B, N, H], node states after the first pass.
    """

    edges: EdgeSample
    effect_mean: Tensor
    effect_log_sd: Tensor
    state: Tensor


@dataclass
class Inference:
    """Posterior and intermediate quantities inferred from one window per store (B stores).

    projection    regression of the calendar on the context rows.
    coefficients  [B, N, Q], baseline coefficients.
    residual      [B, N, T], series less baseline; zero on padding and where a series is not active.
    responses     [B, N, D, T - 1], responses of all senders, from zero; ``ahead`` centres
                  them.
    log_noise     [B, N], log standard deviation of one-step errors, in scaled units.
    ar_weights    [B, N, P], autoregressive weights, lag 1 first.
    evidence      of every edge under the decoder; None for the raw-window encoder.
    store_log_bf  [B, N, N], log Bayes factors of every edge from each store alone; None unless
                  ``structure`` is "pretrained" or "evidence".
    active        [B, N, T], 1 where a series is explained and 0 where a channel spends nothing.
    """

    projection: Projection
    coefficients: Tensor
    residual: Tensor
    responses: Tensor
    posterior: Posterior
    log_noise: Tensor
    ar_weights: Tensor
    evidence: ResponseEvidence | None
    store_log_bf: Tensor | None
    active: Tensor

    @property
    def ahead(self) -> Projection:
        """The regression of responses, which act one step later."""
        return self.projection.ahead()


def edge_gates(edges: EdgeSample) -> Tensor:
    """Sampled gates [B, N, N] of the edges; exactly zero where an edge is excluded."""
    return edges.z[..., 1]


def edge_probability(logits: Tensor) -> Tensor:
    """[...]: probability of "causal" from logits [..., 2]; far cheaper than a softmax over two."""
    none, causal = logits.unbind(-1)
    return torch.sigmoid(causal - none)


def causal_probability(edges: EdgeSample) -> Tensor:
    """Posterior probabilities [B, N, N] of the edges; the diagonal is zero."""
    probability = edge_probability(edges.logits)
    return probability - torch.diag_embed(probability.diagonal(dim1=1, dim2=2))


def log_odds(log_prior: Tensor) -> Tensor:
    """[...]: log odds of "causal" from log probabilities [..., 2], bounded."""
    difference = log_prior[..., 1] - log_prior[..., 0]
    return difference.clamp(-_MAX_PRIOR_LOG_ODDS, _MAX_PRIOR_LOG_ODDS)


def edge_log_prior(probability: Tensor) -> Tensor:
    """Log prior [N, N, 2] from edge probabilities [N, N]; 0 forbids an edge and 1 requires it."""
    return torch.stack([torch.log1p(-probability), probability.log()], dim=-1)


def fixed_graph(nodes: int, *, present: bool) -> Tensor:
    """Log prior [N, N, 2] under which every edge is present, or none is."""
    return edge_log_prior(torch.full((nodes, nodes), float(present)))


def effect_noise(batch: Batch, seed: int, stores: int | None = None) -> Tensor:
    """Standard normal numbers [B, N, N] for sampling a batch's effects, on its device; those of
    ``stores`` stores where the batch is a part of a larger one."""
    stores, nodes = stores or batch.x.shape[0], batch.x.shape[1]
    generator = torch.Generator(device=batch.x.device).manual_seed(seed)
    return torch.randn(stores, nodes, nodes, generator=generator, device=batch.x.device)
