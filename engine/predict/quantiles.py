"""Central intervals of mixtures of normal distributions: every simulated future leaves one.

Plain tensor operations only, which an exported graph spells as they are.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_TURNS = 5  # of Newton's method
_LEAST = 1e-6  # share of a tail
_FAR = 8.0  # where densities are zero to float32, and not yet denormal numbers, which are slow


def mixture_quantiles(location: Tensor, scale: Tensor, weight: Tensor, level: Tensor) -> Tensor:
    """Ends [2 L, ...], lower then upper, of central intervals with shares ``level`` [L].

    The mixture has components N(location, scale^2) with ``weight`` in 0..1, each [D, ...]; what the
    weights leave lies below all of them, and an end that falls there is -inf. An end lies between
    those of the components; there Newton's method finds it on log odds, and halves what is known
    to hold it where a step would lead outside.
    """
    tail = 0.5 * (1 - level)
    place = torch.stack([tail, 1 - tail], dim=-1).flatten()
    place = place.view(-1, *[1] * (location.ndim - 1))
    whole = weight.mean(0).clamp_min(1e-9)
    share = 1 - (1 - place) / whole  # of the components, [2 L, ...]
    aim = share.clamp(_LEAST, 1 - _LEAST)
    odds, normal = torch.logit(aim), normal_quantile(aim)
    part = weight / (whole * len(weight))
    middle = (part * location).sum(0)
    width = (part * (scale.square() + (location - middle).square())).sum(0).sqrt()
    location, scale = location.unsqueeze(1), scale.unsqueeze(1)
    ends = location + scale * normal
    least, most = ends.amin(0) - 1e-3 * width, ends.amax(0) + 1e-3 * width
    end = (middle + width * normal).maximum(least).minimum(most)
    narrow = math.sqrt(0.5) / scale
    half = 0.5 * part.unsqueeze(1)
    density = 2 / math.sqrt(math.pi) * half * narrow
    for _ in range(_TURNS):
        distance = ((end - location) * narrow).clamp(-_FAR, _FAR)
        reached = (0.5 + _total(half * torch.erf(distance))).clamp(1e-7, 1 - 1e-7)
        steep = _total(density * (-distance * distance).exp()).clamp_min(1e-12)
        below = reached < aim
        least, most = torch.where(below, end, least), torch.where(below, most, end)
        step = (odds - torch.logit(reached)) * reached * (1 - reached) / steep
        inside = (end + step >= least) & (end + step <= most)
        end = torch.where(inside, end + step, 0.5 * (least + most))
    return torch.where(share > 0, end, -torch.inf)


def _total(parts: Tensor) -> Tensor:
    """Sum over axis 0 as a matrix product, which runs through the rest of the axes."""
    ones = torch.ones(1, parts.shape[0], dtype=parts.dtype, device=parts.device)
    return (ones @ parts.flatten(1)).view(parts.shape[1:])


def normal_quantile(share: Tensor) -> Tensor:
    """Quantiles of the normal distribution to 5e-4 (Abramowitz and Stegun, 26.2.23)."""
    t = (-2 * torch.minimum(share, 1 - share).log()).sqrt()
    above = 2.515517 + t * (0.802853 + t * 0.010328)
    below = 1 + t * (1.432788 + t * (0.189269 + t * 0.001308))
    return (t - above / below) * (share - 0.5).sign()
