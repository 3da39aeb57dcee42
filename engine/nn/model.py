"""The model: baseline, encoder and decoder joined, and the cross-window ELBO that trains them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from causalmmm.engine.batches.batch import Batch
from causalmmm.engine.evidence.ard import ard_evidence
from causalmmm.engine.evidence.mean_field import mean_field
from causalmmm.engine.evidence.response import (
    ResponseEvidence,
    ResponseTerms,
    response_evidence,
    response_terms,
)
from causalmmm.engine.evidence.window_stats import window_statistics
from causalmmm.engine.nn.baseline import CalendarBaseline, Projection
from causalmmm.engine.nn.decoder import ResponseDecoder
from causalmmm.engine.nn.encoder import RelationalEncoder
from causalmmm.engine.nn.posterior import (
    Inference,
    Posterior,
    causal_probability,
    edge_gates,
    fixed_graph,
)
from causalmmm.engine.nn.pretrained import PretrainedGraphs
from causalmmm.engine.spec.config import ModelConfig
from causalmmm.kernels import posterior as compiled
from causalmmm.kernels.likelihood import ar_prediction, response_nll


@dataclass
class Losses:
    """Terms of the negative ELBO in nats.

    total      [], what training minimises: the mean over the stores of a batch, and the hyperprior.
    per_store  [B], the stores' own terms.
    nll        [B, N], sums over target rows.
    kl_edges   [], mean over the stores.
    """

    total: Tensor
    per_store: Tensor
    nll: Tensor
    kl_edges: Tensor


class CausalModel(nn.Module):
    """All tensors of a fitted model.

    groups     groups of the baseline's regressors (``CalendarSpec.groups``).
    context    number of context features.
    positive   bool [N, N], effects that cannot be negative.
    log_prior  [N, N, 2], log prior of each edge.
    spend      bool [N], series for which zero means no spend rather than a low value.
    pretrained  reads graphs where the structure is "pretrained".
    """

    spend: Tensor

    def __init__(
        self,
        config: ModelConfig,
        groups: tuple[str, ...],
        context: int,
        positive: Tensor,
        log_prior: Tensor,
        spend: Tensor,
        pretrained: PretrainedGraphs | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.narrow_edges = False  # bfloat16 in the edge passes; all else stays in float32
        nodes = len(positive)
        if config.structure in ("full", "empty"):
            log_prior = fixed_graph(nodes, present=config.structure == "full")
        self.baseline = CalendarBaseline(nodes, groups)
        self.encoder = RelationalEncoder(config, nodes, context, log_prior)
        self.decoder = ResponseDecoder(config, positive, context)
        self.register_buffer("spend", spend)
        if (pretrained is None) == (config.structure == "pretrained"):
            raise ValueError("pretrained graphs and structure='pretrained' belong together")
        self.pretrained = pretrained

    def infer(
        self,
        batch: Batch,
        *,
        temperature: float | Tensor = 1.0,
        seed: int | Tensor | None = None,
        store_log_bf: Tensor | None = None,
    ) -> Inference:
        """Baseline and posterior of a batch, from its context rows.

        ``store_log_bf`` [B, N, N] are log Bayes factors of each store alone, if computed already;
        only the structures "pretrained" and "evidence" use them.
        """
        left = self.baseline.explain(batch, self.spend)
        residual, active, sent = left.received, left.active, left.sent  # [B, N, T] each
        detached = residual.detach()
        lags = max(self.config.lags, 1)
        statistics = window_statistics(sent, detached, active, batch.context_mask, lags)
        log_noise = self.decoder.noise(statistics.spread, statistics.rows)
        responses = self._responses(batch)
        evidence: ResponseEvidence | None = None
        edges: Tensor | None = None
        if self.config.lags:
            terms = self._terms(batch, detached, responses, left.projection, log_noise, active)
            marginal, spread = self.encoder.marginal_log_odds(), self.config.effect_spread
            factor, _ = mean_field(terms.xty, terms.overlap, marginal, spread)
            prior = self.encoder.prior(factor, factor.shape[0])
            evidence = response_evidence(terms, factor, prior.log_odds, spread)
            nodes = statistics.nodes
            edges = torch.cat([statistics.edges, evidence.edges], dim=-1)  # [B, N, N, F]
        else:
            prior = self.encoder.prior(None, detached.shape[0])
            nodes = self._raw_window(detached, batch.context_mask)
        if self.pretrained is not None and store_log_bf is None:
            store_log_bf = self.pretrained(batch)
        if self.config.structure == "evidence" and store_log_bf is None:
            store_log_bf = ard_evidence(
                sent, detached, active, batch.context_mask, self.decoder.positive, self.config.lags
            )
        context = batch.context.mean(-1) if batch.context.ndim == 3 else batch.context  # [B, C]
        posterior = self.encoder(
            nodes,
            edges,
            context,
            prior,
            store_log_bf=store_log_bf,
            temperature=temperature,
            seed=seed,
            store=batch.store,
            narrow=self.narrow_edges,
        )
        return Inference(
            projection=left.projection,
            coefficients=left.coefficients,
            residual=residual,
            responses=responses,
            posterior=posterior,
            log_noise=log_noise,
            ar_weights=self.decoder.store_ar_weights(posterior.state),
            evidence=evidence,
            store_log_bf=store_log_bf,
            active=active,
        )

    def forward(
        self,
        batch: Batch,
        *,
        temperature: float | Tensor,
        seed: int | Tensor,
        noise: Tensor,
        kl_weight: float | Tensor = 1.0,
        stores: int = 1,
        store_log_bf: Tensor | None = None,
    ) -> Losses:
        """Negative ELBO of the target rows under graphs sampled from the context rows.

        The likelihood of the target rows is scaled to that of the whole window, so that the balance
        of likelihood and KL does not depend on the share of target rows. ``noise`` [B, N, N]
        samples the effects (``posterior.effect_noise``). ``stores`` is the number of training
        stores: the hyperprior of the prototypes counts once for all of them. ``store_log_bf`` as in
        :meth:`infer`.
        """
        inferred = self.infer(batch, temperature=temperature, seed=seed, store_log_bf=store_log_bf)
        return self.negative_elbo(batch, inferred, noise=noise, kl_weight=kl_weight, stores=stores)

    def negative_elbo(
        self,
        batch: Batch,
        inferred: Inference,
        *,
        noise: Tensor,
        kl_weight: float | Tensor = 1.0,
        stores: int = 1,
    ) -> Losses:
        """The losses of :meth:`forward` for graphs that have been sampled already."""
        posterior = inferred.posterior
        effect, kl_effect = self._draw_effects(posterior, noise)
        nll = response_nll(
            inferred.residual,
            inferred.responses,
            edge_gates(posterior.edges),
            effect,
            self.decoder.beta,
            inferred.projection.solver,
            inferred.projection.basis,
            inferred.ar_weights,
            inferred.log_noise,
            batch.context_mask,
            batch.target_mask,
            inferred.active,
        )
        target_rows = batch.target_mask.sum(-1, keepdim=True)
        all_rows = batch.valid.sum(-1, keepdim=True)
        kl_edges = posterior.edges.kl
        per_store = (nll * (all_rows / target_rows)).sum(-1) + kl_weight * (kl_edges + kl_effect)
        return Losses(
            total=per_store.mean() + self.encoder.prototype_penalty(stores),
            per_store=per_store.detach(),
            nll=nll.detach(),
            kl_edges=kl_edges.detach().mean(),
        )

    def one_step_errors(self, inferred: Inference, weights: Tensor) -> Tensor:
        """[B, N, T - 1]: errors of one-step predictions, scaled, from the second row of each window
        on, under the effects ``weights`` [B, N, D, N] of the responses.
        """
        own = ar_prediction(inferred.ar_weights, inferred.residual)
        # the calendar is taken off the sum of N D effects, not off each of them
        message = inferred.ahead.residual(self.decoder.message(inferred.responses, weights))
        return inferred.residual[..., 1:] - message - own

    @contextmanager
    def mixed_precision(self, enabled: bool) -> Iterator[None]:
        """Within this context the edge passes run in bfloat16 where ``enabled``."""
        before, self.narrow_edges = self.narrow_edges, enabled
        try:
            yield
        finally:
            self.narrow_edges = before

    @torch.no_grad()
    def _terms(
        self,
        batch: Batch,
        residual: Tensor,
        responses: Tensor,
        projection: Projection,
        log_noise: Tensor,
        active: Tensor,
    ) -> ResponseTerms:
        return response_terms(
            residual,
            self.decoder.ar_weights,
            responses,
            projection.solver,
            projection.basis,
            self.decoder.beta,
            log_noise,
            active,
            batch.context_mask,
        )

    def _responses(self, batch: Batch) -> Tensor:
        """[B, N, D, T - 1]: delayed responses of rows 0 .. T - 2, which act on the next row."""
        response, _ = self.decoder.respond(batch.x, batch.context, batch.level)
        return self.decoder.delayed(response, response.shape[-1] - 1)

    def _draw_effects(self, posterior: Posterior, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Log effects [B, N, N] sampled from their posterior, and their KL [B].

        q(effect | no edge) is the prior, so each pair's KL is weighted by the probability of its
        edge.
        """
        mean, log_sd = posterior.effect_mean, posterior.effect_log_sd
        if not self.config.store_effects:
            return torch.zeros_like(mean), mean.new_zeros(len(mean))
        prior_sd = self.config.effect_spread
        if compiled.supported(mean):
            return compiled.sampled_effects(mean, log_sd, posterior.edges.logits, noise, prior_sd)
        log_ratio = log_sd - math.log(prior_sd)
        kl = 0.5 * ((2 * log_ratio).exp() + (mean / prior_sd).square() - 1) - log_ratio
        probability = causal_probability(posterior.edges)
        return mean + log_sd.exp() * noise, (kl * probability).sum((1, 2))

    def _raw_window(self, residual: Tensor, context_mask: Tensor) -> Tensor:
        """[B, N, raw_window]: last values of each series, standardised; zero off the context."""
        rows = context_mask.to(residual.dtype).unsqueeze(1)
        spread = (residual.square() * rows).sum(-1, keepdim=True) / rows.sum(-1, keepdim=True)
        series = residual * rows / spread.sqrt().clamp_min(1e-6)
        width = self.config.raw_window
        return nn.functional.pad(series, (width, 0))[..., -width:]
