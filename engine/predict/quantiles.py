"""Quantiles of mixtures of normal distributions; every simulated future contributes a component.

Only elementary tensor operations, which export to ONNX unchanged.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_NEWTON_STEPS = 5
_MIN_TAIL = 1e-6
_MAX_Z = 8.0  # densities are zero in float32 beyond, but not yet denormal numbers, which are slow


def mixture_quantiles(location: Tensor, scale: Tensor, weight: Tensor, level: Tensor) -> Tensor:
    """Bounds [2 L, ...], lower then upper, of the central intervals of coverage ``level`` [L].

    The mixture has components N(location, scale^2) with ``weight`` in 0..1, each [D, ...]. The mass
    1 - mean(weight) lies below all components; a bound that falls there is -inf. Any other bound
    lies between the smallest and the largest quantile of the components: Newton's method on log
    odds finds it, with bisection where a step would leave that bracket.
    """
    tail = 0.5 * (1 - level)
    probability = torch.stack([tail, 1 - tail], dim=-1).flatten()  # [2 L]
    probability = probability.view(-1, *[1] * (location.ndim - 1))
    total_weight = weight.mean(0).clamp_min(1e-9)
    conditional = 1 - (1 - probability) / total_weight  # given a component, [2 L, ...]
    target = conditional.clamp(_MIN_TAIL, 1 - _MIN_TAIL)
    target_logit, z = torch.logit(target), normal_quantile(target)
    weight = weight / (total_weight * len(weight))  # [D, ...], sums to 1
    mean = (weight * location).sum(0)
    std = (weight * (scale.square() + (location - mean).square())).sum(0).sqrt()
    location, scale = location.unsqueeze(1), scale.unsqueeze(1)  # [D, 1, ...]
    of_components = location + scale * z  # [D, 2 L, ...]
    low, high = of_components.amin(0) - 1e-3 * std, of_components.amax(0) + 1e-3 * std
    bound = (mean + std * z).maximum(low).minimum(high)  # [2 L, ...]
    inverse_scale = math.sqrt(0.5) / scale
    half_weight = 0.5 * weight.unsqueeze(1)
    peak = 2 / math.sqrt(math.pi) * half_weight * inverse_scale
    for _ in range(_NEWTON_STEPS):
        distance = ((bound - location) * inverse_scale).clamp(-_MAX_Z, _MAX_Z)  # [D, 2 L, ...]
        cdf = (0.5 + _sum_first(half_weight * torch.erf(distance))).clamp(1e-7, 1 - 1e-7)
        density = _sum_first(peak * (-distance * distance).exp()).clamp_min(1e-12)
        below = cdf < target
        low, high = torch.where(below, bound, low), torch.where(below, high, bound)
        step = (target_logit - torch.logit(cdf)) * cdf * (1 - cdf) / density
        inside = (bound + step >= low) & (bound + step <= high)
        bound = torch.where(inside, bound + step, 0.5 * (low + high))
    return torch.where(conditional > 0, bound, -torch.inf)


def _sum_first(x: Tensor) -> Tensor:
    """Sum over axis 0 as a matrix product, which is contiguous in the other axes."""
    ones = torch.ones(1, x.shape[0], dtype=x.dtype, device=x.device)
    return (ones @ x.flatten(1)).view(x.shape[1:])


def normal_quantile(probability: Tensor) -> Tensor:
    """Quantiles of the normal distribution to 5e-4 (Abramowitz and Stegun, 26.2.23)."""
    t = (-2 * torch.minimum(probability, 1 - probability).log()).sqrt()
    numerator = 2.515517 + t * (0.802853 + t * 0.010328)
    denominator = 1 + t * (1.432788 + t * (0.189269 + t * 0.001308))
    return (t - numerator / denominator) * (probability - 0.5).sign()
