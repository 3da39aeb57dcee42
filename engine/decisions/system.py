"""How the target of B stores answers to spend, in D joint draws: the counterfactual engine.

Everything is a change from a plan of reference: what a series has besides its senders' responses
cancels, so calendar, level and noise are not needed here. Scaled units of the batch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from causalmmm.engine.regression.contributions import kept
from causalmmm.kernels import adstock_hill


@dataclass(frozen=True)
class Equation:
    """How one series follows from n senders.

    senders              [n] nodes;  late  bool [n], acts one step later instead of within the step.
    decay, slope, half   [D, n], shapes of the responses.
    effect               [D, B, n], what a full response adds; zero where a draw lacks the edge.
    unit                 [B, n], turns a sender's scaled series into exposure.
    stock, last          [D, B, n] and [B, n]: carry-over and exposure just before the first step.
    own                  [D, B], share of a change that is still there a step later.
    noise                [D, B], standard deviation of what else moves the series in a step.
    """

    senders: tuple[int, ...]
    late: tuple[bool, ...]
    decay: Tensor
    slope: Tensor
    half: Tensor
    effect: Tensor
    unit: Tensor
    stock: Tensor
    last: Tensor
    own: Tensor
    noise: Tensor

    def added(self, places: Sequence[int], x: Tensor) -> Tensor:
        """[D, B, T]: what senders in these places add, x [1 or D, B, p, T] being their series."""
        response = self.responses(places, x)
        return torch.einsum("dbp,dbpt->dbt", self.effect[..., self._chosen(places)], response)

    def responses(self, places: Sequence[int], x: Tensor) -> Tensor:
        """[D, B, p, T]: responses to series x [1 or D, B, p, T] of the senders in these places, of
        which one may be there several times."""
        chosen = self._chosen(places)
        exposure = x * self.unit[:, chosen].unsqueeze(-1)  # [1 or D, B, p, T]
        late = torch.tensor([self.late[p] for p in places])
        if late.any():
            first = self.last[:, chosen].expand(exposure.shape[:-1]).unsqueeze(-1)
            delayed = torch.cat([first, exposure[..., :-1]], -1)
            exposure = torch.where(late.unsqueeze(-1), delayed, exposure)
        shapes = (self.decay, self.slope, self.half)
        decay, slope, half = (s[:, chosen].unsqueeze(1).unsqueeze(-1) for s in shapes)
        return adstock_hill(exposure, decay, slope, half, self.stock[..., chosen])[0]

    def _chosen(self, places: Sequence[int]) -> Any:
        """An index of the senders; a slice where nothing has to be copied."""
        if list(places) == list(range(len(self.senders))):
            return slice(None)
        return slice(places[0], places[0] + 1) if len(places) == 1 else list(places)

    def draws(self, some: slice) -> Equation:
        """The equation in some of its draws."""
        parts = ("decay", "slope", "half", "effect", "stock", "own", "noise")
        return replace(self, **{name: getattr(self, name)[some] for name in parts})

    def to(self, dtype: torch.dtype) -> Equation:
        """The equation in another precision."""
        parts: dict[str, Any] = {
            name: part.to(dtype) for name, part in vars(self).items() if isinstance(part, Tensor)
        }
        return replace(self, **parts)


@dataclass(frozen=True)
class System:
    """Equations of mediators, by rank, and of the target (the last one), around a reference plan.

    series  [1 or D, B, N, T], all series under the plan of reference: what happened, or what is
            expected.
    """

    equations: Mapping[int, Equation]
    series: Tensor
    _before: dict[tuple[int, ...], Tensor] = field(default_factory=dict, repr=False, compare=False)

    @property
    def target(self) -> int:
        return list(self.equations)[-1]

    @property
    def mediators(self) -> list[int]:
        return list(self.equations)[:-1]

    @property
    def draws(self) -> int:
        return len(self.equations[self.target].own)

    def change(self, spend: Mapping[int, Tensor], through: Collection[int] | None = None) -> Tensor:
        """[D, B, T]: change of the target when series get new values [1 or D, B, T].

        Mediators are predicted anew in role order (Jin et al., 2017, eq. 10, rolled through the
        graph); with ``through`` only these ones are, and the others held at what they are.
        What acts against role order (the target on a mediator, mediators of one rank on each other)
        is left as it was.
        """
        changed, steps = dict(spend), self.series.shape[-1]
        for receiver, equation in self.equations.items():
            held = through is not None and receiver not in through and receiver != self.target
            moved = [p for p, s in enumerate(equation.senders) if s in changed]
            if held or not moved:
                continue
            now = [changed[equation.senders[place]].expand(-1, -1, steps) for place in moved]
            draws = max(len(series) for series in now)
            x = torch.stack([series.expand(draws, -1, -1) for series in now], -2)
            result = equation.added(moved, x) - self._reference(receiver, moved)
            result = kept(result, equation.own.unsqueeze(-1))
            changed[receiver] = self.series[:, :, receiver] + result
        if self.target in changed:
            return changed[self.target] - self.series[:, :, self.target]
        return self.series.new_zeros(self.draws, self.series.shape[1], steps)

    def _reference(self, receiver: int, places: list[int]) -> Tensor:
        """[D, B, T]: what the senders in these places add under the plan of reference; kept, as
        every plan is compared with it."""
        key = (receiver, *places)
        if key not in self._before:
            equation = self.equations[receiver]
            senders = [equation.senders[place] for place in places]
            with torch.no_grad():
                self._before[key] = equation.added(places, self.series[:, :, senders])
        return self._before[key]

    def select(self, some: slice) -> System:
        """The system in some of its draws."""
        equations = {j: equation.draws(some) for j, equation in self.equations.items()}
        return System(equations, self.series if len(self.series) == 1 else self.series[some])

    def to(self, dtype: torch.dtype) -> System:
        """The system in another precision."""
        equations = {j: equation.to(dtype) for j, equation in self.equations.items()}
        return System(equations, self.series.to(dtype))
