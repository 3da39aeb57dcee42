"""Which posterior draws agree with experiments, and how wrong the panel is about a channel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_WIDTHS = (0.25, 0.5, 1.0)  # of the logarithm of a channel's factor, equally likely
_RIGHT = 0.5  # prior probability that the panel has a channel right: a factor of one
# Of a factor's logarithm, between a window and all time: where spend reacts to demand, channels'
# factors over 8 weeks were off those over 156 by .09 (root mean square of 173 windows:
# python -m bench.experiments.calibration --drift --seeds 10 11 12 13 14).
_DRIFT = 0.09
_LARGEST = 3.0  # logarithm of the largest factor
_GRID = 601


@dataclass(frozen=True)
class Agreement:
    """Draws that agree with E experiments on K channels.

    index      int64 [D], places among the draws that were weighed, in random order;
    factor     [D, K], what multiplies a channel's effects in each of them;
    effective  number of draws that the weights are worth;
    wrong      [K], probability that the panel is wrong about the channel (its factor is not one).
    """

    index: Tensor
    factor: Tensor
    effective: float
    wrong: Tensor


def agree(
    lifts: Tensor, values: Tensor, errors: Tensor, channel: Tensor, draws: int, seed: int
) -> Agreement:
    """Sampling importance resampling (Rubin, 1988) of joint draws given experiments.

    lifts    [P, E], what each of P draws says of each experiment;  values, errors  [E], what was
    measured, with its standard error;  channel  int64 [E], which of K channels was tested.

    A randomised experiment can contradict a panel whose spend reacted to demand. So each channel
    has a factor on its effects, the same in all stores: one (the panel is right) with probability
    one half, else log-normal around one. It is integrated out of a draw's weight, so draws keep
    weight where panel and experiment differ, and then drawn for each chosen draw. Where it is not
    one, an experiment's window has a factor of its own around it.
    """
    generator = torch.Generator().manual_seed(seed)
    log_factor, prior = _factors(values.dtype)
    drift = torch.where(log_factor == 0, 0.0, _DRIFT).view(1, -1, 1)
    channels = int(channel.max()) + 1
    weight = values.new_zeros(len(lifts))
    posterior = []  # of each channel's factor, [P, G]
    for k in range(channels):
        told = channel == k
        expected = lifts[:, told].unsqueeze(1) * log_factor.exp().view(1, -1, 1)  # [P, G, E_k]
        variance = errors[told].square() + (drift * expected).square()
        misfit = (values[told] - expected).square() / variance + variance.log()
        joint = prior - 0.5 * misfit.sum(-1)
        weight = weight + joint.logsumexp(-1)
        posterior.append(joint.softmax(-1))
    share = weight.softmax(0)
    index = _systematic(share, draws, generator)
    factor, wrong = [], []
    for odds in posterior:
        chosen = torch.multinomial(odds[index], 1, generator=generator).squeeze(-1)
        factor.append(log_factor[chosen].exp())
        wrong.append(1 - (share @ odds)[_GRID // 2])
    effective = float(1 / share.square().sum())
    return Agreement(index, torch.stack(factor, -1), effective, torch.stack(wrong))


def removed_variance(gain: Tensor, lifts: Tensor, errors: Tensor) -> Tensor:
    """[T]: the variance of a gain [D] that each of T tests would remove by itself.

    lifts  [D, T], what the draws say of each test;  errors  [T], its standard error. With joint
    normal draws what is left after a test is var(gain) - cov(gain, lift)^2 / (var(lift) + error^2)
    (the posterior of a linear Gaussian model). The square of a covariance of D draws is too large
    by chance: what independent draws would have is taken off.
    """
    draws = len(gain)
    gain, lifts = gain - gain.mean(), lifts - lifts.mean(0)
    variance, spread = gain.square().sum() / (draws - 1), lifts.square().sum(0) / (draws - 1)
    shared = (gain @ lifts / (draws - 1)).square()
    shared = (shared - (variance * spread - shared).clamp_min(0) / (draws - 1)).clamp_min(0)
    return shared / (spread + errors.square()).clamp_min(torch.finfo(spread.dtype).tiny)


def _factors(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Logarithms [G] of a factor, zero in the middle, and their log prior probabilities."""
    grid = torch.linspace(-_LARGEST, _LARGEST, _GRID, dtype=dtype)
    grid[_GRID // 2] = 0.0
    width = torch.tensor(_WIDTHS, dtype=dtype).unsqueeze(-1)
    normal = (-0.5 * (grid / width).square()).exp() / width
    normal[:, _GRID // 2] = 0.0  # the atom's place
    prior = (1 - _RIGHT) * (normal / normal.sum(-1, keepdim=True)).mean(0)
    prior[_GRID // 2] = _RIGHT
    return grid, prior.log()


def _systematic(share: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """Places [draws], each as often as its share says give or take one, in random order."""
    start = torch.rand(1, generator=generator, dtype=share.dtype)
    ticks = (torch.arange(draws, dtype=share.dtype) + start) / draws
    places = torch.searchsorted(share.cumsum(0), ticks).clamp_max(len(share) - 1)
    return places[torch.randperm(draws, generator=generator)]
