"""Level shifts: stretches of a history at another level, where the evidence asks for them.

Without them a shift is booked to whatever else moved at the time, effects included.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from causalmmm.engine.ops import linalg
from causalmmm.engine.ops.export_switch import exporting
from causalmmm.engine.ops.scan import State, roll
from causalmmm.engine.regression.design import Observed, quasi_difference
from causalmmm.engine.regression.problem import Problem, noise_mode

_SIZES = (0.03, 0.1, 0.3, 1.0)  # standard deviations of a shift, in units of the level
_SHORTEST = 4  # steps of a stretch
_MOST_EDGES = 120  # dates at which a stretch may begin or end, before they are refined
_GAINS_AT_ONCE = 60_000  # stretches of some stores, that stay in the cache
_LEAST_KNOWN = 0.05  # least share of a shift's prior variance that data are taken to remove
LEVEL_KIND = -1


@dataclass(frozen=True)
class Shifts:
    """L stretches per store: rows with begin <= position < end, their sizes' prior scale.

    begin, end  int64 [B, L];  scale  [B, L], zero where a store has fewer.
    A step up is a stretch from the beginning of the history at a lower level, so that the level
    after the last step needs no term.
    """

    begin: Tensor
    end: Tensor
    scale: Tensor

    def columns(self, position: Tensor) -> Tensor:
        """[B, T, L], one inside a stretch."""
        where = position.unsqueeze(-1)
        inside = (where >= self.begin.unsqueeze(1)) & (where < self.end.unsqueeze(1))
        return inside.to(torch.float64)

    def add(self, begin: Tensor, end: Tensor, scale: Tensor) -> Shifts:
        """With one more stretch per store, [B] each."""
        pairs = ((self.begin, begin), (self.end, end), (self.scale, scale))
        return Shifts(*(torch.cat([old, new.unsqueeze(-1)], -1) for old, new in pairs))

    def beside(self, more: Shifts) -> Shifts:
        """These, then those."""
        pairs = zip(vars(self).values(), vars(more).values(), strict=True)
        return Shifts(*(torch.cat([one, other], -1) for one, other in pairs))

    def select(self, stores: Tensor) -> Shifts:
        """Those of the stores at these places."""
        return Shifts(*(part[stores] for part in vars(self).values()))

    def without(self, column: int) -> Shifts:
        keep = torch.arange(self.scale.shape[1]) != column
        return Shifts(self.begin[:, keep], self.end[:, keep], self.scale[:, keep])


def no_shifts(stores: int) -> Shifts:
    empty = torch.zeros(stores, 0, dtype=torch.int64)
    return Shifts(empty, empty, torch.zeros(stores, 0, dtype=torch.float64))


def shifted(problem: Problem, observed: Observed, shifts: Shifts) -> Problem:
    """The problem (which has no shifts) with these."""
    if not shifts.scale.shape[1]:
        return problem
    extra = shifts.columns(observed.position)
    design = problem.design.with_terms(extra, LEVEL_KIND)
    return replace(problem, design=design, fixed_scale=shifts.scale)


@torch.no_grad()
def pruned(
    plain: Problem,
    observed: Observed,
    theta: Tensor,
    log_noise: Tensor,
    shifts: Shifts,
    common: Sequence[int],
    odds: float,
) -> tuple[Shifts, list[int]]:
    """The shifts without those that the evidence no longer asks for, and the columns that all
    stores have."""
    cost = shift_cost(observed, odds)
    shifts = replace(shifts, scale=shifts.scale.clone())
    for column in range(shifts.scale.shape[1]):
        with_it = shifted(plain, observed, shifts).log_evidence(theta, log_noise)
        less = replace(shifts, scale=shifts.scale.clone())
        less.scale[:, column] = 0.0
        loss = with_it - shifted(plain, observed, less).log_evidence(theta, log_noise)  # [B]
        if column in common:
            if float(loss.sum()) < cost:
                shifts = less
        else:
            shifts.scale[loss < cost, column] = 0.0
    kept = (shifts.scale > 0).any(0)
    common = [int(kept[:c].sum()) for c in common if bool(kept[c])]
    return Shifts(shifts.begin[:, kept], shifts.end[:, kept], shifts.scale[:, kept]), common


def shift_cost(observed: Observed, odds: float) -> float:
    """Nats that one shift must gain, as it may begin and end anywhere."""
    return float(_own_cost(_edges(observed, shared=True), odds))


def _own_cost(edges: Tensor, odds: float) -> Tensor:
    return odds + 2 * torch.ones_like(edges[0], dtype=torch.float64).sum().log()


@torch.no_grad()
def relevance(
    problem: Problem,
    theta: Tensor,
    log_noise: Tensor,
    shifts: Shifts,
    common: Sequence[int],
    held: int = 0,
) -> Shifts:
    """The shifts with their prior scales moved a step towards the evidence's top.

    MacKay's (1992) fixed point: variance = size^2 / (1 - posterior variance / prior variance). The
    ``common`` columns have one scale in all stores; the first ``held`` are left as they are.
    """
    count, senders = shifts.scale.shape[1], problem.spec.senders
    found = problem.posterior(theta, log_noise)
    end = found.mean.shape[-1] - senders
    size = found.mean[:, end - count : end]  # [B, L]
    inverse = linalg.inverse_of(found.root).diagonal(dim1=-2, dim2=-1)
    known = (1 - inverse[:, end - count : end]).clamp_min(_LEAST_KNOWN)
    square, weight = size.square(), known
    for column in common:
        square[:, column], weight[:, column] = square[:, column].sum(), known[:, column].sum()
    scale = (square / weight).sqrt().clamp(_SIZES[0] / 2, 2 * _SIZES[-1])
    scale = torch.where(shifts.scale > 0, scale, shifts.scale)
    return replace(shifts, scale=torch.cat([shifts.scale[:, :held], scale[:, held:]], -1))


@dataclass(frozen=True)
class _Search:
    """Gain in log evidence [B, V, G, G] of a stretch between two edges [B, G], for sizes _SIZES."""

    edges: Tensor
    gain: Tensor


@torch.no_grad()
def find_shifts(
    problem: Problem,
    observed: Observed,
    theta: Tensor,
    shifts: Shifts,
    odds: float,
    most: int,
) -> tuple[Shifts, list[int]]:
    """``shifts`` and up to ``most`` more that the evidence asks for, given theta; and the columns
    of those that all stores have.

    Greedy, as in Tipping & Faul (2003): the best stretch of every store enters if its gain, less
    what its being anywhere in the history costs, is above ``odds``.
    """
    common: list[int] = []
    for _ in range(most):
        current = shifted(problem, observed, shifts)
        search = _search(current, observed, theta, noise_mode(current, theta), shared=True)
        best, at = search.gain.flatten(1).max(-1)  # [B]
        cost = shift_cost(observed, odds)
        own = (best - cost - math.log(len(_SIZES))).clamp_min(0)
        stores = len(own)
        if stores > 1:
            total, place = search.gain.sum(0).flatten().max(-1)
            if float(total) - cost > float(own.sum()):
                common.append(shifts.scale.shape[1])
                shifts = shifts.add(*_stretch(search, place.expand(stores)))
                continue
        if not bool((own > 0).any()):
            break
        begin, end, scale = _stretch(search, at)
        shifts = shifts.add(begin, end, torch.where(own > 0, scale, 0.0))
    return shifts, common


@torch.no_grad()
def with_own_shifts(
    problem: Problem, observed: Observed, theta: Tensor, shifts: Shifts, odds: float, most: int
) -> Shifts:
    """``shifts`` and up to ``most`` more of each store alone: its company does not matter."""
    if exporting():
        return _in_every_slot(problem, observed, theta, shifts, odds, most)
    still = torch.arange(len(observed.x))  # where the last search found one, there may be another
    for _ in range(most):
        some, here = shifts.select(still), observed.select(still)
        parts = _next_shift(problem.select(still), here, theta, some, odds)
        found = parts[-1] > 0
        if not bool(found.any()):
            break
        first = observed.position[:, 0]
        whole = [first.clone(), first.clone(), torch.zeros_like(first, dtype=torch.float64)]
        for part, values in zip(whole, parts, strict=True):
            part[still] = values
        shifts, still = shifts.add(*whole), still[found]
    return shifts


def _in_every_slot(
    problem: Problem, observed: Observed, theta: Tensor, shifts: Shifts, odds: float, most: int
) -> Shifts:
    """As :func:`with_own_shifts`, in as many steps whatever is found."""

    def step(own: State, slot: State) -> tuple[State, State]:
        current = shifts.beside(Shifts(*own))
        new = zip(_next_shift(problem, observed, theta, current, odds), own, strict=True)
        found = tuple(torch.where(slot[0], part.unsqueeze(-1), old) for part, old in new)
        return found, found

    none = observed.position[:, :1].expand(-1, most)
    own: State = (none, none, torch.zeros_like(none, dtype=torch.float64))
    path = roll(step, own, (torch.eye(most, dtype=torch.bool),))
    return shifts.beside(Shifts(*(part[-1] for part in path)))


def _next_shift(
    problem: Problem, observed: Observed, theta: Tensor, shifts: Shifts, odds: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Begin, end and scale [B] of one more stretch of each store; scale zero where none is worth
    it."""
    current = shifted(problem, observed, shifts)
    search = _search(current, observed, theta, noise_mode(current, theta), shared=False)
    gain = search.gain.flatten(1)  # [B, V G G]
    cost = _own_cost(search.edges, odds) + math.log(len(_SIZES))
    begin, end, scale = _stretch(search, gain.argmax(-1))
    return begin, end, torch.where(gain.amax(-1) > cost, scale, 0.0)


def _stretch(search: _Search, place: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Begin, end and size [B] of the stretches at flat places [B] of the search."""
    count = search.edges.shape[-1]
    size, rest = place // (count * count), place.remainder(count * count)
    begin, end = (
        search.edges.gather(1, k.unsqueeze(1)).squeeze(1)
        for k in (rest // count, rest.remainder(count))
    )
    return begin, end, torch.tensor(_SIZES, dtype=torch.float64)[size]


def _search(
    problem: Problem, observed: Observed, theta: Tensor, log_noise: Tensor, shared: bool
) -> _Search:
    """Gains of all stretches.

    A column e raises the log evidence by v q^2 / (2 (1 + v s)) - log(1 + v s) / 2, where
    s = e'V^-1 e, q = e'V^-1 (y - X centre) and v is its prior variance.
    """
    design = problem.design
    edges = _edges(observed, shared)
    before = (observed.position.unsqueeze(1) < edges.unsqueeze(-1)).double()  # [B, G, T]
    before = quasi_difference(before, design.rows, design.rho)
    response = problem.responses(theta)
    columns = torch.cat([design.terms.mT, design.entering(response)], 1)  # [B, P, T]
    found = problem.posterior(theta, log_noise)
    noise = log_noise.exp().view(-1, 1, 1)
    left = design.y - (found.mean.unsqueeze(1) @ columns).squeeze(1)  # [B, T]
    pull = (before @ left.unsqueeze(-1)).squeeze(-1) / noise.squeeze(-1).square()  # [B, G]
    cross = found.scale.unsqueeze(-1) * (columns @ before.mT) / noise  # [B, P, G]
    half = linalg.solve_factor(found.root, cross)
    inner = (before @ before.mT - half.mT @ half) / noise.square()  # [B, G, G]
    own = (before.square().sum(-1) - half.square().sum(1)) / noise.squeeze(-1).square()  # [B, G]
    if exporting():
        return _Search(edges, _gains(edges, own, inner, pull))
    size = max(1, _GAINS_AT_ONCE // edges.shape[1] ** 2)
    pieces = zip(*(part.split(size) for part in (edges, own, inner, pull)), strict=True)
    return _Search(edges, torch.cat([_gains(*piece) for piece in pieces]))


def _gains(edges: Tensor, own: Tensor, inner: Tensor, pull: Tensor) -> Tensor:
    """[B, V, G, G]: gains of all stretches of B stores."""
    s = (own.unsqueeze(1) + own.unsqueeze(2) - 2 * inner).clamp_min(0).unsqueeze(1)
    q = (pull.unsqueeze(1) - pull.unsqueeze(2)).unsqueeze(1)  # [B, 1, G, G], first edge, last edge
    v = torch.tensor(_SIZES, dtype=torch.float64).square().view(1, -1, 1, 1)
    gain = 0.5 * v * q.square() / (1 + v * s) - 0.5 * torch.log1p(v * s)
    long_enough = edges.unsqueeze(1) - edges.unsqueeze(2) >= _SHORTEST  # [B, G, G]
    # a stretch to the end is a step, which is the stretch before it
    long_enough = long_enough & ((edges[:, -1:] - edges).unsqueeze(1) >= _SHORTEST)
    return torch.where(long_enough.unsqueeze(1), gain, -torch.inf)


def _edges(observed: Observed, shared: bool) -> Tensor:
    """int64 [B, G]: positions at which stretches may begin and end; if ``shared``, those of all
    stores are the same."""
    first, last = observed.position[:, 0], observed.position[:, -1] + 1
    length = observed.position.shape[-1]
    if shared:
        first, last = first.amin().expand_as(first), last.amax().expand_as(last)
        length = int(last[0] - first[0])
    stride = (length + _MOST_EDGES - 1) // _MOST_EDGES
    within = first.unsqueeze(1) + torch.arange(0, length, stride)
    return torch.cat([within, last.unsqueeze(1)], 1)
