"""Prototype graphs and shared effects fitted to many stores at once, in closed form.

Gradient steps alone leave prototypes that stand for two graphs, and edges whose gate closed before
their effect was learned. Between epochs, while the KL term grows, what is here sets both right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from causalmmm.engine.evidence.features import RIDGE
from causalmmm.engine.ops.linalg import diagonal_blocks, ridged, spd_inverse

_PSEUDO_STORES = 1.0  # weight of the user's prior in each prototype
_NUMBERS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)  # of prototypes to choose from
_STARTS, _ROUNDS = 3, 25
_SPLIT_FROM = 20  # stores below which all share one prototype
_LARGE = 20.0
_OPEN = 0.9
_ROUNDING = 1e-5  # of sums in float32, as a share of the diagonal
_MIXED = 4.0  # how much dearer an effect is that turns its sign over lags
_NATS_A_STORE = 0.05  # what an edge must add at least, so that misfit of many stores opens none


@dataclass
class Mixture:
    """P prototypes: edge probabilities [P, N, N], log weights [P], and shares [S, P] of stores."""

    rate: Tensor
    log_weight: Tensor
    share: Tensor


def fit_mixture(factor: Tensor, prior: Tensor, most: int, *, seed: int) -> Mixture | None:
    """Mixture of product-Bernoulli graphs from log Bayes factors [S, N, N] of S stores' edges.

    A prototype gives a store the marginal likelihood prod_ij (1 - pi_ij + pi_ij e_ij). Edges have
    a Beta hyperprior with mean ``prior`` [N, N] that weighs as much as ``_PSEUDO_STORES``; pairs
    whose prior is 0 or 1 stay so. The number of prototypes, at most ``most``, is the one under
    which stores that were left out are likeliest. Each fit is the best of a few runs of
    expectation-maximisation, begun from stores that lie far apart (k-means++). What is left of
    ``most`` prototypes has no weight.
    """
    nodes = factor.shape[-1]
    pairs = ~torch.eye(nodes, dtype=torch.bool, device=factor.device) & (prior > 0) & (prior < 1)
    before = prior[pairs]
    excess = factor[:, pairs].clamp(-_LARGE, _LARGE).expm1()  # [S, E], e - 1
    rng = torch.Generator().manual_seed(seed)
    count, best = 1, -math.inf
    if len(excess) >= 2 * _SPLIT_FROM:
        for number in [n for n in _NUMBERS if n <= most]:
            fitted = _em(excess[::2], before, number, rng)
            score = _evidence(excess[1::2], *fitted).logsumexp(-1).sum().item()
            if score > best:
                count, best = number, score
    if count == 1:
        return None
    rate, log_weight = _em(excess, before, count, rng)
    joint = _evidence(excess, rate, log_weight)
    full = prior.expand(most, -1, -1).clone()
    full[:count, pairs] = rate
    weight = torch.nn.functional.pad(log_weight, (0, most - count), value=-_LARGE)
    share = torch.nn.functional.pad(joint.softmax(-1), (0, most - count))
    return Mixture(full, weight, share)


def _em(excess: Tensor, before: Tensor, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rates [P, E] and log weights [P] of ``count`` prototypes; excess [S, E] is e - 1."""
    single = before * (excess + 1) / (1 + before * excess)
    found, best = None, -math.inf
    for _ in range(_STARTS if count > 1 else 1):
        rate = _spread_out(single, count, rng).clamp(0.02, 0.98)
        log_weight = excess.new_full((count,), -math.log(count))
        for _ in range(_ROUNDS):
            gain = rate * excess.unsqueeze(1)  # [S, P, E]
            joint = log_weight + gain.log1p().sum(-1)
            share = joint.softmax(-1)
            present = (share.unsqueeze(-1) * (gain + rate) / (gain + 1)).sum(0)
            total = share.sum(0)
            rate = (present + _PSEUDO_STORES * before) / (total + _PSEUDO_STORES).unsqueeze(-1)
            log_weight = ((total + 1 / count) / (len(excess) + 1)).log()
        score = joint.logsumexp(-1).sum().item()
        if score > best:
            found, best = (rate, log_weight), score
    assert found is not None
    return found


def _evidence(excess: Tensor, rate: Tensor, log_weight: Tensor) -> Tensor:
    """[S, P]: log of weight times marginal likelihood of every store under every prototype."""
    return log_weight + (rate * excess.unsqueeze(1)).log1p().sum(-1)


def toggle_prototype_edges(
    mixture: Mixture,
    factor: Tensor,
    gram: Tensor,
    cross: Tensor,
    beta: Tensor,
    prior: Tensor,
    positive: Tensor,
    steps: int,
) -> tuple[Tensor, Tensor]:
    """Edge probabilities [P, N, N] and effects [N, N, D] after a test of every edge of a prototype.

    What one store cannot show, the stores of a prototype can together. ``gram`` [P, N, N D, N D]
    and ``cross`` [P, N, N D] are curvature and gradient of the likelihood of each prototype's
    stores in the effects of all senders on each receiver, as sums over ``steps`` rows a store. An
    edge is opened, with the effects that do so, when it improves that likelihood, given all other
    senders, by more than its parameters and its prior cost; one held open that does not pay for
    them falls to the prior.
    """
    nodes, parts = beta.shape[1:]
    rate, effect = mixture.rate.clone(), beta.clone()
    self_loops = torch.eye(nodes, dtype=torch.bool, device=beta.device)
    fixed = (prior <= 0) | (prior >= 1) | self_loops
    excess = factor.clamp(-_LARGE, _LARGE).expm1()
    own = self_loops.repeat_interleave(parts, 1)
    strength = torch.zeros(nodes, nodes, device=beta.device)
    for p in range(len(rate)):
        weight = mixture.share[:, p]
        stores = weight.sum().item()
        if stores < _SPLIT_FROM:
            continue
        ridge = torch.diag_embed(torch.where(own, _LARGE * gram[p].diagonal(dim1=1, dim2=2), 0.0))
        inverse = _ridged_inverse(gram[p] + ridge)
        joint = (inverse @ cross[p].unsqueeze(-1)).view(nodes, nodes, parts)  # receiver first
        information = torch.linalg.inv(diagonal_blocks(inverse, nodes)).transpose(0, 1)
        signal = torch.einsum("ijde,ije->ijd", information, joint.transpose(0, 1))
        best, gain = _one_sign(signal, information, positive)
        cost = math.log(stores * steps) - prior.logit(1e-6) + _NATS_A_STORE * stores
        mixed = 0.5 * (signal * joint.transpose(0, 1)).sum(-1)  # components of either sign
        turns = (mixed > _MIXED * cost) & (mixed > 2 * gain) & ~positive
        best = torch.where(turns.unsqueeze(-1), joint.transpose(0, 1), best)
        gain = torch.where(turns, mixed, gain)
        now = torch.einsum("s,sij->ij", weight, (rate[p] * excess).log1p())
        opened = (gain > cost + now.clamp_min(0)) & (rate[p] < 0.5) & ~fixed
        closed = (gain < cost) & (rate[p] > 0.5) & ~fixed
        rate[p] = torch.where(opened, rate[p].clamp_min(_OPEN), rate[p])
        rate[p] = torch.where(closed, prior, rate[p])
        dead = opened & (mixture.rate < 0.5).all(0) & (gain > strength)
        effect = torch.where(dead.unsqueeze(-1), best, effect)
        strength = torch.where(dead, gain, strength)
    return rate, effect


def _ridged_inverse(gram: Tensor) -> Tensor:
    """Inverse of gram + RIDGE I, [..., M, M], with a unit diagonal and a ridge above its rounding:
    in sums over many stores RIDGE may lie below that of float32."""
    whole = ridged(gram, RIDGE).double()
    size = whole.diagonal(dim1=-2, dim2=-1).rsqrt().unsqueeze(-1)
    return (spd_inverse(ridged(whole * size * size.mT, _ROUNDING)) * size * size.mT).to(gram.dtype)


def _one_sign(signal: Tensor, information: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """Effects [N, N, D] of one sign within a pair that maximise b'g - b'Hb/2, and the maxima.

    Carry-over spreads an effect over time but does not turn its sign; components of opposite sign
    fit what the responses' shape misses.
    """
    found, best = torch.zeros_like(signal), torch.zeros_like(signal[..., 0])
    for sign in (1.0, -1.0):
        b = sign * _solve(sign * signal, information)
        gain = (signal * b).sum(-1) - 0.5 * torch.einsum("ijd,ijde,ije->ij", b, information, b)
        better = (gain > best) & (~positive if sign < 0 else True)
        found = torch.where(better.unsqueeze(-1), b, found)
        best = torch.where(better, gain, best)
    return found, best


def _solve(signal: Tensor, information: Tensor) -> Tensor:
    """Non-negative argmax of b'g - b'Hb/2, [N, N, D], by coordinate ascent."""
    b = torch.zeros_like(signal)
    size = information.diagonal(dim1=-2, dim2=-1).clamp_min(1e-6)
    for _ in range(30):
        for d in range(signal.shape[-1]):
            step = (signal[..., d] - (information[..., d, :] * b).sum(-1)) / size[..., d]
            b[..., d] = (b[..., d] + step).clamp_min(0)
    return b


def _spread_out(points: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """``count`` rows of ``points`` [S, E], each drawn with weight by squared distance to those
    before it; rows repeat where there are fewer."""
    first = int(torch.randint(len(points), (1,), generator=rng))
    chosen = points[first : first + 1]
    for _ in range(count - 1):
        distance = torch.cdist(points, chosen).square().min(1).values.cpu() + 1e-9
        chosen = torch.cat([chosen, points[torch.multinomial(distance, 1, generator=rng)]])
    return chosen
