"""Causal Relational Encoder: from window statistics to a posterior over each store's graph.

Independent of the decoder. The all-pairs passes are the operators ``edge_mean``, ``edge_sample``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from causalmmm.engine.evidence.features import (
    LOG_BF_COLUMN,
    LOG_BF_UNIT,
    edge_width,
    node_width,
)
from causalmmm.engine.nn.posterior import EdgePrior, Posterior, edge_probability, log_odds
from causalmmm.engine.ops.export_switch import exporting
from causalmmm.engine.spec.config import ModelConfig
from causalmmm.kernels import edge_mean, edge_sample, heads
from causalmmm.kernels import posterior as compiled
from causalmmm.kernels.casting import cast

EDGE_TYPES = 2  # none, causal
_EFFECT_RANK = 8
_MAX_LEARNED_LOG_ODDS = 9.0
_HYPERPRIOR_STD = 5.0  # of a prototype's log odds around the user's


class RelationalEncoder(nn.Module):
    """Two all-pairs passes over N identified series (CausalMMM, section 4.1).

    The prior of a store's graph is a mixture of P prototype graphs, learned by empirical Bayes: the
    prototypes are weighted by the evidence of all edges together, the weighted prototypes are the
    prior of every edge, and the second pass adds the evidence of the store's own data. An edge too
    weak to detect in one store is thus found through the stores that resemble it.
    """

    log_prior: Tensor
    log_odds: Tensor
    off_diagonal: Tensor

    def __init__(self, config: ModelConfig, nodes: int, context: int, log_prior: Tensor) -> None:
        super().__init__()
        width, lags = config.hidden, config.lags
        self.features = edge_width(lags) if lags else 0
        source = node_width(lags) if lags else config.raw_window
        self.embed = nn.Sequential(
            nn.Linear(source + context, width), nn.ELU(), nn.Linear(width, width)
        )
        self.identity = nn.Parameter(torch.randn(nodes, width) * 0.5)
        self.sender1 = nn.Linear(width, width, bias=False)
        self.receiver1 = nn.Linear(width, width)
        self.pass1 = nn.Linear(width, width)
        self.norm1 = nn.LayerNorm(width)
        self.node = nn.Sequential(nn.Linear(3 * width, width), nn.ELU(), nn.Linear(width, width))
        self.sender2 = nn.Linear(width, width, bias=False)
        self.receiver2 = nn.Linear(width, width)
        self.skip = nn.Linear(width, width, bias=False)
        self.pass2 = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.out = nn.Linear(width, EDGE_TYPES)
        if self.features:
            self.feature = nn.Linear(self.features, width, bias=False)
            self.effect_feature = nn.Linear(self.features, 2, bias=False)
            nn.init.zeros_(self.effect_feature.weight)
            self.evidence = nn.Linear(self.features, 1)
            nn.init.zeros_(self.evidence.bias)
            with torch.no_grad():  # start from the log Bayes factor among the features
                self.evidence.weight.zero_()[0, LOG_BF_COLUMN] = LOG_BF_UNIT
        self.effect_sender = nn.Linear(width, _EFFECT_RANK, bias=False)
        self.effect_receiver = nn.Linear(width, _EFFECT_RANK, bias=False)
        nn.init.zeros_(self.effect_receiver.weight)
        self.effect_log_sd = nn.Parameter(torch.full((nodes, nodes), -1.5))
        odds = log_odds(log_prior)
        self.register_buffer("log_prior", log_prior)
        self.register_buffer("log_odds", odds)
        self.register_buffer("off_diagonal", 1 - torch.eye(nodes), persistent=False)
        self.prototypes = nn.Parameter(odds + 0.5 * torch.randn(config.prototypes, nodes, nodes))
        self.mixture = nn.Parameter(torch.zeros(config.prototypes))
        self.frozen_to_prior = config.structure in ("pretrained", "evidence")
        if self.frozen_to_prior:
            self.freeze_to_prior(odds)
        else:
            with torch.no_grad():  # start undecided: an effect is learned only through an open gate
                median_odds = odds[~torch.eye(nodes, dtype=torch.bool)].median()
                self.out.weight.mul_(0.1)
                self.out.bias.copy_(torch.stack([median_odds, -median_odds]) / 2)

    def forward(
        self,
        nodes: Tensor,
        edges: Tensor | None,
        context: Tensor,
        prior: EdgePrior,
        *,
        store_log_bf: Tensor | None = None,
        temperature: float | Tensor = 1.0,
        seed: int | Tensor | None = None,
        store: Tensor | None = None,
        narrow: bool = False,
    ) -> Posterior:
        """Posterior from node features [B, N, G], edge features [B, N, N, F] or None, and context
        [B, C].

        ``prior`` is that of :meth:`prior`. ``store_log_bf`` [B, N, N] are log Bayes factors of each
        store alone: all that an encoder frozen to the prior adds to it. ``seed=None`` gives the
        posterior mean instead of a sample. ``narrow`` computes the passes over pairs, and nothing
        else, in bfloat16: of the small networks of nodes the casts alone would take longer.
        """
        batch, count, _ = nodes.shape
        shared = context.unsqueeze(1).expand(batch, count, context.shape[-1])
        h = self.embed(torch.cat([nodes, shared], dim=-1)) + self.identity  # [B, N, H]
        dtype = torch.bfloat16 if narrow else h.dtype
        layer1 = [self.sender1(h), self.receiver1(h), self.pass1.weight, self.pass1.bias]
        inputs = [] if edges is None else [edges, self.feature.weight]
        sender1, receiver1, w2, b2, *rest = cast([*layer1, *inputs], dtype)
        features, wf = rest or (None, None)
        edge = edge_mean(sender1, receiver1, w2, b2, features=features, wf=wf, keep_states=True)
        mean = edge.mean.to(h.dtype) * self.norm1.weight + self.norm1.bias  # [B, N, H]
        graph_mean = mean.mean(1, keepdim=True).expand_as(mean)
        state = self.node(torch.cat([mean, graph_mean, h], dim=-1))  # [B, N, H]
        log_bf, informed, effect_mean, effect_log_sd = self._heads(
            state, edges, prior, store_log_bf
        )
        # the affine maps of both LayerNorms are folded into the linear layer that follows them
        layer2 = [
            self.sender2(state),
            self.receiver2(state) + self.skip.weight @ self.norm1.bias,
            self.skip.weight * self.norm1.weight,
            self.pass2.weight,
            self.pass2.bias,
            self.out.weight * self.norm2.weight,
            self.out.bias + self.out.weight @ self.norm2.bias,
        ]
        sender2, receiver2, w3, w4, b4, wo, bo = cast(layer2, dtype)
        sample = edge_sample(
            *(sender1, receiver1, w2, b2, sender2, receiver2, w3, w4, b4, wo, bo),
            informed,
            features=features,
            wf=wf,
            states=edge.states,
            temperature=temperature,
            seed=seed,
            store=store,
        )
        kl = sample.kl + prior.kl
        if log_bf is not None:  # the operator's KL is from prior and evidence together
            kl = kl + (edge_probability(sample.logits) * log_bf).sum((1, 2))
        return Posterior(sample._replace(kl=kl), effect_mean, effect_log_sd, state)

    def _heads(
        self, state: Tensor, edges: Tensor | None, prior: EdgePrior, store_log_bf: Tensor | None
    ) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
        """Log Bayes factors [B, N, N], the log prior [B, N, N, 2] with them, and posterior mean and
        log standard deviation [B, N, N] of the log effects."""
        sender, receiver = self.effect_sender(state), self.effect_receiver(state)
        learned = edges is not None and not self.frozen_to_prior and not exporting()
        if edges is not None and learned and heads.supported(edges):
            return heads.pair_heads(
                *(edges, sender, receiver, prior.log_prior),
                *(self.evidence.weight, self.evidence.bias),
                *(self.effect_feature.weight, self.effect_log_sd),
            )
        log_bf = store_log_bf if self.frozen_to_prior else self.evidence_log_bf(edges)
        informed = prior.log_prior
        if log_bf is not None:
            informed = informed + torch.stack([torch.zeros_like(log_bf), log_bf], dim=-1)
        return log_bf, informed, *self._effects(sender, receiver, edges)

    def _effects(
        self, sender: Tensor, receiver: Tensor, edges: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Posterior mean and log standard deviation [B, N, N] of the log effects."""
        mean = sender @ receiver.mT
        log_sd = self.effect_log_sd.expand(mean.shape)
        if edges is not None:
            shift = self.effect_feature(edges)  # [B, N, N, 2]
            mean, log_sd = mean + shift[..., 0], log_sd + shift[..., 1]
        # unlike clamp, whose gradient is five operators, hardtanh has one of its own
        return F.hardtanh(mean, -3.0, 3.0), F.hardtanh(log_sd, -6.0, 1.0)

    @torch.no_grad()
    def freeze_to_prior(self, odds: Tensor) -> None:
        """Make the logits those of prior and evidence: one prototype, the user's; no network."""
        self.prototypes = nn.Parameter(odds.clone().unsqueeze(0), requires_grad=False)
        self.mixture = nn.Parameter(torch.zeros(1), requires_grad=False)
        for parameter in self.out.parameters():
            parameter.zero_().requires_grad_(False)

    def evidence_log_bf(self, edges: Tensor | None) -> Tensor | None:
        """Log Bayes factors [B, N, N] of the edges from their features; the diagonal is zero."""
        if edges is None:
            return None
        log_bf: Tensor = self.evidence(edges).squeeze(-1)
        return log_bf * self.off_diagonal

    def prior(self, factor: Tensor | None, batch: int) -> EdgePrior:
        """Prior of every store's edges, and KL of its prototype weights.

        A prototype with edge probabilities pi gives a store whose edges have Bayes factors e the
        marginal likelihood prod (1 - pi + pi e); weights r follow by Bayes. The prior of an edge is
        then the geometric mixture sum_p r_p log pi_p, for which KL(q, r || prior) splits into a sum
        over edges and KL(r || mixture weights). ``factor`` [B, N, N] is log e; without it r are the
        mixture weights.
        """
        if factor is not None and compiled.supported(factor) and not exporting():
            return EdgePrior(
                *compiled.mixture_prior(
                    *(self.prototypes, self.mixture, factor, self.log_prior),
                    _MAX_LEARNED_LOG_ODDS,
                )
            )
        odds = self.prototypes.clamp(-_MAX_LEARNED_LOG_ODDS, _MAX_LEARNED_LOG_ODDS)
        log_weight = self.mixture.log_softmax(-1).expand(batch, -1)
        log_share = log_weight
        if factor is not None:
            pairs = ~torch.eye(odds.shape[-1], dtype=torch.bool, device=odds.device)
            gain = F.softplus(odds + factor.unsqueeze(1)) - F.softplus(odds)
            log_share = (log_weight + (gain * pairs).sum((2, 3))).log_softmax(-1)
        share = log_share.exp()
        log_prior = torch.stack([F.logsigmoid(-odds), F.logsigmoid(odds)], dim=-1)
        log_prior = torch.einsum("bp,pijk->bijk", share, log_prior)
        fixed = self.log_prior.isinf().any(-1, keepdim=True)  # forbidden and required edges
        log_prior = torch.where(fixed, self.log_prior, log_prior)
        return EdgePrior(log_prior, (share * (log_share - log_weight)).sum(-1))

    def marginal_log_odds(self) -> Tensor:
        """Prior log odds [N, N] of every edge in a store without data."""
        odds = self.prototypes.detach().clamp(-_MAX_LEARNED_LOG_ODDS, _MAX_LEARNED_LOG_ODDS)
        weight = self.mixture.detach().softmax(-1)
        return torch.einsum("p,pij->ij", weight, odds.sigmoid()).logit(1e-6)

    def prototype_penalty(self, stores: int) -> Tensor:
        """Negative log hyperprior of the prototypes, normal around the user's log odds, per store
        of those that share it."""
        odds = self.log_odds.expand_as(self.prototypes)
        squares = F.mse_loss(self.prototypes, odds, reduction="sum")
        return squares / (2 * _HYPERPRIOR_STD**2 * stores)
