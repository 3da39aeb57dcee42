"""Central intervals of draws, for the model and, under a name of its own, for exported graphs."""

from __future__ import annotations

import torch
from torch import Tensor


def central_intervals(draws: Tensor, level: Tensor) -> Tensor:
    """Ends [..., 2 L], lower then upper, of the central intervals of draws [..., D].

    ``level`` [L] holds shares such as 0.8. Ends lie linearly between two neighbouring draws, as
    those of ``torch.quantile``.
    """
    if torch.compiler.is_exporting():
        return exported_intervals(draws, level)
    return _ends(draws, level)


def _ends(draws: Tensor, level: Tensor) -> Tensor:
    ordered = draws.sort(-1).values
    last = draws.shape[-1] - 1
    place = (1 - level) / 2 * last
    before = place.floor().long()
    share, after = place - before, (before + 1).clamp(max=last)
    low = torch.lerp(ordered[..., before], ordered[..., after], share)
    high = torch.lerp(ordered[..., last - before], ordered[..., last - after], share)
    return torch.stack([low, high], dim=-1).flatten(-2)


@torch.library.custom_op("causalmmm::central_intervals", mutates_args=())
def exported_intervals(draws: Tensor, level: Tensor) -> Tensor:
    return _ends(draws, level)


@exported_intervals.register_fake
def _(draws: Tensor, level: Tensor) -> Tensor:
    return draws.new_empty(*draws.shape[:-1], 2 * level.shape[0])
