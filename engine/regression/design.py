"""What one receiver is regressed on: rows, calendar terms, and the senders that may drive it.

Shapes of responses and priors come from ``theta``; nothing is estimated here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from causalmmm.engine.regression.marginal import Moments
from causalmmm.kernels import adstock_hill

_OWN_RANK = {"channel": 0, "organic": 0, "mediator": 1}
AR_KIND = "ar"


@dataclass(frozen=True)
class Observed:
    """Histories of B stores over T steps, aligned on the right; padding is left of a history.

    x         [B, N, T], each series divided by its store's scale.
    basis     [B, T, Q], calendar terms and controls; the first column is one.
    mask      bool [B, T], rows of the history.
    scale     [B, N], what ``x`` was divided by.
    store     int64 [B], key of the store's sampling noise.
    position  int64 [B, T], place of every row in time, one step apart; also of another panel.
    """

    x: Tensor
    basis: Tensor
    mask: Tensor
    scale: Tensor
    store: Tensor
    position: Tensor

    def select(self, stores: Tensor) -> Observed:
        """The stores at these places [B'] of the batch."""
        return Observed(*(part[stores] for part in vars(self).values()))


def observe(
    x: Tensor, basis: Tensor, mask: Tensor, scale: Tensor, store: Tensor, position: Tensor | None
) -> Observed:
    """Histories in float64 whose padding holds each series' mean, so that it tells nothing."""
    rows = mask.to(torch.float64).unsqueeze(1)  # [B, 1, T]
    x = x.to(torch.float64)
    mean = (x * rows).sum(-1, keepdim=True) / rows.sum(-1, keepdim=True)
    steps = torch.arange(x.shape[-1], device=x.device)
    where = steps.expand(mask.shape) if position is None else position
    return Observed(
        torch.where(mask.unsqueeze(1), x, mean),
        basis.to(torch.float64),
        mask,
        scale.to(torch.float64),
        store,
        where,
    )


@dataclass(frozen=True)
class Layout:
    """Who may drive whom, and when: role order of DESIGN 4.7.

    prior     [N, N], probability that a sender (row) drives a receiver; the diagonal is zero.
    instant   bool [N, N]: the pair acts within the step, else one step later.
    positive  bool [N, N]: its effect cannot be negative.
    rank      [N]: order within a step.
    """

    prior: Tensor
    instant: Tensor
    positive: Tensor
    rank: tuple[int, ...]

    @property
    def nodes(self) -> int:
        return len(self.rank)

    def senders(self, receiver: int) -> list[int]:
        """Nodes that are not forbidden to drive the receiver."""
        return [int(i) for i in self.prior[:, receiver].nonzero().flatten()]

    def shaped(self, receiver: int) -> bool:
        """Whether the shapes of its senders are fitted: it comes after others in a step."""
        return min(self.rank) < self.rank[receiver]


def layout(
    roles: Sequence[str],
    edge_prior: float = 0.5,
    other_prior: float = 0.05,
    prior: Tensor | None = None,
    mediator_rank: Sequence[int] | None = None,
    reactive: Sequence[int] = (),
    positive: Tensor | None = None,
) -> Layout:
    """Layout of ``roles`` (the target last); a ``prior`` [N, N] replaces the usual one.

    ``mediator_rank``, one number per mediator, orders mediators among themselves: those of lower
    rank act on those of higher rank within the step. What ``reactive`` nodes, which follow demand
    within the step, do in it cannot be told from the demand: they act one step later.
    """
    nodes = len(roles)
    above = list(mediator_rank or [0] * list(roles).count("mediator"))
    ranks = iter(above)
    rank = tuple(
        1 + max(above, default=0) + 1
        if role == "target"
        else _OWN_RANK[role] + (next(ranks) if role == "mediator" else 0)
        for role in roles
    )
    order = torch.tensor(rank)
    spend = torch.tensor([role in ("channel", "organic") for role in roles])
    onward = order.unsqueeze(1) < order.unsqueeze(0)  # [N, N], sender comes earlier in a step
    usual = torch.where(onward, edge_prior, other_prior)
    chosen = (usual if prior is None else prior).to(torch.float64).clone()
    chosen.fill_diagonal_(0.0)
    drives = spend.unsqueeze(1) & ~spend.unsqueeze(0) if positive is None else positive
    instant = onward.clone()
    instant[list(reactive)] = False
    return Layout(chosen, instant, drives & ~torch.eye(nodes, dtype=torch.bool), rank)


@dataclass(frozen=True)
class Design:
    """Regression of one receiver over B stores, n senders and Q terms, float64.

    y         [B, T], zero where not in ``rows``;  terms  [B, T, Q], likewise.
    rows      bool [B, T];  count  [B], how many of them.
    exposure  [B, n, T], each sender's exposure, a delay of one step included.
    initial   [B, n], stock of carry-over before the first row.
    kind      int64 [Q], kind of every term;  positive  bool [n].
    rho       AR(1) coefficient of errors; y, terms and responses are then quasi-differences.
    dtype     of responses while they are computed; float32 does for a search, not for a curvature.
    """

    y: Tensor
    terms: Tensor
    rows: Tensor
    exposure: Tensor
    initial: Tensor
    kind: Tensor
    positive: Tensor
    rho: float = 0.0
    dtype: torch.dtype = torch.float64

    @property
    def count(self) -> Tensor:
        return self.rows.sum(-1).to(torch.float64)

    def responses(self, decay: Tensor, slope: Tensor, half: Tensor) -> Tensor:
        """[..., B, n, T] of shapes [..., n], at all rows, before differences are taken."""
        parts = (p.unsqueeze(-2).unsqueeze(-1) for p in (decay, slope, half))
        decay, slope, half = (p.to(self.dtype) for p in parts)
        x, initial = self.exposure.to(self.dtype), self.initial.to(self.dtype)
        return adstock_hill(x, decay, slope, half, initial)[0].to(torch.float64)

    def select(self, stores: Tensor) -> Design:
        """The design of the stores at these places."""
        parts = ("y", "terms", "rows", "exposure", "initial")
        return replace(self, **{name: getattr(self, name)[stores] for name in parts})

    def sender(self, i: int) -> Design:
        """The design with the i-th sender alone."""
        one = slice(i, i + 1)
        exposure, initial = self.exposure[:, one], self.initial[:, one]
        return replace(self, exposure=exposure, initial=initial, positive=self.positive[one])

    def entering(self, response: Tensor) -> Tensor:
        """Columns [..., B, n, T] as they enter the likelihood: differenced, zero elsewhere."""
        return quasi_difference(response, self.rows, self.rho)

    def moments(self, response: Tensor) -> Moments:
        """Statistics of terms, then senders, given all rows of responses [..., B, n, T]."""
        felt, lead = self.entering(response), response.shape[:-3]
        known = torch.cat([self.terms, self.y.unsqueeze(-1)], -1)  # [B, T, Q + 1]
        first = felt.movedim(-3, 0)  # [B, ..., n, T]: one product a store, and terms are not copied
        side = (first.flatten(1, -2) @ known).view(*first.shape[:-1], known.shape[-1])
        side = side.movedim(0, -3)
        fixed = (self.terms.mT @ known).expand(*lead, -1, -1, -1)
        cross, inner = side[..., :-1], felt @ felt.mT
        top = torch.cat([fixed[..., :-1], cross.mT], -1)
        xtx = torch.cat([top, torch.cat([cross, inner], -1)], -2)
        xty = torch.cat([fixed[..., -1], side[..., -1]], -1)
        return Moments(xtx, xty, self.y.square().sum(-1), self.count)

    def moments_with(self, moments: Moments, response: Tensor, i: int, other: Tensor) -> Moments:
        """The ``moments`` [B, ...] of a response [B, n, T], with its i-th sender's row replaced by
        each of the ``other`` [G, B, T]: [G, B, ...]."""
        felt, row = self.entering(response), self.entering(other.unsqueeze(-2))  # [G, B, 1, T]
        place = self.terms.shape[-1] + i
        cross = torch.cat([row @ self.terms, row @ felt.mT], -1).squeeze(-2)  # [G, B, P]
        cross[..., place] = row.square().sum(-1).squeeze(-1)
        xtx = moments.xtx.expand(len(other), -1, -1, -1).clone()
        xtx[..., place, :] = xtx[..., :, place] = cross
        xty = moments.xty.expand(len(other), -1, -1).clone()
        xty[..., place] = (row @ self.y.unsqueeze(-1)).flatten(1)
        return replace(moments, xtx=xtx, xty=xty)

    def with_terms(self, extra: Tensor, kind: int) -> Design:
        """The design with further terms [B, T, L], given at all rows."""
        felt = quasi_difference(extra.mT, self.rows, self.rho).mT
        kinds = torch.full((extra.shape[-1],), kind, device=self.kind.device)
        return replace(
            self, terms=torch.cat([self.terms, felt], -1), kind=torch.cat([self.kind, kinds])
        )


def quasi_difference(series: Tensor, rows: Tensor, rho: float) -> Tensor:
    """v(t) - rho v(t - 1) of series [..., B, n, T] on ``rows`` [B, T], zero elsewhere.

    The first row of a history is weighed by sqrt(1 - rho^2): errors are stationary before it
    (Prais & Winsten, 1954).
    """
    inside = rows.unsqueeze(-2).to(series.dtype)
    if rho == 0.0:
        return series * inside
    before = torch.nn.functional.pad(rows[:, :-1], (1, 0)).unsqueeze(-2)
    last = torch.nn.functional.pad(series[..., :-1], (1, 0))
    changed = torch.where(before, series - rho * last, (1 - rho * rho) ** 0.5 * series)
    return changed * inside


def delayed(series: Tensor, first: Tensor) -> Tensor:
    """The series [..., T] one step later, ``first`` [...] in its first place."""
    return torch.cat([first.unsqueeze(-1), series[..., :-1]], -1)


def means(observed: Observed) -> Tensor:
    """[B, N]: average of each series over its store's history."""
    rows = observed.mask.to(observed.x.dtype).unsqueeze(-1)
    return (observed.x @ rows).squeeze(-1) / rows.sum(1)


def design(
    observed: Observed,
    plan: Layout,
    receiver: int,
    senders: Sequence[int],
    unit: Tensor,
    groups: Sequence[str],
    *,
    own_lag: bool = False,
    rho: float = 0.0,
    skip_first: bool = False,
    warm: float = 1.0,
) -> Design:
    """Design of a receiver; ``unit`` [B, n] turns ``x`` of its senders into exposure.

    ``groups`` name the kind of each calendar term. With ``own_lag`` the receiver's last value is
    one more term. A first row whose past is not known is left out where the past matters, or where
    what is fitted is compared with such a design. Before it every sender was at ``warm`` times its
    mean for ever: 1 for senders that go on, 0 for those that begin with the history.
    """
    initial = warm * means(observed)[:, list(senders)] * unit  # [B, n]
    x = observed.x[:, list(senders)] * unit.unsqueeze(-1)  # [B, n, T]
    x = torch.where(observed.mask.unsqueeze(1), x, initial.unsqueeze(-1))
    late = ~plan.instant[list(senders), receiver]
    exposure = torch.where(late.view(1, -1, 1), delayed(x, initial), x)
    rows = observed.mask
    if own_lag or skip_first or bool(late.any()):
        rows = rows & torch.nn.functional.pad(rows[:, :-1], (1, 0))
    y, terms = observed.x[:, receiver], observed.basis
    kinds = kind_names(groups)
    kind = [kinds.index(name) for name in groups]
    if own_lag:
        terms = torch.cat([terms, delayed(y, y[:, 0]).unsqueeze(-1)], -1)
        kind.append(kinds.index(AR_KIND))
    return Design(
        y=quasi_difference(y.unsqueeze(-2), rows, rho).squeeze(-2),
        terms=quasi_difference(terms.mT, rows, rho).mT,
        rows=rows,
        exposure=exposure,
        initial=initial,
        kind=torch.tensor(kind),
        positive=plan.positive[list(senders), receiver],
        rho=rho,
    )


def kind_names(groups: Sequence[str]) -> list[str]:
    """Kinds of terms, each with a scale of its own, in the order of the numbers that stand for
    them."""
    return [*dict.fromkeys(groups), AR_KIND]
