"""Graphs of stores from the pretrained prior: the calendar taken off, then its network."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from causalmmm.engine.batches.batch import Batch
from causalmmm.engine.batches.masks import as_receivers
from causalmmm.engine.nn.baseline import CalendarBaseline
from causalmmm.engine.prior import (
    PairStatistics,
    PanelKind,
    PriorNetwork,
    kinds_of,
    pair_statistics,
)


class PretrainedGraphs(nn.Module):
    """Evidence for edges of stores that nothing was fitted on, as the pretrained network reads it.

    kind     what is known of the panel's series.
    groups   groups of the calendar's terms (``CalendarSpec.groups``); its shrinkage is the usual.
    network  the pretrained network.
    """

    positive: Tensor

    def __init__(self, kind: PanelKind, groups: tuple[str, ...], network: PriorNetwork) -> None:
        super().__init__()
        self.kind, self.network = kind, network
        self.register_buffer("positive", kind.positive)
        self.calendar = CalendarBaseline(len(kind.roles), groups)
        self.requires_grad_(False)

    def forward(self, batch: Batch) -> Tensor:
        """Log Bayes factors [B, N, N] of every edge, from the context rows; the diagonal is zero.
        """
        return self.log_bf(self.statistics(batch))

    def log_bf(self, statistics: PairStatistics) -> Tensor:
        """The network's log odds [B, N, N] less those that are usual for such pairs."""
        kinds = kinds_of(self.kind.roles)
        log_bf = self.network(statistics.features) - self.network.base[kinds][:, kinds]
        return log_bf * (1 - torch.eye(len(kinds), device=log_bf.device))

    @torch.no_grad()
    def statistics(self, batch: Batch) -> PairStatistics:
        """What the network reads of a batch."""
        spend = torch.tensor(self.kind.spend, device=batch.x.device)
        projection = self.calendar.project(batch.basis, batch.context_mask)
        series, active = as_receivers(batch.x, spend, batch.context_mask)
        sent = self.calendar(batch.x, projection)[1]
        received = self.calendar(series, projection)[1] * active * batch.valid.unsqueeze(1)
        kind = replace(self.kind, positive=self.positive)  # loaded weights bring their own signs
        return pair_statistics(
            batch.x, sent, received, active, batch.context_mask, projection.residual, kind
        )
