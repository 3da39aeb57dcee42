"""Edges of the response regression and of the pretrained prior as one: their log odds averaged.

Only probabilities of edges are combined. Effects, contributions and forecasts stay the regression's
own: as a prior of its edges, the network made intervals of contributions too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from causalmmm.engine.batches.batch import Batch
from causalmmm.engine.nn.pretrained import LEAST_STEPS, PretrainedGraphs
from causalmmm.engine.ops.export_switch import exporting
from causalmmm.engine.prior import PanelKind, empty_familiarity, empty_network
from causalmmm.engine.regression.design import Observed

# Of the regression's log odds; the prior's have the rest. By the log loss of edges on draws of the
# training law "weekly" (bench.experiments.combined_edges).
REGRESSION_WEIGHT = 1 / 3
_SURE = 1e-4  # evidence of either counts up to this distance from zero and one


class CombinedEdges(nn.Module):
    """Combines probabilities of edges, store by store; the same in whatever company a store is.

    graphs   the pretrained prior for series like the panel's, reading stores alone.
    given    [N, N], probability of every edge before any data, as the prior has it.
    settled  bool [N, N], pairs that stay the regression's.
    """

    given: Tensor
    settled: Tensor

    def __init__(self, graphs: PretrainedGraphs, given: Tensor, settled: Tensor) -> None:
        super().__init__()
        self.graphs = graphs
        self.register_buffer("given", given.clamp(_SURE, 1 - _SURE))
        self.register_buffer("settled", settled)

    @torch.no_grad()
    def forward(self, probability: Tensor, observed: Observed) -> Tensor:
        """[B, N, N] from the regression's; the regression's where a history is too short for the
        prior or unlike all its laws.

        The prior reads one store at a time: its answers do not depend on others by a bit.
        """
        if exporting():
            return self._of(probability, observed)
        every = torch.arange(len(probability)).split(1)
        return torch.cat([self._of(probability[k], observed.select(k)) for k in every])

    def _of(self, own: Tensor, observed: Observed) -> Tensor:
        rows = observed.mask
        statistics = self.graphs.statistics(
            Batch(
                x=observed.x.to(torch.float32),
                basis=observed.basis.to(torch.float32),
                context=observed.x[:, :0],
                context_mask=rows,
                target_mask=rows,
                store=observed.store,
            )
        )
        read = torch.sigmoid(self.graphs.log_bf(statistics) + torch.logit(self.given))
        odds, prior_odds = (torch.logit(p.to(torch.float64), eps=_SURE) for p in (own, read))
        both = torch.sigmoid(REGRESSION_WEIGHT * odds + (1 - REGRESSION_WEIGHT) * prior_odds)
        silent = (rows.to(torch.float32).sum(-1) < LEAST_STEPS) | self.graphs.unlike(statistics)
        return torch.where(self.settled | silent.view(-1, 1, 1), own, both)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors by name, and the rest as JSON holds it."""
        kind = self.graphs.kind
        return dict(self.state_dict()), {"roles": list(kind.roles), "period": kind.period}

    @staticmethod
    def from_state(
        tensors: dict[str, Tensor], settings: dict[str, Any], groups: Sequence[str]
    ) -> CombinedEdges:
        """What :meth:`state` described; ``groups`` name the kind of each calendar term."""
        kind = PanelKind(tuple(settings["roles"]), settings["period"], tensors["graphs.positive"])
        network = empty_network(tensors["graphs.network.read.0.weight"].shape)
        familiarity = empty_familiarity(tensors["graphs.familiarity.directions"].shape)
        graphs = PretrainedGraphs(kind, tuple(groups), network, familiarity)
        edges = CombinedEdges(graphs, tensors["given"], tensors["settled"])
        edges.load_state_dict(tensors)
        return edges
