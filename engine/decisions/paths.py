"""Effects of channels on the target over a period: direct, by each mediator, and together.

A receiver is linear in the responses of its senders, so a channel's response is worked out once for
every factor on its spend, and serves the plan that changes it alone and the one that changes all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from causalmmm.engine.decisions.system import Equation, System
from causalmmm.engine.ops.export_switch import exporting
from causalmmm.engine.regression.contributions import kept

_VALUES_AT_ONCE = 2_000_000  # of a series by draw, store, plan and step


@dataclass(frozen=True)
class PathEffects:
    """Draws [D, B, C + 1] of the target's change summed over the counted steps; the last column is
    of all channels together.

    total   mediators predicted anew;  direct  mediators held at what they are;
    via     [D, B, C + 1, M], only this mediator predicted anew, the direct part not counted.
    """

    total: Tensor
    direct: Tensor
    via: Tensor


@torch.no_grad()
def path_effects(
    system: System,
    channels: Sequence[int],
    factors: Sequence[float],
    period: Tensor,
    counted: Tensor,
) -> list[PathEffects]:
    """What the channels' spend in a period does, against each of the ``factors`` times as much.

    period   bool [B, T], steps whose spend is scaled;  counted  [B, T], weights with which the
    target's change is summed. The sign is that of spend: with a factor of 0 the loss of everything,
    with 1.01 minus the gain of one per cent. Sums are float64 over steps that are computed in the
    precision of the system, so that parts sum to the total whatever that is.
    """
    if exporting():
        size = system.draws
    else:
        size = max(1, _VALUES_AT_ONCE // (period.numel() * (len(channels) + 1)))
    parts = []
    for begin in range(0, system.draws, size):
        some = _Plans(system.select(slice(begin, begin + size)), channels, period, counted)
        parts.append([some.effects(factor) for factor in factors])
    return [
        PathEffects(*(torch.cat(draws) for draws in zip(*effects, strict=True)))
        for effects in zip(*parts, strict=True)
    ]


@dataclass(frozen=True)
class _Plans:
    """S = C + 1 plans at once: of each channel alone, and of all of them."""

    system: System
    channels: Sequence[int]
    period: Tensor
    counted: Tensor
    _before: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def effects(self, factor: float) -> tuple[Tensor, Tensor, Tensor]:
        """total and direct [D, B, S], via [D, B, S, M]; a loss is above zero."""
        system = self.system
        alone: dict[int, Tensor] = {}  # losses of mediators [D, B, S, T], other mediators held
        whole: dict[int, Tensor] = {}  # the same with the others predicted anew
        for mediator in system.mediators:
            equation = system.equations[mediator]
            direct = _with_all(self._of_channels(equation, factor))
            passed = [self._of_mediator(equation, m, lost) for m, lost in whole.items()]
            alone[mediator] = _kept(direct, equation.own)
            felt = [part for part in passed if part is not None]
            whole[mediator] = _kept(direct + sum(felt), equation.own) if felt else alone[mediator]
        equation = system.equations[system.target]
        largest = self.counted.double().abs().amax(-1, keepdim=True).clamp_min(1e-300)  # [B, 1]
        weight = _adjoint((self.counted / largest).to(system.series.dtype), equation.own)

        def counted(lost: Tensor | None) -> Tensor:
            if lost is None:
                return torch.zeros_like(direct)
            return (lost @ weight.unsqueeze(-1)).squeeze(-1).double() * largest

        direct = _with_all(counted(self._of_channels(equation, factor)))
        total, via = direct, []
        for mediator, lost in whole.items():
            through = counted(self._of_mediator(equation, mediator, lost))
            total = total + through
            if alone[mediator] is not lost:
                through = counted(self._of_mediator(equation, mediator, alone[mediator]))
            via.append(through)
        return total, direct, torch.stack(via, -1) if via else direct.unsqueeze(-1)[..., :0]

    def _of_channels(self, equation: Equation, factor: float) -> Tensor:
        """[D, B, C, T]: what a receiver loses by each channel itself, step by step."""
        x = self.system.series
        scale = torch.where(self.period, factor, 1.0).to(x.dtype)
        lost: dict[int, Tensor] = {}  # [D, B, T]
        for column, channel in enumerate(self.channels):
            if channel in equation.senders:
                place = equation.senders.index(channel)
                now = equation.responses([place], (x[:, :, channel] * scale).unsqueeze(-2))
                change = (self._reference(equation, place) - now).squeeze(-2)
                lost[column] = change * equation.effect[..., place, None]
        none = torch.zeros_like(equation.own.unsqueeze(-1) * x[:, :, 0])
        return torch.stack([lost.get(column, none) for column in range(len(self.channels))], 2)

    def _of_mediator(self, equation: Equation, mediator: int, lost: Tensor) -> Tensor | None:
        """[D, B, S, T]: what a receiver loses by a mediator's loss; None where it is no sender."""
        if mediator not in equation.senders or mediator not in self.system.equations:
            return None
        place = equation.senders.index(mediator)
        series = self.system.series[:, :, mediator].unsqueeze(-2)
        now = equation.responses([place] * lost.shape[2], series - lost)
        change = self._reference(equation, place) - now
        return change * equation.effect[..., place, None, None]

    def _reference(self, equation: Equation, place: int) -> Tensor:
        """[D or 1, B, 1, T]: response to a sender as it is."""
        key = (id(equation), place)
        if key not in self._before:
            series = self.system.series[:, :, equation.senders[place]].unsqueeze(-2)
            self._before[key] = equation.responses([place], series)
        return self._before[key]


def _with_all(parts: Tensor) -> Tensor:
    """[D, B, C + 1, ...]: parts of single channels, then their sum."""
    return torch.cat([parts, parts.sum(2, keepdim=True)], 2)


def _kept(part: Tensor, own: Tensor) -> Tensor:
    """The part [D, B, S, T] with what the receiver's own past [D, B] keeps of it."""
    return kept(part, own.unsqueeze(-1)) if exporting() or bool(own.any()) else part


def _adjoint(weight: Tensor, own: Tensor) -> Tensor:
    """[D, B, T]: weights of changes that come to ``weight`` [B, T] of what is kept of them."""
    return kept(weight.flip(-1).expand(*own.shape, -1), own).flip(-1)
