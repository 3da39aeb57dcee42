"""A batch of stores under a fitted regression: coefficients of every receiver, graphs and curves.

All in the scaled units of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Generic, TypeVar

import torch
from torch import Tensor

from causalmmm.engine.ops.export_switch import exports_whole
from causalmmm.engine.regression.calibration import draw_calibrated
from causalmmm.engine.regression.combined_edges import Reading
from causalmmm.engine.regression.design import Observed
from causalmmm.engine.regression.posterior import Draws, Known, chunks, know
from causalmmm.engine.regression.problem import in_single
from causalmmm.engine.regression.state import Regression
from causalmmm.engine.regression.theta import saturated

Value = TypeVar("Value")
_ENDS = torch.tensor([0.05, 0.95], dtype=torch.float64)  # of central 90 % intervals


class Lazily(Mapping[int, Value], Generic[Value]):
    """Values of receivers, each made when it is first asked for."""

    def __init__(self, receivers: Sequence[int], make: Callable[[int], Value]) -> None:
        self._receivers, self._make = tuple(receivers), make
        self._made: dict[int, Value] = {}

    def __getitem__(self, receiver: int) -> Value:
        if receiver not in self._receivers:
            raise KeyError(receiver)
        if receiver not in self._made:
            self._made[receiver] = self._make(receiver)
        return self._made[receiver]

    def __iter__(self) -> Iterator[int]:
        return iter(self._receivers)

    def __len__(self) -> int:
        return len(self._receivers)

    def __contains__(self, receiver: object) -> bool:
        return receiver in self._receivers


@dataclass(frozen=True)
class StorePosterior:
    """What is known of B stores: by receiver, closed-form posteriors and D joint draws, made when
    they are asked for; ``read`` is what the prior reads in them, None without one."""

    regression: Regression
    observed: Observed
    known: Mapping[int, Known]
    drawn: Mapping[int, Draws]
    draws: int
    read: Callable[[], Reading | None]

    def of(self, receivers: Sequence[int]) -> StorePosterior:
        """The same of these receivers alone; what is made for one is there for the other."""
        known, drawn = self.known.__getitem__, self.drawn.__getitem__
        return replace(self, known=Lazily(receivers, known), drawn=Lazily(receivers, drawn))


@dataclass(frozen=True)
class PairTable:
    """[B, N, N] each, sender by receiver.

    probability of the edge; effect, what the sender adds to the receiver per step on average, in
    the long run, while the edge is present; lower and upper, its central 90 % interval.
    """

    probability: Tensor
    effect: Tensor
    lower: Tensor
    upper: Tensor


@dataclass(frozen=True)
class CurveTable:
    """[B, N, G] each: steady response of the target to constant amounts, in the long run.

    effect, lower, upper  while the edge is present, with its central 90 % interval;
    expected              the mean over graphs;
    total                 [D, N, G] draws of the effects of all stores together, in units of
                          ``unit``, where that was given.
    """

    effect: Tensor
    lower: Tensor
    upper: Tensor
    expected: Tensor
    total: Tensor | None = None


def store_posterior(
    regression: Regression,
    observed: Observed,
    *,
    draws: int | None = None,
    seed: int = 0,
    receivers: Sequence[int] | None = None,
) -> StorePosterior:
    """Posterior of these stores, fitted or new, from their own rows."""
    count = draws or regression.config.draws
    chosen = list(regression.receivers) if receivers is None else list(receivers)
    edges = regression.edges
    read = cache(lambda: None if edges is None else edges(observed))
    outcome = regression.layout.shaped  # how spend goes on stays the regression's own
    known = Lazily(chosen, lambda j: know(regression, observed, j, read() if outcome(j) else None))
    drawn = Lazily(chosen, lambda j: draw_calibrated(regression, known[j], observed, count, seed))
    return StorePosterior(regression, observed, known, drawn, count, read)


def responses_of(known: Known, drawn: Draws, some: slice) -> Tensor:
    """[d, B, n, T]: responses of a receiver's senders under some of the draws."""
    shapes, design = drawn.shapes, in_single(known.problem).design
    return design.responses(shapes.decay[some], shapes.slope[some], shapes.half[some])


@torch.no_grad()
def graphs(stores: StorePosterior, seed: int = 1) -> PairTable:
    """Edges and effects of every pair."""
    observed = stores.observed
    rows = observed.mask.to(torch.float64)
    columns: list[list[Tensor]] = []
    for receiver in range(stores.regression.layout.nodes):
        known = stores.known.get(receiver)
        if known is None or not known.fitted.senders:
            columns.append([torch.zeros_like(observed.x[..., 0])] * 4)
            continue
        drawn = draw_calibrated(
            stores.regression, known, observed, min(stores.draws, 100), seed, everything=True
        )
        ranges = chunks(len(drawn.shapes.decay), observed.x) if known.shaped else [(0, 1)]
        sums = [
            (responses_of(known, drawn, slice(*some)) @ rows.unsqueeze(-1)).squeeze(-1)
            for some in ranges
        ]
        mean = torch.cat(sums, 0) / rows.sum(-1, keepdim=True)  # [D or 1, B, n]
        added = mean * drawn.effects / (1 - drawn.own).unsqueeze(-1)  # [D, B, n]
        ends = quantiles(added, _ENDS)
        probability = known.inclusion.probability
        reading = None if known.shaped else stores.read()
        if reading is not None:
            probability = reading.combined(probability, known.fitted.senders, receiver)
        parts = (probability, added.mean(0), ends[0], ends[1])
        columns.append([of_nodes(part, known, observed.x.shape[1]) for part in parts])
    return PairTable(*(torch.stack(parts, -1) for parts in zip(*columns, strict=True)))


def of_nodes(part: Tensor, known: Known, nodes: int, dim: int = -1) -> Tensor:
    """Values of all ``nodes`` along an axis, from those of a receiver's senders; zero elsewhere."""
    senders = known.fitted.senders
    none = torch.zeros_like(part.sum(dim, keepdim=True))
    place = [senders.index(j) if j in senders else len(senders) for j in range(nodes)]
    return torch.cat([part, none], dim).index_select(dim, torch.tensor(place))


@exports_whole
def ascending(values: Tensor) -> Tensor:
    """Values [D, ...] in ascending order along the first axis."""
    return values.sort(0).values


def quantiles(values: Tensor, shares: Tensor) -> Tensor:
    """Quantiles [L, ...] of draws [D, ...] at ``shares`` [L] in [0, 1], interpolated linearly."""
    ordered = ascending(values)
    last = values.shape[0] - 1
    place = shares.to(values.dtype) * last
    below = place.to(torch.int64).clamp_max(last - 1) if last else place.to(torch.int64)
    share = (place - below.to(values.dtype)).view(-1, *[1] * (values.dim() - 1))
    low = ordered[below]
    return low + share * (ordered[below + 1] - low) if last else low


@torch.no_grad()
def curves(
    stores: StorePosterior, amounts: Tensor, seed: int = 1, unit: Tensor | None = None
) -> CurveTable:
    """Response of the target to scaled ``amounts`` [B, N, G] per step of every sender, directly.
    ``unit`` [B], what one of the target's scaled units is worth, asks for the stores' total too.

    Carry-over sums to one, so it does not change what constant spend comes to.
    """
    target, nodes = stores.regression.layout.nodes - 1, amounts.shape[1]
    known, mixed = stores.known[target], stores.drawn[target]
    senders = list(known.fitted.senders)
    if not senders:
        none = torch.zeros_like(amounts, dtype=torch.float64)
        total = None if unit is None else torch.zeros(stores.draws, *amounts.shape[1:]).double()
        return CurveTable(none, none, none, none, total)
    drawn = draw_calibrated(
        stores.regression, known, stores.observed, stores.draws, seed, everything=True
    )
    exposure = amounts[:, senders].to(torch.float64) * known.unit.unsqueeze(-1)  # [B, n, G]
    added = []
    for source in (drawn, mixed):
        shapes = (source.shapes.slope, source.shapes.half)
        slope, half = (s.unsqueeze(1).unsqueeze(-1) for s in shapes)
        gain = (source.effects / (1 - source.own).unsqueeze(-1)).unsqueeze(-1)
        added.append(gain * saturated(exposure, slope, half))  # [D, B, n, G]
    ends = quantiles(added[0], _ENDS)
    parts = (added[0].mean(0), ends[0], ends[1], added[1].mean(0))
    total = None
    if unit is not None:
        summed = (added[0] * unit.to(torch.float64).view(-1, 1, 1)).sum(1)  # [D, n, G]
        total = of_nodes(summed, known, nodes, -2)
    effect, lower, upper, expected = (of_nodes(part, known, nodes, -2) for part in parts)
    return CurveTable(effect, lower, upper, expected, total)
