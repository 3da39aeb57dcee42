"""Edges of the response regression and of the pretrained prior as one: their log odds averaged.

Only probabilities of edges are combined. Effects, contributions and forecasts stay the regression's
own: as a prior of its edges, the network made intervals of contributions too narrow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from causalmmm.data.panel import Panel
from causalmmm.engine.batches.batch import Batch
from causalmmm.engine.batches.windows import Windows
from causalmmm.engine.nn.pretrained import PretrainedGraphs
from causalmmm.engine.prior import PanelKind, shipped_prior
from causalmmm.engine.spec.calendar import CalendarSpec, period_of
from causalmmm.model.pretrained import LEAST_STEPS
from causalmmm.model.priors import Pair, edge_probability, positive_effects, reactive_series

# Of the regression's log odds; the prior's have the rest. By the log loss of edges on draws of the
# training law "weekly" (bench.experiments.combined_edges).
REGRESSION_WEIGHT = 1 / 3
_SURE = 1e-4  # evidence of either counts up to this distance from zero and one

Given = tuple[Mapping[Pair, float] | None, Sequence[Pair], Sequence[Pair]]


class CombinedEdges:
    """Combines probabilities of edges, store by store; the same in whatever company a store is.

    graphs   the pretrained prior for series like the panel's, reading stores alone.
    given    [N, N], probability of every edge before any data, as the prior has it.
    settled  bool [N, N], pairs that stay the regression's.
    """

    def __init__(self, graphs: PretrainedGraphs, given: Tensor, settled: Tensor) -> None:
        self.graphs, self.given, self.settled = graphs, given, settled

    @torch.no_grad()
    def __call__(self, probability: Tensor, windows: Windows, stores: NDArray[np.int64]) -> Tensor:
        """[B, N, N] from the regression's, of the stores at these positions; the regression's where
        a history is too short for the prior or unlike all its laws.

        The prior reads one store at a time: its answers do not depend on others by a bit.
        """
        both = [
            self._of_store(own, windows.full(stores[k : k + 1]))
            for k, own in enumerate(probability.double())
        ]
        return torch.stack(both)

    def _of_store(self, own: Tensor, batch: Batch) -> Tensor:
        statistics = self.graphs.statistics(batch)
        if batch.context_mask.sum() < LEAST_STEPS or bool(self.graphs.unlike(statistics)):
            return own
        read = torch.sigmoid(self.graphs.log_bf(statistics)[0] + torch.logit(self.given))
        odds, prior_odds = (torch.logit(p.double(), eps=_SURE) for p in (own, read))
        both = torch.sigmoid(REGRESSION_WEIGHT * odds + (1 - REGRESSION_WEIGHT) * prior_odds)
        return torch.where(self.settled, own, both)


def combined_edges(
    panel: Panel,
    spec: CalendarSpec,
    signed: Sequence[Pair],
    reactive: Sequence[str],
    given: Given,
) -> CombinedEdges | None:
    """For panels of weeks; None for others, which are in no law of the prior.

    ``given`` are the user's edge_prior, forbidden and required. Those with probability zero or one
    stay as they are, and so do the edges of reactive channels, which no law has.
    """
    if period_of(panel.data.freq) != "W":
        return None
    prior, roles = shipped_prior(), panel.data.roles
    kind = PanelKind(roles, "W", positive_effects(panel.nodes, roles, signed))
    graphs = PretrainedGraphs(kind, spec.groups, prior.network, prior.familiarity)
    probability = edge_probability(panel.nodes, graphs.base.sigmoid(), *given)
    settled = (probability == 0) | (probability == 1)
    settled |= torch.eye(len(roles), dtype=torch.bool)
    settled[reactive_series(panel.nodes, roles, reactive)] = True
    return CombinedEdges(graphs, probability.clamp(_SURE, 1 - _SURE), settled)
