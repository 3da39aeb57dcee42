"""Statistics of every ordered pair of a store's series, as the pretrained network reads them.

Closed form, no parameters, no gradient. Series come as calendar residuals, so that nothing here
knows dates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from causalmmm.engine.evidence.ard import ard_evidence
from causalmmm.engine.evidence.features import squashed
from causalmmm.engine.evidence.window_stats import window_statistics
from causalmmm.engine.prior.innovations import innovation_features
from causalmmm.engine.prior.responses import response_features

LAGS = 7
_KINDS = 3  # spend, mediator, target
_LEAST_SPREAD = 1e-6


@dataclass(frozen=True)
class PanelKind:
    """What is known of a panel's N series beside their values.

    roles     of the series, in order (``spec.series.ROLES``); the target is last.
    period    "D", "W" or "M".
    positive  bool [N, N], effects that cannot be negative.
    """

    roles: tuple[str, ...]
    period: str
    positive: Tensor

    @property
    def spend(self) -> list[bool]:
        """[N]: channels and organic series, whose zero is a pause."""
        return [kind == 0 for kind in kinds_of(self.roles)]

    @property
    def rank(self) -> Tensor:
        """int64 [N]: the order in which a step settles series; spend is settled at once."""
        return (torch.arange(len(self.roles)) - sum(self.spend) + 1).clamp_min(0)


def kinds_of(roles: Sequence[str]) -> list[int]:
    """0 for spend, 1 for mediators, 2 for the target."""
    return [{"mediator": 1, "target": 2}.get(role, 0) for role in roles]


@dataclass(frozen=True)
class PairStatistics:
    """Statistics of B stores.

    features  [B, N, N, F], sender by receiver; the diagonal holds each series with itself.
    log_bf    [B, N, N], the per-store evidence among them: log Bayes factors of every edge.
    """

    features: Tensor
    log_bf: Tensor


@torch.no_grad()
def pair_statistics(
    x: Tensor,
    sent: Tensor,
    received: Tensor,
    active: Tensor,
    context_mask: Tensor,
    residual: Callable[[Tensor], Tensor],
    kind: PanelKind,
) -> PairStatistics:
    """Statistics of stores from their context rows.

    x               [B, N, T], series in units of their scale.
    sent, received  [B, N, T], their calendar residuals as senders and as receivers.
    active          0 or 1, [B, N, T]; receivers are explained only on active rows.
    context_mask    bool [B, T].
    residual        what the calendar leaves of any series [B, R, T].
    """
    window = window_statistics(sent, received, active, context_mask, LAGS)
    log_bf = ard_evidence(sent, received, active, context_mask, kind.positive, LAGS)
    responses = response_features(
        x, sent, received, active, context_mask, residual, kind.rank, kind.positive
    )
    mutual, products, shocks = innovation_features(
        responses.innovations, responses.used, responses.before
    )
    pairs = torch.cat(
        [window.edges, squashed(log_bf).unsqueeze(-1), responses.edges, products], dim=-1
    )
    nodes = torch.cat(
        [window.nodes, _node_features(x, received, active, context_mask), shocks], dim=-1
    )
    count = len(kind.roles)
    features = torch.cat(
        [
            pairs,
            pairs.transpose(1, 2),
            mutual,
            nodes.unsqueeze(2).expand(-1, -1, count, -1),
            nodes.unsqueeze(1).expand(-1, count, -1, -1),
            known_features(kind).to(x).unsqueeze(0).expand(x.shape[0], -1, -1, -1),
        ],
        dim=-1,
    )
    return PairStatistics(features, log_bf)


def known_features(kind: PanelKind) -> Tensor:
    """[N, N, 10]: kinds of sender and receiver, signs, order within a step, whether steps are
    longer than days, number of series; what is known of a pair before any data."""
    nodes = len(kind.roles)
    one_hot = torch.eye(_KINDS)[kinds_of(kind.roles)]
    ordered = kind.rank.unsqueeze(1) < kind.rank
    coarse = torch.full((nodes, nodes, 1), float(kind.period != "D"))
    size = torch.full((nodes, nodes, 1), nodes / 8.0).log()
    return torch.cat(
        [
            one_hot.unsqueeze(1).expand(-1, nodes, -1),
            one_hot.expand(nodes, -1, -1),
            torch.stack([kind.positive.cpu(), ordered], -1).float(),
            coarse,
            size,
        ],
        dim=-1,
    )


def _node_features(x: Tensor, received: Tensor, active: Tensor, context_mask: Tensor) -> Tensor:
    """[B, N, 4] of every series: share of its rows without a value, how much the calendar leaves of
    it, how much of that one lasting step explains, and how much a straight line does."""
    rows = context_mask.to(x.dtype).unsqueeze(1)
    count = rows.sum(-1).clamp_min(2.0)
    level = (x * rows).sum(-1, keepdim=True) / count.unsqueeze(-1)
    whole = ((x - level).square() * rows).sum(-1)
    series = received * active * rows
    left = series.square().sum(-1).clamp_min(_LEAST_SPREAD)
    before, number = series.cumsum(-1), rows.cumsum(-1)
    split = (number * (count.unsqueeze(-1) - number)).clamp_min(1.0)
    # the mean of the residual is near zero, so that a step shows in its running sum
    step = (before.square() * count.unsqueeze(-1) / split * rows).amax(-1) / left
    time = (number - (count.unsqueeze(-1) + 1) / 2) * rows
    line = (series * time).sum(-1).square() / time.square().sum(-1).clamp_min(1.0) / left
    share = (left / whole.clamp_min(_LEAST_SPREAD)).clamp(0.0, 1.5)
    silent = 1 - (active * rows).sum(-1) / count
    return torch.stack([silent, share, step.clamp(0.0, 1.0), line.clamp(0.0, 1.0)], dim=-1)
