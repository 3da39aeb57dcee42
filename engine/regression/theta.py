"""Parameters that all stores share, as one flat vector with a prior: shapes, effects, term scales.

A parameter is stored as its distance from the prior's centre in prior standard deviations, which is
also what makes the optimiser's problem well scaled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from causalmmm.engine.regression.config import RegressionConfig

_DECAY_WIDTH = 1.5  # unit of a decay's logit; its prior is a Beta distribution
_SCALES = {"intercept": 1.0, "trend": 0.3, "weekly": 0.2, "yearly": 0.2, "holiday": 0.1}
_SCALE_WIDTH = 1.0  # of the logarithm of a term scale
_SHARED_WIDTH = 0.3  # of a coefficient that stores share
_TINY = 1e-300
_NOISE = (-2.0, 1.5)  # logarithm of a noise standard deviation, in units of the receiver's level


@dataclass(frozen=True)
class Shapes:
    """Values that enter the model, each [..., n] but for scales [..., kinds] and shared [..., Q].

    mean    effect that stores share (of a signed pair: the scale of effects around zero);
    spread  standard deviation of a store's effect around it.
    """

    decay: Tensor
    slope: Tensor
    half: Tensor
    mean: Tensor
    spread: Tensor
    scales: Tensor
    shared: Tensor


@dataclass(frozen=True)
class ThetaSpec:
    """Names, sizes and priors of the entries of a vector theta [..., K].

    centre, width  [K] of the normal prior; a decay has a Beta prior, which these only scale.
    """

    senders: int
    kinds: tuple[str, ...]
    kind: tuple[int, ...]
    centre: Tensor
    width: Tensor
    beta: tuple[float, float]

    @property
    def sizes(self) -> list[int]:
        return [*[self.senders] * 5, len(self.kinds), len(self.kind)]

    def unpack(self, theta: Tensor) -> Shapes:
        """Values of parameters [..., K]."""
        parts = (self.centre + self.width * theta).split(self.sizes, -1)
        decay, slope, half, mean, spread, scales, shared = parts
        effect = mean.exp()
        return Shapes(
            torch.sigmoid(decay),
            slope.exp(),
            half.exp(),
            effect,
            effect * spread.exp(),
            scales.exp(),
            shared,
        )

    def log_prior(self, theta: Tensor) -> Tensor:
        """[...]: log density of theta [..., K]."""
        n = self.senders
        decay = self.centre[:n] + self.width[:n] * theta[..., :n]
        one, two = self.beta
        logs = one * torch.nn.functional.logsigmoid(decay)
        logs = logs + two * torch.nn.functional.logsigmoid(-decay)
        constant = math.lgamma(one + two) - math.lgamma(one) - math.lgamma(two)
        constant += math.log(_DECAY_WIDTH)
        normal = -0.5 * theta[..., n:].square() - 0.5 * math.log(2 * math.pi)
        return logs.sum(-1) + n * constant + normal.sum(-1)

    def index(self, name: str) -> slice:
        """Where a parameter's entries lie."""
        names = ("decay", "slope", "half", "mean", "spread", "scales", "shared")
        begin = sum(self.sizes[: names.index(name)])
        return slice(begin, begin + self.sizes[names.index(name)])


def theta_spec(
    config: RegressionConfig,
    senders: int,
    kinds: tuple[str, ...],
    kind: tuple[int, ...],
    level: float,
) -> ThetaSpec:
    """Priors of one receiver; ``level`` is the centre of its intercept."""
    share = math.log(config.effect_share / max(senders, 1))
    scales = [math.log(_SCALES.get(name, 0.1 if name == "control" else 0.5)) for name in kinds]
    begins = [level] + [0.0] * (len(kind) - 1)
    blocks = [
        (-0.5, _DECAY_WIDTH),
        config.log_slope,
        config.log_half,
        (min(share, -1.0), config.effect_width),
        config.log_spread,
    ]
    centre = [c for c, _ in blocks for _ in range(senders)] + scales + begins
    width = [w for _, w in blocks for _ in range(senders)]
    width += [_SCALE_WIDTH] * len(kinds) + [1.0] + [_SHARED_WIDTH] * (len(kind) - 1)
    middle, unit = (torch.tensor(v, dtype=torch.float64) for v in (centre, width))
    return ThetaSpec(senders, kinds, kind, middle, unit, config.decay)


def saturated(stock: Tensor, slope: Tensor, half: Tensor) -> Tensor:
    """Hill's curve of a stock, odd in it, as in ``kernels.adstock_hill``."""
    size = stock.abs().clamp_min(_TINY)
    return stock.sign() * torch.sigmoid(slope * (size.log() - half.log()))


def noise_log_prior(log_noise: Tensor) -> Tensor:
    """Log density of the logarithms of noise standard deviations, elementwise."""
    centre, width = _NOISE
    return -0.5 * ((log_noise - centre) / width).square()


def coefficient_prior(spec: ThetaSpec, shapes: Shapes, positive: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and scale [..., Q + n] of the coefficients of terms, then senders.

    Effects that cannot be negative lie around their shared mean, others around zero.
    """
    kind = torch.tensor(spec.kind)
    middle = torch.where(positive, shapes.mean, 0.0)
    around = torch.where(positive, shapes.spread, shapes.mean)
    centre = torch.cat([shapes.shared, middle], -1)
    return centre, torch.cat([shapes.scales[..., kind], around], -1)
