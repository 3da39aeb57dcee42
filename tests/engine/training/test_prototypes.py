"""Prototype graphs from evidence of many stores, against the graphs that made it."""

from __future__ import annotations

import torch

from causalmmm.engine.training.prototypes import fit_mixture, toggle_prototype_edges

NODES, STORES = 6, 120
PAIRS = ~torch.eye(NODES, dtype=torch.bool)
PRIOR = torch.full((NODES, NODES), 0.05)


def evidence(graphs: torch.Tensor, strength: float, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Log Bayes factors of stores drawn from ``graphs``: calibrated, N(+-s/2, s) of each edge."""
    rng = torch.Generator().manual_seed(seed)
    kind = torch.randint(len(graphs), (STORES,), generator=rng)
    present = graphs[kind]
    noise = torch.randn(STORES, NODES, NODES, generator=rng)
    return (present.float() - 0.5) * strength + strength**0.5 * noise, kind


def three_graphs() -> torch.Tensor:
    rng = torch.Generator().manual_seed(1)
    return (torch.rand(3, NODES, NODES, generator=rng) < 0.3) & PAIRS


def test_as_many_prototypes_as_there_are_graphs_and_the_same_ones() -> None:
    graphs = three_graphs()
    factor, kind = evidence(graphs, strength=6.0)
    mixture = fit_mixture(factor, PRIOR, 8, seed=0)
    assert mixture is not None
    used = mixture.share.sum(0) > 1
    assert used.sum() == 3
    order = [int(mixture.share[kind == k].sum(0).argmax()) for k in range(3)]
    edges_found = mixture.rate[order] > 0.5
    assert torch.equal(edges_found & PAIRS, graphs)
    assert (mixture.share[torch.arange(STORES), torch.tensor(order)[kind]] > 0.95).all()


def test_stores_that_share_no_graph_get_no_prototypes() -> None:
    rng = torch.Generator().manual_seed(2)
    graphs = (torch.rand(STORES, NODES, NODES, generator=rng) < 0.2) & PAIRS
    factor = (graphs.float() - 0.5) * 4 + 2 * torch.randn(graphs.shape, generator=rng)
    assert fit_mixture(factor, PRIOR, 8, seed=0) is None


def test_forbidden_and_required_edges_keep_their_probability() -> None:
    prior = PRIOR.clone()
    prior[0, 1], prior[1, 0] = 0.0, 1.0
    factor, _ = evidence(three_graphs(), strength=6.0)
    mixture = fit_mixture(factor, prior, 8, seed=0)
    assert mixture is not None
    assert (mixture.rate[:, 0, 1] == 0).all()
    assert (mixture.rate[:, 1, 0] == 1).all()


def pooled(truth: torch.Tensor, rows: int, stores: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Gram matrices and products of one prototype's stores: one component, unit noise."""
    rng = torch.Generator().manual_seed(3)
    x = torch.randn(rows, NODES, generator=rng)
    y = x @ truth + torch.randn(rows, NODES, generator=rng)
    gram = (x.T @ x).expand(1, NODES, NODES, NODES)
    return gram, (x.T @ y).T.unsqueeze(0)


def test_an_edge_too_weak_for_one_store_is_opened_with_its_effect() -> None:
    graphs = torch.zeros(1, NODES, NODES, dtype=torch.bool)
    graphs[0, 0, 1] = True
    factor = torch.zeros(STORES, NODES, NODES)  # no store alone has evidence
    rate = PRIOR.expand(1, -1, -1).clone()
    rate[0, 2, 3] = 0.9  # held open, though nothing is there
    mixture = type("Mixture", (), {"rate": rate, "share": torch.ones(STORES, 1)})()
    gram, cross = pooled(0.1 * graphs[0].float(), rows=100 * STORES, stores=STORES)
    beta = torch.zeros(NODES, NODES, 1)
    revised, effect = toggle_prototype_edges(
        mixture, factor, gram, cross, beta, PRIOR, torch.zeros_like(PAIRS), steps=100
    )
    assert revised[0, 0, 1] >= 0.9
    torch.testing.assert_close(effect[0, 1, 0], torch.tensor(0.1), atol=0.03, rtol=0)
    closed = PAIRS.clone()
    closed[0, 1] = False
    assert (revised[0][closed] < 0.1).all()
    assert (effect[closed] == 0).all()


def test_proportional_channels_of_many_stores_do_not_break_the_test_of_edges() -> None:
    rate = PRIOR.expand(1, -1, -1).clone()
    mixture = type("Mixture", (), {"rate": rate, "share": torch.ones(STORES, 1)})()
    rng = torch.Generator().manual_seed(4)
    x = torch.randn(2000, NODES, generator=rng)
    x[:, 1] = 3 * x[:, 0]
    gram = (x.T @ x * 1e6).expand(1, NODES, NODES, NODES)
    factor, beta = torch.zeros(STORES, NODES, NODES), torch.zeros(NODES, NODES, 1)
    revised, effect = toggle_prototype_edges(
        mixture, factor, gram, gram.diagonal(dim1=1, dim2=2).mT, beta, PRIOR, PAIRS, steps=100
    )
    assert revised.isfinite().all()
    assert effect.isfinite().all()
    assert torch.equal(revised[0].diagonal(), PRIOR.diagonal()), "no series is its own sender"
    assert (effect.diagonal(dim1=0, dim2=1) == 0).all()
