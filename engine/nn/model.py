"""The model: baseline, encoder and decoder joined, and the cross-window ELBO that trains them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from causalmmm.engine.batches.windows import Batch, has_full_lags
from causalmmm.engine.evidence.ard import ard_evidence
from causalmmm.engine.evidence.window_stats import (
    ResponseEvidence,
    response_evidence,
    window_statistics,
)
from causalmmm.engine.nn.baseline import CalendarBaseline, Projection
from causalmmm.engine.nn.decoder import ResponseDecoder
from causalmmm.engine.nn.encoder import Posterior, RelationalEncoder
from causalmmm.engine.spec.config import ModelConfig
from causalmmm.kernels import EdgeSample

_HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)


@dataclass
class Losses:
    """Terms of the negative ELBO, each a mean over the stores of a batch, in nats.

    ``nll`` [N] per node is divided by the rows scored; ``total`` is what training minimises.
    """

    total: Tensor
    nll: Tensor
    kl_edges: Tensor
    kl_effects: Tensor


@dataclass
class Inference:
    """What one window of B stores says, before any gate is drawn.

    coefficients  [B, N, Q], residual [B, N, T]: the baseline and what it leaves.
    log_noise     [B, N]: log standard deviation of one-step errors, in scaled units.
    responses     [B, N, D, T - 1]: responses of all senders, centred on the calendar.
    own           [B, N, P]: autoregressive weights.
    evidence      of every edge under the decoder; None for the raw-window encoder.
    alone         [B, N, N], log Bayes factors of every edge from each store alone; None unless
                  graphs come from them.
    running       [B, N, T], 1 where a series can be explained and 0 where a channel pauses.
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


class CausalModel(nn.Module):
    """All tensors of a fitted model. ``log_prior`` [N, N, 2] holds each edge's prior.

    ``positive`` bool [N, N] marks the effects that cannot be negative, ``spend`` bool [N] the
    series that pause at exactly zero; ``groups`` are the kinds of the baseline's regressors
    (``CalendarSpec.groups``), ``context`` the number of context features.
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
    ) -> None:
        super().__init__()
        self.config = config
        self.autocast = False  # bfloat16 in the encoder; statistics and decoder stay in float32
        nodes = len(positive)
        if config.structure in ("full", "empty"):
            log_prior = fixed_graph(nodes, present=config.structure == "full")
        self.baseline = CalendarBaseline(nodes, groups)
        self.encoder = RelationalEncoder(config, nodes, context, log_prior)
        self.decoder = ResponseDecoder(config, positive, context)
        self.register_buffer("spend", spend)

    def infer(
        self,
        batch: Batch,
        *,
        temperature: float | Tensor = 1.0,
        seed: int | Tensor | None = None,
        store_log_bf: Tensor | None = None,
    ) -> Inference:
        """Baseline and posterior of a batch from the rows it may see.

        ``store_log_bf`` are log Bayes factors of each store alone, where they are needed and known.
        """
        config = self.config
        projection = self.baseline.project(batch.basis, batch.context_mask)
        received, active = self._received(batch)
        coefficients, residual = self.baseline(received, projection)
        residual = residual * active * batch.valid.unsqueeze(1)
        still = residual.detach()
        sent = self.baseline(batch.x, projection)[1].detach()
        statistics = window_statistics(sent, still, active, batch.context_mask, max(config.lags, 1))
        log_noise = self.decoder.noise(statistics.spread, statistics.rows)
        responses = self._responses(batch, projection)
        if config.lags:
            errors = still[..., 1:] - ar_prediction(self.decoder.ar_weights.detach(), still)
            evidence = response_evidence(
                errors,
                responses.detach(),
                self.decoder.beta.detach(),
                log_noise.detach(),
                active[..., 1:],
                has_full_lags(batch.context_mask, 1),
                self.encoder.marginal_log_odds(),
                self.encoder.store_odds,
                config.effect_spread,
            )
            nodes, edges = statistics.nodes, torch.cat([statistics.edges, evidence.edges], dim=-1)
        else:
            nodes, edges, evidence = self._raw_window(still, batch.context_mask), None, None
        if config.structure == "evidence" and store_log_bf is None:
            store_log_bf = ard_evidence(
                sent, still, active, batch.context_mask, self.decoder.positive, config.lags
            )
        fixed = batch.context.mean(-1) if batch.context.ndim == 3 else batch.context
        with torch.autocast(still.device.type, torch.bfloat16, enabled=self.autocast):
            posterior = self.encoder(
                nodes,
                edges,
                fixed,
                None if evidence is None else evidence.factor,
                store_log_bf=store_log_bf,
                temperature=temperature,
                seed=seed,
                store=batch.store,
            )
        return Inference(
            projection=projection,
            coefficients=coefficients,
            residual=residual,
            responses=responses,
            posterior=posterior,
            log_noise=log_noise,
            ar_weights=self.decoder.store_ar_weights(posterior.state.float()),
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
        """Negative ELBO of the scored rows under graphs drawn from the rows the encoder saw.

        The likelihood of the scored rows stands for that of the whole window, so a posterior
        weighs as much evidence whatever share was hidden. ``noise`` [B, N, N] draws the effects
        (:func:`effect_noise`). ``stores`` is the number that training draws from: the hyperprior of
        the prototypes counts once for all of them. ``store_log_bf`` as in :meth:`infer`.
        """
        inferred = self.infer(batch, temperature=temperature, seed=seed, store_log_bf=store_log_bf)
        return self.score(batch, inferred, noise=noise, kl_weight=kl_weight, stores=stores)

    def score(
        self,
        batch: Batch,
        inferred: Inference,
        *,
        noise: Tensor,
        kl_weight: float | Tensor = 1.0,
        stores: int = 1,
    ) -> Losses:
        """What :meth:`forward` gives, from graphs that were drawn already."""
        posterior = inferred.posterior
        effect, kl_effect = self._draw_effects(posterior, noise)
        weights = self.decoder.weights(causal(posterior.edges), effect)
        predicted = self.decoder.message(inferred.responses, weights)
        predicted = predicted + ar_prediction(inferred.ar_weights, inferred.residual)
        error = inferred.residual[..., 1:] - predicted
        log_noise = inferred.log_noise.unsqueeze(-1)
        nll = 0.5 * (error * (-log_noise).exp()).square() + log_noise + _HALF_LOG_TAU
        nll = (nll * batch.target_mask[:, None, 1:] * inferred.active[..., 1:]).sum(-1)
        target_mask = batch.target_mask.sum(-1, keepdim=True)
        whole = batch.valid.sum(-1, keepdim=True)
        kl_edges, kl_effects = posterior.edges.kl.mean(), kl_effect.mean()
        total = (nll * whole / target_mask).sum(-1).mean() + kl_weight * (kl_edges + kl_effects)
        total = total + self.encoder.prototype_penalty() / stores
        return Losses(
            total, nll.detach().sum(0) / target_mask.sum(), kl_edges.detach(), kl_effects.detach()
        )

    def _received(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Series as receivers [B, N, T], and where they run [B, N, T], as 0 or 1.

        Whether a channel spends at all is a plan; what drives it shows in how much it spends. A
        channel is explained on the rows where it spends, and counts as average on the others.
        """
        active = ((batch.x != 0) | ~self.spend.unsqueeze(-1)).to(batch.x.dtype)
        counted = active * batch.context_mask.unsqueeze(1)
        level = (batch.x * counted).sum(-1) / counted.sum(-1).clamp_min(1.0)
        return torch.where(active > 0, batch.x, level.unsqueeze(-1)), active

    def _responses(self, batch: Batch, projection: Projection) -> Tensor:
        """[B, N, D, T - 1]: responses of rows 0..T-2, centred on the calendar of the next row."""
        response, _ = self.decoder.respond(batch.x, batch.context, batch.level)
        response = self.decoder.delayed(response)[..., :-1]
        ahead = projection.ahead()
        return ahead.residual(response.flatten(1, 2)).unflatten(1, response.shape[1:3])

    def _draw_effects(self, posterior: Posterior, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Log effects [B, N, N] drawn from their posterior, and their KL [B].

        An effect matters only where its edge is present: q(effect | no edge) is the prior, so each
        pair's divergence is weighted by the probability of the edge.
        """
        mean, log_sd = posterior.effect_mean, posterior.effect_log_sd
        if not self.config.store_effects:
            return torch.zeros_like(mean), mean.new_zeros(len(mean))
        prior = self.config.effect_spread
        ratio = log_sd - math.log(prior)
        kl = 0.5 * ((2 * ratio).exp() + (mean / prior).square() - 1) - ratio
        probability = causal_probability(posterior.edges)
        return mean + log_sd.exp() * noise, (kl * probability).sum((1, 2))

    def _raw_window(self, residual: Tensor, context_mask: Tensor) -> Tensor:
        """[B, N, raw_window]: the last values of each series, standardised, zero where unseen."""
        rows = context_mask.to(residual.dtype).unsqueeze(1)
        spread = (residual.square() * rows).sum(-1, keepdim=True) / rows.sum(-1, keepdim=True)
        series = residual * rows / spread.sqrt().clamp_min(1e-6)
        width = self.config.raw_window
        return nn.functional.pad(series, (width, 0))[..., -width:]


def effect_noise(batch: Batch, seed: int) -> Tensor:
    """Standard normal numbers [B, N, N] that draw the effects of a batch, on its device."""
    stores, nodes = batch.x.shape[:2]
    generator = torch.Generator(device=batch.x.device).manual_seed(seed)
    return torch.randn(stores, nodes, nodes, generator=generator, device=batch.x.device)


def causal(edges: EdgeSample) -> Tensor:
    """Gates [B, N, N]: one less the weight of "no edge"; exactly zero where an edge is excluded."""
    return edges.z[..., 1]


def causal_probability(edges: EdgeSample) -> Tensor:
    """Posterior probabilities [B, N, N] of an edge; the diagonal is zero."""
    probability = edges.logits.softmax(-1)[..., 1]
    return probability - torch.diag_embed(probability.diagonal(dim1=1, dim2=2))


def edge_log_prior(probability: Tensor) -> Tensor:
    """Log prior [N, N, 2] from edge probabilities [N, N]; 0 forbids an edge and 1 requires it."""
    return torch.stack([torch.log1p(-probability), probability.log()], dim=-1)


def fixed_graph(nodes: int, *, present: bool) -> Tensor:
    """Log prior under which every edge is present, or none is."""
    return edge_log_prior(torch.full((nodes, nodes), float(present)))


def ar_prediction(ar_weights: Tensor, residual: Tensor) -> Tensor:
    """[B, N, T - 1] from each series' own past; weights [N, P] or [B, N, P]."""
    if ar_weights.ndim == 2:
        ar_weights = ar_weights.unsqueeze(0)
    lags, steps = ar_weights.shape[-1], residual.shape[-1] - 1
    past = nn.functional.pad(residual[..., :-1], (lags - 1, 0))
    total = torch.zeros_like(residual[..., 1:])
    for lag in range(lags):  # a few shifted products cost far less than one strided matrix product
        begin = lags - 1 - lag
        total = total + ar_weights[..., lag : lag + 1] * past[..., begin : begin + steps]
    return total
