"""What every sender added to the target, step by step, directly and through mediators.

Scaled units of the target; draws of parameters come from ``posterior``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from causalmmm.engine.ops.export_switch import exports_whole
from causalmmm.engine.regression.answers import StorePosterior, of_nodes, responses_of
from causalmmm.engine.regression.posterior import chunks
from causalmmm.kernels import adstock_hill


@dataclass(frozen=True)
class Contributions:
    """Posterior means of the parts of the target on all rows; they sum to ``predicted``.

    baseline   [B, T]: calendar and controls.
    level      [B, T]: level shifts.
    own        [B, T]: what the target's own last value keeps of what no part explains.
    senders    [B, N, T]: each sender directly; zero for the target.
    total      [B, N, T]: of each channel, through mediators too; of a mediator, directly.
    predicted  [B, T].
    sums       [D, B, N] and total_sums [D, B, N]: draws of both, summed over the history's rows.
    """

    baseline: Tensor
    level: Tensor
    own: Tensor
    senders: Tensor
    total: Tensor
    predicted: Tensor
    sums: Tensor
    total_sums: Tensor


@torch.no_grad()
def contributions(stores: StorePosterior) -> Contributions:
    """Contributions to the target; intervals are quantiles of the drawn sums."""
    target = stores.regression.layout.nodes - 1
    observed, rows = stores.observed, stores.observed.mask.to(torch.float64)
    parts, sums, total_sums = None, [], []
    for begin, end in chunks(stores.draws, observed.x):
        some = slice(begin, end)
        found = _parts(stores, target, some)
        found.append(_through_mediators(stores, target, some, found[3]))
        sums.append((found[3] * rows.unsqueeze(1)).sum(-1))
        total_sums.append((found[4] * rows.unsqueeze(1)).sum(-1))
        added = [part.sum(0) for part in found]
        parts = added if parts is None else [a + b for a, b in zip(parts, added, strict=True)]
    assert parts is not None
    baseline, level, own, senders, total = (part / stores.draws for part in parts)
    predicted = baseline + level + own + senders.sum(1)
    assert predicted.shape == observed.mask.shape
    return Contributions(
        baseline, level, own, senders, total, predicted, torch.cat(sums), torch.cat(total_sums)
    )


def _parts(stores: StorePosterior, receiver: int, some: slice) -> list[Tensor]:
    """Draws of baseline, level, own [d, B, T], and direct parts [d, B, N, T]."""
    known, drawn = stores.known[receiver], stores.drawn[receiver]
    observed = stores.observed
    own, rho = drawn.own[some], known.fitted.rho
    added = drawn.effects[some].unsqueeze(-1) * responses_of(known, drawn, some)  # [d, B, n, T]
    baseline = (observed.basis @ drawn.terms[some].unsqueeze(-1)).squeeze(-1)  # [d, B, T]
    columns = known.shifts.columns(observed.position)
    level = (columns @ drawn.levels[some].unsqueeze(-1)).squeeze(-1)
    y = observed.x[:, receiver]
    fitted = baseline + level + added.sum(-2)
    if known.fitted.own_lag:
        begun = _lagged(observed.mask.to(y.dtype))
        predicted = fitted + own.unsqueeze(-1) * _lagged(y) * begun
        baseline, level, added = (kept(part, own) for part in (baseline, level, added))
        rest = predicted - baseline - level - added.sum(-2)
    else:
        rest = rho * _lagged((y - fitted) * observed.mask)
    return [baseline, level, rest, of_nodes(added, known, observed.x.shape[1], -2)]


@torch.no_grad()
def mean_parts(stores: StorePosterior) -> Tensor:
    """[B, 2 + N, T]: baseline with level shifts, own past, and what every series added to the
    target directly: posterior means (``contributions`` has the rest)."""
    target = stores.regression.layout.nodes - 1
    sums: list[Tensor] = []
    for begin, end in chunks(stores.draws, stores.observed.x):
        found = [part.sum(0) for part in _parts(stores, target, slice(begin, end))]
        sums = [a + b for a, b in zip(sums, found, strict=True)] if sums else found
    baseline, level, own, direct = (part / stores.draws for part in sums)
    return torch.cat([torch.stack([baseline + level, own], 1), direct], 1)


def _through_mediators(
    stores: StorePosterior, receiver: int, some: slice, direct: Tensor
) -> Tensor:
    """[d, B, N, T]: direct parts, and for channels what mediators carry of them.

    A channel is set to zero and the mediators are predicted anew, in role order; what else drives
    them stays as it was. Mediators keep their direct part.
    """
    plan = stores.regression.layout
    rank = torch.tensor(plan.rank)
    channels = (rank == 0).nonzero().flatten().tolist()
    between = sorted(
        (m for m in stores.known if 0 < plan.rank[m] < plan.rank[receiver]),
        key=lambda m: plan.rank[m],
    )
    if not between or not channels:
        return direct
    lost: dict[int, Tensor] = {}  # of each mediator, by channel: [d, B, C, T]
    for mediator in between:
        known, drawn = stores.known[mediator], stores.drawn[mediator]
        added = drawn.effects[some].unsqueeze(-1) * responses_of(known, drawn, some)
        change = of_nodes(added, known, plan.nodes, -2)[:, :, channels]
        change = change + _carried(stores, mediator, some, lost)
        own = drawn.own[some].unsqueeze(-1)
        lost[mediator] = kept(change, own) if known.fitted.own_lag else change
    indirect = _carried(stores, receiver, some, lost)
    if stores.known[receiver].fitted.own_lag:
        indirect = kept(indirect, stores.drawn[receiver].own[some].unsqueeze(-1))
    none = torch.zeros_like(indirect[:, :, :1])
    place = [channels.index(j) if j in channels else len(channels) for j in range(plan.nodes)]
    return direct + torch.cat([indirect, none], 2).index_select(2, torch.tensor(place))


def _carried(stores: StorePosterior, receiver: int, some: slice, lost: dict[int, Tensor]) -> Tensor:
    """[d, B, C, T]: what the receiver loses where its mediators lose ``lost``."""
    known, drawn, plan = stores.known[receiver], stores.drawn[receiver], stores.regression.layout
    x = stores.observed.x
    result: Tensor = torch.zeros((), dtype=x.dtype)
    for place, sender in enumerate(known.fitted.senders):
        if sender not in lost or not bool(plan.instant[sender, receiver]):
            continue
        unit = known.unit[:, place].view(-1, 1, 1)
        before = x[:, sender].unsqueeze(1)  # [B, 1, T]
        decay, slope, half = (
            part[some, place].view(-1, 1, 1, 1)
            for part in (drawn.shapes.decay, drawn.shapes.slope, drawn.shapes.half)
        )
        initial = known.problem.design.initial[:, place].view(-1, 1)
        was = adstock_hill(before * unit, decay, slope, half, initial)[0]
        now = adstock_hill((before - lost[sender]) * unit, decay, slope, half, initial)[0]
        effect = drawn.effects[some, :, place].unsqueeze(-1).unsqueeze(-1)
        result = result + effect * (was - now)
    if result.ndim == 0:
        first = next(iter(lost.values()), None)
        return result if first is None else torch.zeros_like(first)
    return result


@exports_whole
def kept(part: Tensor, own: Tensor) -> Tensor:
    """The part [..., T] with what the receiver's own past keeps of it: c(t) + own c(t - 1) + ...

    ``own`` [d, B] or with as many further axes of size one as the part has.
    """
    weight = own.reshape(*own.shape, *[1] * (part.ndim - own.ndim))
    gate, value, span, steps = weight, part, 1, part.shape[-1]
    while span < steps:  # doubling: each round sees twice as far back
        value = torch.cat([value[..., :span], value[..., span:] + gate * value[..., :-span]], -1)
        gate, span = gate * gate, 2 * span
    return value


def _lagged(part: Tensor) -> Tensor:
    return torch.nn.functional.pad(part[..., :-1], (1, 0))
