"""The encoder by itself: prior, evidence, and stores that do not affect each other."""

from __future__ import annotations

import torch
from small import CONTEXT, NODES, build

from causalmmm.engine.evidence.features import edge_width, node_width
from causalmmm.engine.nn.encoder import RelationalEncoder
from causalmmm.engine.nn.posterior import Posterior, causal_probability

STORES, LAGS = 5, 3
PAIRS = ~torch.eye(NODES, dtype=torch.bool)


def features(seed: int = 0) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return {
        "nodes": torch.randn(STORES, NODES, node_width(LAGS), generator=rng),
        "edges": torch.randn(STORES, NODES, NODES, edge_width(LAGS), generator=rng),
        "context": torch.randn(STORES, CONTEXT, generator=rng),
        "factor": torch.randn(STORES, NODES, NODES, generator=rng),
    }


@torch.no_grad()
def posterior(encoder: RelationalEncoder, inputs: dict[str, torch.Tensor], **options) -> Posterior:
    *tensors, factor = inputs.values()
    return encoder(*tensors, encoder.prior(factor, len(factor)), **options)


def test_without_evidence_a_store_has_the_prior_of_the_panel() -> None:
    """An encoder frozen to the prior adds the store's log Bayes factors, here zero."""
    prior = torch.full((NODES, NODES), 0.05)
    prior[0, 1] = 0.6
    encoder = build(prior, structure="evidence").encoder
    encoder.freeze_to_prior(prior.logit())
    no_evidence = torch.zeros(STORES, NODES, NODES)
    edges = posterior(encoder, features(), store_log_bf=no_evidence).edges
    probability = causal_probability(edges)
    torch.testing.assert_close(probability[:, PAIRS], prior[PAIRS].expand(STORES, -1))
    torch.testing.assert_close(edges.kl, torch.zeros(STORES), atol=1e-5, rtol=0)


def test_a_frozen_encoder_adds_log_bayes_factors_to_prior_log_odds() -> None:
    prior = torch.full((NODES, NODES), 0.2)
    encoder = build(prior, structure="evidence").encoder
    encoder.freeze_to_prior(prior.logit())
    log_bf = torch.randn(STORES, NODES, NODES)
    probability = causal_probability(posterior(encoder, features(), store_log_bf=log_bf).edges)
    expected = (prior.logit() + log_bf).sigmoid()
    torch.testing.assert_close(probability[:, PAIRS], expected[:, PAIRS], rtol=1e-4, atol=1e-5)


def test_prototypes_are_weighted_by_their_marginal_likelihood() -> None:
    """Bayes over prototypes in float64, each edge's e_ij entering as 1 - pi + pi e."""
    encoder = build(prototypes=3).encoder
    factor = torch.randn(STORES, NODES, NODES)
    with torch.no_grad():
        log_prior, kl = encoder.prior(factor, STORES)
        rate, mixture = encoder.prototypes.double().sigmoid(), encoder.mixture.double().softmax(-1)
    for store in range(STORES):
        likelihood = 1 - rate + rate * factor[store].double().exp()
        joint = mixture * likelihood[:, PAIRS].prod(-1)
        share = joint / joint.sum()
        expected = (share[:, None, None] * rate.log()).sum(0)
        torch.testing.assert_close(
            log_prior[store, ..., 1].double(), expected, rtol=1e-4, atol=1e-5
        )
        divergence = (share * (share / mixture).log()).sum()
        torch.testing.assert_close(kl[store].double(), divergence, rtol=1e-3, atol=1e-5)


def test_a_store_does_not_depend_on_the_others_of_its_batch() -> None:
    encoder, inputs = build().encoder, features()
    order = torch.tensor([3, 0, 4, 2, 1])
    together = posterior(encoder, inputs)
    permuted = posterior(encoder, {name: x[order] for name, x in inputs.items()})
    single = posterior(encoder, {name: x[3:4] for name, x in inputs.items()})
    for name in ("effect_mean", "effect_log_sd", "state"):
        one, other = getattr(together, name), getattr(permuted, name)
        torch.testing.assert_close(one[order], other, rtol=1e-4, atol=1e-5)
    for before, after in zip(together.edges, permuted.edges, strict=True):
        torch.testing.assert_close(before[order], after, rtol=1e-4, atol=1e-5)
    for before, after in zip(together.edges, single.edges, strict=True):
        torch.testing.assert_close(before[3:4], after, rtol=1e-4, atol=1e-5)


def test_an_untrained_encoder_starts_from_the_log_bayes_factor_among_its_features() -> None:
    torch.manual_seed(0)
    trained = build()
    encoder = RelationalEncoder(trained.config, NODES, CONTEXT, trained.encoder.log_prior)
    edges = features()["edges"]
    with torch.no_grad():
        log_bf = encoder.evidence_log_bf(edges)
    assert log_bf is not None
    torch.testing.assert_close(log_bf[:, PAIRS], 4 * edges[..., -2][:, PAIRS])
    assert (log_bf.diagonal(dim1=1, dim2=2) == 0).all()
