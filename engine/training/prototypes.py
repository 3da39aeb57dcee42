"""Prototype graphs and shared effects fitted to many stores at once, in closed form.

Gradient steps alone leave prototypes that average two graphs, and edges whose gate closed before
their effect was learned. Refits between epochs, while the KL weight grows, correct both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from causalmmm.engine.evidence.features import RIDGE
from causalmmm.engine.ops.linalg import diagonal_blocks, ridged, spd_inverse

_PSEUDO_STORES = 1.0  # weight of the user's prior in each prototype
_CANDIDATE_COUNTS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)  # numbers of prototypes to try
_EM_STARTS, _EM_ITERATIONS = 3, 25
_MIN_STORES = 20  # per prototype
_MAX_LOG_BF = 20.0
_SELF_LOOP_RIDGE = 20.0  # times the diagonal: all but removes a receiver's own responses
_OPEN_RATE = 0.9  # probability of an edge that the test opens
_FLOAT32_RIDGE = 1e-5  # rounding error of float32 sums, as a share of the diagonal
_MIXED_SIGN_COST = 4.0  # factor on the cost of an effect whose sign differs between components
_NATS_PER_STORE = 0.05  # minimum gain of an edge, so that slight misfit of many stores opens none


@dataclass
class Mixture:
    """P prototype graphs.

    rate        [P, N, N], edge probabilities.
    log_weight  [P].
    share       [S, P], posterior probability of each prototype for every store.
    """

    rate: Tensor
    log_weight: Tensor
    share: Tensor


def fit_mixture(factor: Tensor, prior: Tensor, max_count: int, *, seed: int) -> Mixture | None:
    """Mixture of product-Bernoulli graphs from log Bayes factors [S, N, N] of the stores' edges.

    A prototype gives a store the marginal likelihood prod_ij (1 - pi_ij + pi_ij e_ij), e being the
    Bayes factors. Edges have a Beta hyperprior with mean ``prior`` [N, N] and the weight of
    ``_PSEUDO_STORES`` stores; pairs whose prior is 0 or 1 keep it. The number of prototypes, at
    most ``max_count``, maximises the likelihood of held-out stores; unused prototypes get no
    weight. None if that number is 1. Each fit is the best of a few runs of
    expectation-maximisation, initialised as in k-means++.
    """
    nodes = factor.shape[-1]
    pairs = ~torch.eye(nodes, dtype=torch.bool, device=factor.device) & (prior > 0) & (prior < 1)
    pair_prior = prior[pairs]  # [E]
    excess = factor[:, pairs].clamp(-_MAX_LOG_BF, _MAX_LOG_BF).expm1()  # [S, E], e - 1
    rng = torch.Generator().manual_seed(seed)
    count, best = 1, -math.inf
    if len(excess) >= 2 * _MIN_STORES:
        for candidate in [n for n in _CANDIDATE_COUNTS if n <= max_count]:
            fitted = _em(excess[::2], pair_prior, candidate, rng)
            held_out = _log_joint(excess[1::2], *fitted).logsumexp(-1).sum().item()
            if held_out > best:
                count, best = candidate, held_out
    if count == 1:
        return None
    rate, log_weight = _em(excess, pair_prior, count, rng)
    log_joint = _log_joint(excess, rate, log_weight)
    full_rate = prior.expand(max_count, -1, -1).clone()
    full_rate[:count, pairs] = rate
    unused = (0, max_count - count)
    weight = torch.nn.functional.pad(log_weight, unused, value=-_MAX_LOG_BF)
    share = torch.nn.functional.pad(log_joint.softmax(-1), unused)
    return Mixture(full_rate, weight, share)


def _em(excess: Tensor, prior: Tensor, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rates [P, E] and log weights [P] of ``count`` prototypes from e - 1 = ``excess`` [S, E]."""
    posterior = prior * (excess + 1) / (1 + prior * excess)  # [S, E], of each store alone
    fitted, best = None, -math.inf
    for _ in range(_EM_STARTS if count > 1 else 1):
        rate = _kmeans_plus_plus(posterior, count, rng).clamp(0.02, 0.98)
        log_weight = excess.new_full((count,), -math.log(count))
        for _ in range(_EM_ITERATIONS):
            gain = rate * excess.unsqueeze(1)  # [S, P, E]
            log_joint = log_weight + gain.log1p().sum(-1)  # [S, P]
            share = log_joint.softmax(-1)
            present = (share.unsqueeze(-1) * (gain + rate) / (gain + 1)).sum(0)  # [P, E]
            total = share.sum(0)
            rate = (present + _PSEUDO_STORES * prior) / (total + _PSEUDO_STORES).unsqueeze(-1)
            log_weight = ((total + 1 / count) / (len(excess) + 1)).log()
        likelihood = log_joint.logsumexp(-1).sum().item()
        if likelihood > best:
            fitted, best = (rate, log_weight), likelihood
    assert fitted is not None
    return fitted


def _log_joint(excess: Tensor, rate: Tensor, log_weight: Tensor) -> Tensor:
    """[S, P]: log of weight times marginal likelihood, of every store under every prototype."""
    return log_weight + (rate * excess.unsqueeze(1)).log1p().sum(-1)


def toggle_prototype_edges(
    mixture: Mixture,
    factor: Tensor,
    gram: Tensor,
    xty: Tensor,
    beta: Tensor,
    prior: Tensor,
    positive: Tensor,
    steps: int,
) -> tuple[Tensor, Tensor]:
    """Edge probabilities [P, N, N] and effects [N, N, D] after a test of every prototype's edges.

    The stores of a prototype together can show what none shows alone. ``gram`` [P, N, N D, N D] and
    ``xty`` [P, N, N D] are curvature and gradient of the likelihood of each prototype's stores in
    the effects of all senders on each receiver, as sums over ``steps`` rows per store. An edge is
    opened, with the effects that maximise the likelihood, if given all other senders they improve
    it by more than the cost of its parameters and its prior; an open edge that does not returns to
    the prior. An effect changes only where no prototype had the edge; the one with the largest
    gain sets it.
    """
    nodes = len(beta)
    rate, effect = mixture.rate.clone(), beta.clone()
    self_loops = torch.eye(nodes, dtype=torch.bool, device=beta.device)
    fixed = (prior <= 0) | (prior >= 1) | self_loops
    excess = factor.clamp(-_MAX_LOG_BF, _MAX_LOG_BF).expm1()  # [S, N, N]
    largest_gain = torch.zeros(nodes, nodes, device=beta.device)
    for p in range(len(rate)):
        weight = mixture.share[:, p]  # [S]
        stores = weight.sum().item()
        if stores < _MIN_STORES:
            continue
        cost = math.log(stores * steps) - prior.logit(1e-6) + _NATS_PER_STORE * stores
        best, gain = _likelihood_gain(gram[p], xty[p], positive, cost)
        current = torch.einsum("s,sij->ij", weight, (rate[p] * excess).log1p())
        opened = (gain > cost + current.clamp_min(0)) & (rate[p] < 0.5) & ~fixed
        closed = (gain < cost) & (rate[p] > 0.5) & ~fixed
        rate[p] = torch.where(opened, rate[p].clamp_min(_OPEN_RATE), rate[p])
        rate[p] = torch.where(closed, prior, rate[p])
        new = opened & (mixture.rate < 0.5).all(0) & (gain > largest_gain)
        effect = torch.where(new.unsqueeze(-1), best, effect)
        largest_gain = torch.where(new, gain, largest_gain)
    return rate, effect


def _likelihood_gain(
    gram: Tensor, xty: Tensor, positive: Tensor, cost: Tensor
) -> tuple[Tensor, Tensor]:
    """Best effects [N, N, D] of every pair given all other senders, and their gain [N, N] in log
    likelihood, from curvature [N, N D, N D] and gradient [N, N D] of one prototype.

    Effects have one sign per pair unless mixed signs gain far more than they ``cost`` [N, N].
    """
    nodes = len(gram)
    components = gram.shape[-1] // nodes
    self_loops = torch.eye(nodes, dtype=torch.bool, device=gram.device)
    own = self_loops.repeat_interleave(components, 1)  # [N, N D]
    diagonal = gram.diagonal(dim1=1, dim2=2)
    ridge = torch.diag_embed(torch.where(own, _SELF_LOOP_RIDGE * diagonal, 0.0))
    inverse = _ridged_inverse(gram + ridge)
    joint = (inverse @ xty.unsqueeze(-1)).view(nodes, nodes, components)  # receiver first
    joint = joint.transpose(0, 1)  # [N, N, D], unrestricted optimum
    information = torch.linalg.inv(diagonal_blocks(inverse, nodes)).transpose(0, 1)
    gradient = torch.einsum("ijde,ije->ijd", information, joint)
    best, gain = _one_sign(gradient, information, positive)
    mixed_gain = 0.5 * (gradient * joint).sum(-1)
    mixed = (mixed_gain > _MIXED_SIGN_COST * cost) & (mixed_gain > 2 * gain) & ~positive
    best = torch.where(mixed.unsqueeze(-1), joint, best)
    return best, torch.where(mixed, mixed_gain, gain)


def _ridged_inverse(gram: Tensor) -> Tensor:
    """Inverse of gram + RIDGE I, [..., M, M].

    ``gram`` is a float32 sum over many stores, whose rounding error may exceed RIDGE. It is scaled
    to a unit diagonal, where a second ridge covers that error.
    """
    total = ridged(gram, RIDGE).double()
    scale = total.diagonal(dim1=-2, dim2=-1).rsqrt().unsqueeze(-1)
    unit = spd_inverse(ridged(total * scale * scale.mT, _FLOAT32_RIDGE))
    return (unit * scale * scale.mT).to(gram.dtype)


def _one_sign(gradient: Tensor, information: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """Effects [N, N, D] of one sign within a pair that maximise b'g - b'Hb/2, and the maximum.

    Carry-over spreads an effect over time but does not change its sign; components of opposite sign
    mostly fit errors in the shape of the responses.
    """
    effect, best = torch.zeros_like(gradient), torch.zeros_like(gradient[..., 0])
    for sign in (1.0, -1.0):
        b = sign * _non_negative_argmax(sign * gradient, information)
        gain = (gradient * b).sum(-1) - 0.5 * torch.einsum("ijd,ijde,ije->ij", b, information, b)
        better = (gain > best) & (~positive if sign < 0 else True)
        effect = torch.where(better.unsqueeze(-1), b, effect)
        best = torch.where(better, gain, best)
    return effect, best


def _non_negative_argmax(gradient: Tensor, information: Tensor) -> Tensor:
    """Non-negative argmax [N, N, D] of b'g - b'Hb/2, by coordinate ascent."""
    b = torch.zeros_like(gradient)
    curvature = information.diagonal(dim1=-2, dim2=-1).clamp_min(1e-6)
    for _ in range(30):
        for d in range(gradient.shape[-1]):
            step = gradient[..., d] - (information[..., d, :] * b).sum(-1)
            b[..., d] = (b[..., d] + step / curvature[..., d]).clamp_min(0)
    return b


def _kmeans_plus_plus(points: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """``count`` rows of ``points`` [S, E], each sampled with probability proportional to its
    squared distance to those before it; rows repeat where there are fewer."""
    first = int(torch.randint(len(points), (1,), generator=rng))
    chosen = points[first : first + 1]
    for _ in range(count - 1):
        distance = torch.cdist(points, chosen).square().min(1).values.cpu() + 1e-9
        chosen = torch.cat([chosen, points[torch.multinomial(distance, 1, generator=rng)]])
    return chosen
