"""Forecasts under a plan: every series rolled forward in role order within each step.

Planned values are taken as given; everything else is drawn from the regression's posterior.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from causalmmm.engine.ops.counted import as_normal, counted
from causalmmm.engine.ops.export_switch import exporting
from causalmmm.engine.ops.scan import State, roll
from causalmmm.engine.regression.answers import StorePosterior, quantiles
from causalmmm.engine.regression.posterior import STREAMS, Draws, Known, chunks
from causalmmm.engine.regression.theta import saturated
from causalmmm.kernels import adstock_hill

_LEAST_MEAN = 0.02  # of a series that cannot fall below zero, as a share of its level
_DAMPING = 0.98  # share of a trend's slope that is expected to be left a step later


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
    plan, observed, draws = stores.regression.layout, stores.observed, stores.draws
    given = ahead.given.to(torch.float64)
    nodes = range(given.shape[1])
    if exporting():  # which values are planned is not known yet
        unknown = list(stores.known)
    else:
        unknown = [j for j in nodes if bool(given[:, j].isnan().any())]
    missing = [j for j in unknown if j not in stores.known]
    if missing:
        raise ValueError(f"series {missing} have no plan, and the regression does not hold them")
    order = sorted(unknown, key=lambda j: (plan.rank[j], j))
    rolls = [_Roll(stores, j, ahead, seed) for j in order]

    def step(state: State, inputs: State) -> tuple[State, State]:
        before, *carried_on = state
        planned, *known = inputs
        now = [planned[:, j].expand(draws, -1) for j in nodes]  # [D, B] each
        after: list[Tensor] = []
        for k, receiver in enumerate(rolls):
            own = tuple(known[2 * k : 2 * k + 2])
            carried = tuple(carried_on[2 * k : 2 * k + 2])
            drawn, carried = receiver.step(carried, own, now, before)
            now[order[k]] = torch.where(now[order[k]].isnan(), drawn, now[order[k]])
            after += carried
        values = torch.stack(now, -1)  # [D, B, N]
        return (values, *after), (values,)

    begin = [observed.x[:, :, -1].expand(draws, -1, -1)]
    begin += [part for receiver in rolls for part in (receiver.stock, receiver.error)]
    inputs = [given.permute(2, 0, 1)]
    inputs += [part for receiver in rolls for part in (receiver.base, receiver.noise)]
    return roll(step, tuple(begin), tuple(inputs))[0].permute(1, 2, 3, 0)


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
    return values.mean(0), quantiles(values, shares).movedim(0, -1)


class _Roll:
    """One receiver on its way.

    stock [D, B, n] and error [D, B], what its senders carry over and its error, at the last row;
    base and noise [H, D, B], of every step ahead.
    """

    def __init__(self, stores: StorePosterior, receiver: int, ahead: Ahead, seed: int) -> None:
        known, drawn = stores.known[receiver], stores.drawn[receiver]
        observed, plan = stores.observed, stores.regression.layout
        self.receiver, self.senders = receiver, list(known.fitted.senders)
        self.known, self.drawn, self.rho = known, drawn, known.fitted.rho
        self.late = (~plan.instant[self.senders, receiver]).tolist()
        steps = ahead.basis.shape[1]
        controls = ahead.control_std.shape[-1]
        if exporting() or drawn.noise.any() or ahead.control_std.any():
            noise = _step_noise(observed.store, stores.draws, steps, seed * 104_729 + receiver)
        else:  # nothing to multiply it with
            noise = drawn.noise.new_zeros(steps, *drawn.noise.shape, 2)
        self.noise = noise[..., 0]
        basis = _damped(ahead.basis.to(torch.float64), stores.regression.groups)
        base = (basis @ drawn.terms.permute(1, 2, 0)).permute(2, 0, 1)  # [D, B, H]
        if controls:
            felt = drawn.terms[..., -controls:].unsqueeze(-2) * ahead.control_std
            base = base + felt.sum(-1) * noise[0, ..., 1].unsqueeze(-1)
        self.base = base.permute(2, 0, 1)
        self.floor = ahead.floor[:, receiver]
        self.stock, self.error = _begin(known, drawn, observed.basis, observed.x[:, receiver])

    def step(
        self, carried: State, ahead: State, now: Sequence[Tensor], before: Tensor
    ) -> tuple[Tensor, State]:
        """Draws [D, B] of the receiver at a step, and what it carries on; given all series
        ``now``, [D, B] each, and ``before`` [D, B, N]."""
        drawn, (stock, error), (base, noise) = self.drawn, carried, ahead
        mean = base + drawn.own * before[..., self.receiver]
        if self.senders:
            places = zip(self.senders, self.late, strict=True)
            felt = [before[..., i] if late else now[i] for i, late in places]
            decay = drawn.shapes.decay.unsqueeze(1)
            stock = decay * stock + (1 - decay) * (torch.stack(felt, -1) * self.known.unit)
            slope, half = (p.unsqueeze(1) for p in (drawn.shapes.slope, drawn.shapes.half))
            mean = mean + (drawn.effects * saturated(stock, slope, half)).sum(-1)
        value = _noisy(mean + self.rho * error, drawn.noise, noise, self.floor)
        return value, (stock, value - mean)


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
    if not known.fitted.senders:
        return drawn.effects, drawn.effects
    exposure = design.exposure[..., :rows].to(torch.float32)  # late senders' delayed already
    initial = design.initial.to(torch.float32)
    stocks, responses = [], []
    for begin, end in chunks(len(shapes.decay), exposure):
        decay, slope, half = (
            s[begin:end].to(torch.float32).unsqueeze(1).unsqueeze(-1)
            for s in (shapes.decay, shapes.slope, shapes.half)
        )
        response, stock = adstock_hill(exposure, decay, slope, half, initial)
        stocks.append(stock.to(torch.float64))
        responses.append(response[..., -1].clone())  # not a view that holds all rows
    return torch.cat(stocks, 0), torch.cat(responses, 0)


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
    """[H, D, B, 2] standard normal numbers, by store; a longer horizon continues a shorter one."""
    key = counted(store, torch.tensor(seed * STREAMS + 2))
    place = (torch.arange(steps) * (2 * draws)).view(-1, 1, 1, 1)
    place = place + (torch.arange(draws) * 2).view(-1, 1, 1) + torch.arange(2)
    return as_normal(counted(key.unsqueeze(-1), place))
