"""A batch of stores under a fitted regression: coefficients of every receiver, graphs and curves.

All in the scaled units of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from causalmmm.engine.regression.calibration import draw_calibrated
from causalmmm.engine.regression.design import Observed
from causalmmm.engine.regression.posterior import Draws, Known, chunks, know
from causalmmm.engine.regression.problem import in_single
from causalmmm.engine.regression.state import Regression
from causalmmm.kernels import adstock_hill

Value = TypeVar("Value")


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
    they are asked for."""

    regression: Regression
    observed: Observed
    known: Mapping[int, Known]
    drawn: Mapping[int, Draws]
    draws: int


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
    known = Lazily(chosen, lambda j: know(regression, observed, j))
    drawn = Lazily(chosen, lambda j: draw_calibrated(regression, known[j], observed, count, seed))
    return StorePosterior(regression, observed, known, drawn, count)


def responses_of(known: Known, drawn: Draws, some: slice) -> Tensor:
    """[d, B, n, T]: responses of a receiver's senders under some of the draws."""
    shapes, design = drawn.shapes, in_single(known.problem).design
    return design.responses(shapes.decay[some], shapes.slope[some], shapes.half[some])


@torch.no_grad()
def graphs(stores: StorePosterior, seed: int = 1) -> PairTable:
    """Edges and effects of every pair."""
    nodes, observed = stores.regression.layout.nodes, stores.observed
    rows = observed.mask.to(torch.float64)
    table = [torch.zeros(len(rows), nodes, nodes, dtype=torch.float64) for _ in range(4)]
    for receiver, known in stores.known.items():
        if not known.fitted.senders:
            continue
        place = (slice(None), list(known.fitted.senders), receiver)
        drawn = draw_calibrated(
            stores.regression, known, observed, min(stores.draws, 100), seed, everything=True
        )
        ranges = chunks(len(drawn.own), observed.x.numel()) if known.shaped else [(0, 1)]
        sums = [
            (responses_of(known, drawn, slice(*some)) @ rows.unsqueeze(-1)).squeeze(-1)
            for some in ranges
        ]
        mean = torch.cat(sums) / rows.sum(-1, keepdim=True)  # [D or 1, B, n]
        added = mean * drawn.effects / (1 - drawn.own).unsqueeze(-1)  # [D, B, n]
        ends = added.quantile(torch.tensor([0.05, 0.95], dtype=torch.float64), 0)
        table[0][place] = known.inclusion.probability
        table[1][place], table[2][place], table[3][place] = added.mean(0), ends[0], ends[1]
    return PairTable(*table)


@torch.no_grad()
def curves(
    stores: StorePosterior, amounts: Tensor, seed: int = 1, unit: Tensor | None = None
) -> CurveTable:
    """Response of the target to scaled ``amounts`` [B, N, G] per step of every sender, directly.
    ``unit`` [B], what one of the target's scaled units is worth, asks for the stores' total too.

    Carry-over sums to one, so it does not change what constant spend comes to.
    """
    target = stores.regression.layout.nodes - 1
    known, mixed = stores.known[target], stores.drawn[target]
    senders = list(known.fitted.senders)
    drawn = draw_calibrated(
        stores.regression, known, stores.observed, stores.draws, seed, everything=True
    )
    exposure = amounts[:, senders].to(torch.float64) * known.unit.unsqueeze(-1)  # [B, n, G]
    wide = [torch.zeros_like(amounts, dtype=torch.float64) for _ in range(4)]
    first = torch.zeros((), dtype=torch.float64)
    total = None
    for name, source in (("present", drawn), ("mixed", mixed)):
        slope, half = (s[:, None, :, None] for s in (source.shapes.slope, source.shapes.half))
        response = adstock_hill(exposure, first.view(1, 1, 1, 1), slope, half)[0]  # [D, B, n, G]
        gain = (source.effects / (1 - source.own).unsqueeze(-1)).unsqueeze(-1)
        added = gain * response
        if name == "mixed":
            wide[3][:, senders] = added.mean(0)
            continue
        ends = added.quantile(torch.tensor([0.05, 0.95], dtype=torch.float64), 0)
        wide[0][:, senders] = added.mean(0)
        wide[1][:, senders], wide[2][:, senders] = ends[0], ends[1]
        if unit is not None:
            total = added.new_zeros(len(added), *amounts.shape[1:])
            total[:, senders] = torch.einsum("dbng,b->dng", added, unit.to(added.dtype))
    return CurveTable(wide[0], wide[1], wide[2], wide[3], total)
