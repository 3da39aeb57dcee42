"""Effects of channels on the target over a period: direct, by each mediator, and together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from causalmmm.engine.decisions.system import System

_VALUES_AT_ONCE = 30_000_000


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
    factor: float,
    period: Tensor,
    counted: Tensor,
    *,
    paths: bool = True,
) -> PathEffects:
    """What the channels' spend in a period does, against ``factor`` times as much of it.

    period   bool [B, T], steps whose spend is scaled;  counted  [B, T], weights with which the
    target's change is summed. The sign is that of spend: with ``factor`` 0 the loss of everything,
    with 1.01 minus the gain of one per cent. Without ``paths`` only the total is computed, and the
    direct effect is NaN.
    """
    stores, steps = period.shape
    size = max(1, _VALUES_AT_ONCE // max(1, stores * steps * (2 + len(system.mediators))))
    parts = [
        _some(system.select(slice(begin, begin + size)), channels, factor, period, counted, paths)
        for begin in range(0, system.draws, size)
    ]
    return PathEffects(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _some(
    system: System,
    channels: Sequence[int],
    factor: float,
    period: Tensor,
    counted: Tensor,
    paths: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    scale = torch.where(period, factor, 1.0)
    spend = {c: system.series[:, :, c] * scale for c in channels}
    weight = counted.to(system.series.dtype)

    def lost(moved: dict[int, Tensor], through: Sequence[int] | None) -> Tensor:
        return -(system.change(moved, through) * weight).sum(-1)  # [D, B]

    total, direct, via = [], [], []
    for moved in (*({c: spend[c]} for c in channels), spend):
        whole = lost(moved, None)
        total.append(whole)
        split = paths and bool(system.mediators)
        straight = lost(moved, []) if split else whole
        direct.append(straight if paths else torch.full_like(whole, torch.nan))
        alone = len(system.mediators) == 1  # then through it is through all
        by = [whole] if alone else [lost(moved, [m]) for m in system.mediators] if split else []
        single = [through - straight for through in by] if split else []
        empty = straight.new_zeros(*straight.shape, 0)
        via.append(torch.stack(single, -1) if single else empty)
    return torch.stack(total, -1), torch.stack(direct, -1), torch.stack(via, 2)
