"""Forecasts under a plan: every series rolled forward in role order within each step.

Planned values are taken as given; everything else is drawn from the regression's posterior.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from causalmmm.engine.regression.answers import StorePosterior
from causalmmm.engine.regression.posterior import Draws, Known, chunks
from causalmmm.kernels import adstock_hill

_LEAST_MEAN = 0.02  # of a series that cannot fall below zero, as a share of its level
_DAMPING = 0.98  # share of a trend's slope that is expected to be left a step later
_TINY = 1e-300


@dataclass(frozen=True)
class Ahead:
    """What is known of the H steps after each history, in scaled units.

    basis      [B, H, Q];  control_std  [B, H, R], deviations of the last R terms, zero where known.
    given      [B, N, H], planned values, NaN where to be forecast.
    floor      bool [B, N], series that cannot fall below zero.
    """

    basis: Tensor
    control_std: Tensor
    given: Tensor
    floor: Tensor


@torch.no_grad()
def simulate(stores: StorePosterior, ahead: Ahead, seed: int = 0) -> Tensor:
    """[D, B, N, H]: joint draws of the future of all series; planned values are as given."""
    plan, observed = stores.regression.layout, stores.observed
    given = ahead.given.to(torch.float64)
    batch, nodes, steps = given.shape
    values = given.expand(stores.draws, -1, -1, -1).clone()
    open_nodes = [j for j in range(nodes) if bool(given[:, j].isnan().any())]
    missing = [j for j in open_nodes if j not in stores.known]
    if missing:
        raise ValueError(f"series {missing} have no plan, and the regression does not hold them")
    rolls = {
        j: _Roll(stores, j, ahead, seed)
        for j in sorted(open_nodes, key=lambda j: (plan.rank[j], j))
    }
    last = observed.x[:, :, -1].expand(stores.draws, -1, -1)
    for step in range(steps):
        before = last if step == 0 else values[..., step - 1]
        for j, roll in rolls.items():
            drawn = roll.step(step, values[..., step], before)
            free = given[:, j, step].isnan()
            values[:, :, j, step] = torch.where(free, drawn, values[:, :, j, step])
    assert values.shape[1] == batch
    return values


def forecast(
    stores: StorePosterior, ahead: Ahead, levels: Tensor, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """:func:`summary` of :func:`simulate`."""
    return summary(simulate(stores, ahead, seed), levels)


def summary(values: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    """Of draws [D, B, N, H] the mean [B, N, H], and ends [B, N, H, 2 L] of the central intervals
    with shares ``levels`` [L]: lower, upper, lower, upper and so on."""
    level = levels.to(torch.float64)
    shares = torch.stack([(1 - level) / 2, (1 + level) / 2], -1).flatten()
    return values.mean(0), values.quantile(shares, 0).movedim(0, -1)


class _Roll:
    """One receiver on its way: carry-over of its senders and the error before, [D, B, ...]."""

    def __init__(self, stores: StorePosterior, receiver: int, ahead: Ahead, seed: int) -> None:
        known, drawn = stores.known[receiver], stores.drawn[receiver]
        observed, plan = stores.observed, stores.regression.layout
        senders = list(known.fitted.senders)
        self.receiver, self.senders, self.drawn = receiver, senders, drawn
        self.rho, self.unit = known.fitted.rho, known.unit
        self.late = ~plan.instant[senders, receiver]
        steps = ahead.basis.shape[1]
        noise = _step_noise(observed.store, stores.draws, steps, seed * 104_729 + receiver)
        self.noise = noise[..., 0]
        basis = _damped(ahead.basis.to(torch.float64), stores.regression.groups)
        self.base = (basis @ drawn.terms.unsqueeze(-1)).squeeze(-1)  # [D, B, H]
        controls = ahead.control_std.shape[-1]
        if controls:
            felt = drawn.terms[..., -controls:].unsqueeze(-2) * ahead.control_std
            self.base = self.base + felt.sum(-1) * noise[..., :1, 1]
        self.floor = ahead.floor[:, receiver]
        self.stock, self.error = _begin(known, drawn, observed.basis, observed.x[:, receiver])
        self.last = observed.x[:, receiver, -1].expand(stores.draws, -1)

    def step(self, at: int, now: Tensor, before: Tensor) -> Tensor:
        """Draws [D, B] of the receiver at a step, given all series now and before [D, B, N]."""
        drawn = self.drawn
        mean = self.base[..., at] + drawn.own * before[..., self.receiver]
        if self.senders:
            x = torch.where(self.late, before[..., self.senders], now[..., self.senders])
            decay = drawn.shapes.decay.unsqueeze(1)
            self.stock = decay * self.stock + (1 - decay) * x * self.unit
            mean = mean + (drawn.effects * self._saturated()).sum(-1)
        mean = mean + self.rho * self.error
        value = _noisy(mean, drawn.noise, self.noise[..., at], self.floor)
        self.error = value - (mean - self.rho * self.error)
        return value

    def _saturated(self) -> Tensor:
        slope, half = (p.unsqueeze(1) for p in (self.drawn.shapes.slope, self.drawn.shapes.half))
        size = self.stock.abs().clamp_min(_TINY)
        return self.stock.sign() * torch.sigmoid(slope * (size.log() - half.log()))


def _begin(known: Known, drawn: Draws, basis: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Stock of carry-over [D, B, n] after the last row, and the error there [D, B]."""
    stock, response = carried(known, drawn, y.shape[-1])
    fitted = (drawn.terms * basis[:, -1]).sum(-1) + (drawn.effects * response).sum(-1)
    return stock, y[:, -1] - fitted


def carried(known: Known, drawn: Draws, rows: int) -> tuple[Tensor, Tensor]:
    """Stock of carry-over [D, B, n] after so many rows, one or more, of the histories, and the
    response [D, B, n] at the last of them.

    In single precision, some draws at a time: ten times as fast, and a stock is a mean.
    """
    design, shapes = known.problem.design, drawn.shapes
    exposure = design.exposure[..., :rows].to(torch.float32)  # late senders' delayed already
    initial = design.initial.to(torch.float32)
    stocks, responses = [], []
    for begin, end in chunks(len(drawn.own), exposure.numel()):
        decay, slope, half = (
            s[begin:end].to(torch.float32).unsqueeze(1).unsqueeze(-1)
            for s in (shapes.decay, shapes.slope, shapes.half)
        )
        response, stock = adstock_hill(exposure, decay, slope, half, initial)
        stocks.append(stock.to(torch.float64))
        responses.append(response[..., -1].clone())  # not a view that holds all rows
    return torch.cat(stocks), torch.cat(responses)


def _noisy(mean: Tensor, sd: Tensor, normal: Tensor, floor: Tensor) -> Tensor:
    """Values around a mean: normal, or with a floor log-normal with the same mean and deviation,
    as cutting noise at zero would raise the mean."""
    positive = mean.clamp_min(_LEAST_MEAN)
    variance = torch.log1p((sd / positive).square())
    above = (positive.log() - 0.5 * variance + variance.sqrt() * normal).exp()
    return torch.where(floor, above, mean + sd * normal)


def _damped(basis: Tensor, groups: tuple[str, ...]) -> Tensor:
    """Calendar terms ahead with a trend that fades (Gardner & McKenzie, 1985)."""
    steps = torch.arange(1, basis.shape[1] + 1, dtype=basis.dtype)
    share = _DAMPING * (1 - _DAMPING**steps) / (1 - _DAMPING) / steps
    fades = torch.tensor([group == "trend" for group in groups])
    return torch.where(fades, basis * share.view(1, -1, 1), basis)


def _step_noise(store: Tensor, draws: int, steps: int, seed: int) -> Tensor:
    """[D, B, H, 2] standard normal numbers, by store; a longer horizon continues a shorter one."""
    noise = []
    for key in store.tolist():
        generator = torch.Generator().manual_seed(seed * 1_000_003 + key + 500_009)
        ahead = torch.randn(steps, draws, 2, generator=generator, dtype=torch.float64)
        noise.append(ahead.transpose(0, 1))
    return torch.stack(noise, 1)
