"""Graphs of stores from the pretrained prior: the calendar taken off, then its network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from causalmmm.engine.batches.batch import Batch
from causalmmm.engine.nn.baseline import CalendarBaseline
from causalmmm.engine.prior import (
    Familiarity,
    PairStatistics,
    PanelKind,
    PriorNetwork,
    kinds_of,
    pair_statistics,
)

LEAST_STEPS = 24  # of a history: below, regressions on seven lags have nothing to say


class PretrainedGraphs(nn.Module):
    """Evidence for edges of stores that nothing was fitted on, as the pretrained network reads it.

    kind         what is known of the panel's series.
    groups       groups of the calendar's terms (``CalendarSpec.groups``); its shrinkage is usual.
    network      the pretrained network.
    familiarity  tells stores that are unlike every law; they get per-store evidence instead.

    ``set_panel`` tells what the stores of a panel have in common; before, every store is alone.
    """

    positive: Tensor
    panel: Tensor
    panel_stores: Tensor

    def __init__(
        self,
        kind: PanelKind,
        groups: tuple[str, ...],
        network: PriorNetwork,
        familiarity: Familiarity,
    ) -> None:
        super().__init__()
        nodes = len(kind.roles)
        self.kind, self.network, self.familiarity = kind, network, familiarity
        self.groups = groups
        self.calendar = CalendarBaseline(nodes, groups)
        self.register_buffer("positive", kind.positive)
        self.register_buffer("panel", torch.zeros(1, nodes, nodes, network.width))
        self.register_buffer("panel_stores", torch.zeros(1))
        self.requires_grad_(False)

    def of(self, nodes: Sequence[int]) -> PretrainedGraphs:
        """Reads some of the series, which alone it is shown, with the same network."""
        if len(nodes) == len(self.kind.roles):
            return self
        some = list(nodes)
        roles = tuple(self.kind.roles[i] for i in some)
        kind = replace(self.kind, roles=roles, positive=self.positive[some][:, some])
        return PretrainedGraphs(kind, self.groups, self.network, self.familiarity)

    def forward(self, batch: Batch) -> Tensor:
        """Log Bayes factors [B, N, N] of every edge, from context rows; zero on the diagonal."""
        return self.log_bf(self.statistics(batch))

    @torch.no_grad()
    def statistics(self, batch: Batch) -> PairStatistics:
        """What the network reads of a batch."""
        spend = torch.tensor(self.kind.spend, device=batch.x.device)
        left = self.calendar.explain(batch, spend)
        kind = replace(self.kind, positive=self.positive)  # loaded weights bring their own signs
        return pair_statistics(
            *(batch.x, left.sent, left.received, left.active, batch.context_mask),
            *(left.projection.residual, kind),
        )

    @torch.no_grad()
    def log_bf(self, statistics: PairStatistics) -> Tensor:
        """The network's log odds [B, N, N] less those that are usual for such pairs; evidence of
        stores that are unlike every law."""
        states = self.network.states(statistics.features)
        # a panel of one store is that store: its own state, as in training
        panel = torch.where(self.panel_stores.view(1, 1, 1, 1) > 1, self.panel, states[1])
        odds = self.network.logits(states, panel, self.panel_stores.clamp_min(1))
        read = (odds - self.base) * (1 - torch.eye(odds.shape[1], device=odds.device))
        return torch.where(self.unlike(statistics)[:, None, None], statistics.log_bf, read)

    @torch.no_grad()
    def unlike(self, statistics: PairStatistics) -> Tensor:
        """bool [B]: stores unlike every law that the prior was trained on."""
        far: Tensor = self.familiarity(statistics.features) > 1
        return far

    @property
    def base(self) -> Tensor:
        """[N, N]: log odds of an edge that are usual for such pairs, before any data."""
        return usual_log_odds(self.kind.roles, self.network)

    @torch.no_grad()
    def set_panel(self, statistics: Sequence[PairStatistics]) -> None:
        """Let stores be read as members of the panel that these statistics are of."""
        states = [self.network.states(some.features)[1] for some in statistics]
        stores = sum(len(state) for state in states)
        self.panel.copy_(torch.stack([state.sum(0) for state in states]).sum(0) / stores)
        self.panel_stores.fill_(stores)


def usual_log_odds(roles: Sequence[str], network: PriorNetwork) -> Tensor:
    """[N, N]: log odds of an edge by kind of sender and receiver, before any data."""
    kinds = kinds_of(roles)
    return network.base[kinds][:, kinds]
