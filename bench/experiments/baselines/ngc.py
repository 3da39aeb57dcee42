"""Neural Granger causality (Tank et al., 2021): component-wise MLP and LSTM with a group lasso.

One network per store and receiver; the weights by which it reads a sender form a group, and groups
that are not needed shrink to zero. All networks are trained side by side as one batch.

Budget and tuning: one penalty out of ``..._PENALTIES`` for all receivers of a store, chosen by the
one-step error on the last fifth of the store's history; then trained again on all of it. Both times
``updates`` full-batch steps.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.experiments.baselines.series import clear_of_calendar, lagged

Array = NDArray[np.float64]
CMLP_PENALTIES = (0.1, 0.2, 0.4, 0.8, 1.2)
CLSTM_PENALTIES = (0.025, 0.05, 0.1, 0.2)
_HELD_OUT = 0.2
_RATE = 0.01
_RIDGE = 0.01

# A network family: initial weights of B networks for N senders (the first one [B, N, ...] is what
# the lasso acts on), and the errors [B, T'] of weights on the stores' histories.
Init = Callable[[int, int, torch.Generator], list[Tensor]]
Errors = Callable[[list[Tensor], Tensor], Tensor]


def cmlp(
    series: Array, *, lags: int = 7, hidden: int = 16, updates: int = 600, seed: int = 0
) -> Array:
    """Norm of the first-layer weights from each sender's lags, [S, N, N] from histories [S, T, N];
    zero where the lasso has removed the sender."""

    def init(count: int, nodes: int, generator: torch.Generator) -> list[Tensor]:
        first = _uniform((count, nodes, lags, hidden), nodes * lags, generator)
        return [
            first,
            torch.zeros(count, 1, hidden),
            _uniform((count, hidden, 1), hidden, generator),
            torch.zeros(count, 1, 1),
        ]

    def errors(weights: list[Tensor], x: Tensor) -> Tensor:
        past, present = (torch.as_tensor(a) for a in lagged(x.numpy(), lags))
        s, rows, n = present.shape
        first, bias, last, offset = weights
        repeats = len(first) // s
        wide = first.flatten(1, 2).view(s, repeats, n * lags, hidden).transpose(1, 2)
        inner = past.reshape(s, rows, n * lags) @ wide.reshape(s, n * lags, repeats * hidden)
        inner = inner.view(s, rows, repeats, hidden).transpose(1, 2).reshape(-1, rows, hidden)
        fitted = (torch.relu(inner + bias) @ last + offset).squeeze(-1)
        return fitted - _each(present, repeats)

    return _choose_and_fit(series, init, errors, lags, CMLP_PENALTIES, updates, seed)


def clstm(series: Array, *, hidden: int = 8, updates: int = 150, seed: int = 0) -> Array:
    """Norm of the input weights from each sender, [S, N, N] from histories [S, T, N]; zero where
    the lasso has removed the sender."""

    def init(count: int, nodes: int, generator: torch.Generator) -> list[Tensor]:
        bias = torch.zeros(count, 1, 4 * hidden)
        bias[..., hidden : 2 * hidden] = 1.0  # remember at first
        return [
            _uniform((count, nodes, 4 * hidden), hidden, generator),
            _uniform((count, hidden, 4 * hidden), hidden, generator),
            bias,
            _uniform((count, hidden, 1), hidden, generator),
            torch.zeros(count, 1, 1),
        ]

    def errors(weights: list[Tensor], x: Tensor) -> Tensor:
        read, recur, bias, last, offset = weights
        s, _, n = x.shape
        repeats = len(read) // s
        wide = read.view(s, repeats, n, 4 * hidden).transpose(1, 2).reshape(s, n, -1)
        gates = (x[:, :-1] @ wide).view(s, -1, repeats, 4 * hidden).transpose(1, 2)
        gates = gates.reshape(s * repeats, -1, 4 * hidden) + bias
        state = cell = torch.zeros(len(read), 1, hidden)
        states = []
        for step in gates.split(1, dim=1):
            gate, keep, out, new = (step + state @ recur).chunk(4, dim=-1)
            cell = keep.sigmoid() * cell + gate.sigmoid() * new.tanh()
            state = out.sigmoid() * cell.tanh()
            states.append(state)
        fitted = (torch.cat(states, dim=1) @ last + offset).squeeze(-1)
        return fitted - _each(x[:, 1:], repeats)

    return _choose_and_fit(series, init, errors, 1, CLSTM_PENALTIES, updates, seed)


def _choose_and_fit(
    series: Array,
    init: Init,
    errors: Errors,
    start: int,
    penalties: tuple[float, ...],
    updates: int,
    seed: int,
) -> Array:
    """Group norms [S, N, N] at each store's best penalty."""
    x = torch.as_tensor(clear_of_calendar(series), dtype=torch.float32)
    s, t, n = x.shape
    generator = torch.Generator().manual_seed(seed)
    rows = t - start
    seen = rows - max(1, round(_HELD_OUT * rows))
    penalty = torch.tensor(penalties)
    # networks in order of store, penalty, receiver
    weights = init(s * len(penalty) * n, n, generator)
    weights = _train(weights, errors, x, penalty.repeat_interleave(n).repeat(s), seen, updates)
    with torch.no_grad():
        left = errors(weights, x)[:, seen:].square().mean(1).view(s, len(penalty), n)
    best = penalty[left.sum(-1).argmin(1)]
    weights = init(s * n, n, generator)
    weights = _train(weights, errors, x, best.repeat_interleave(n), rows, updates)
    norm = weights[0].flatten(2).norm(dim=-1).view(s, n, n)  # receiver by sender
    return norm.mT.double().numpy()


def _train(
    weights: list[Tensor],
    errors: Errors,
    x: Tensor,
    penalty: Tensor,
    rows: int,
    updates: int,
) -> list[Tensor]:
    """Minimise, per network, mean squared error + penalty x (sum of group norms) + ridge on the
    other weights. The groups take proximal steps whose length is one number per group, so that the
    shrinkage of a step is exact for it; the other weights take steps of Adam."""
    weights = [w.requires_grad_() for w in weights]
    group, others = weights[0], weights[1:]
    optimiser = torch.optim.Adam(others, lr=_RATE)
    slope, power = torch.zeros_like(group), torch.zeros(group.shape[:2])
    for update in range(1, updates + 1):
        loss = errors(weights, x)[:, :rows].square().mean(1).sum()
        loss = loss + _RIDGE * torch.stack([w.square().sum() for w in others]).sum()
        optimiser.zero_grad()
        group.grad = None
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            slope.lerp_(group.grad, 0.1)
            power.lerp_(group.grad.square().flatten(2).mean(2), 0.01)
            step = _RATE / ((power / (1.0 - 0.99**update)).sqrt() + 1e-4)
            wide = step.view(*step.shape, *[1] * (group.ndim - 2))
            group.sub_(wide * slope / (1.0 - 0.9**update))
            norm = group.flatten(2).norm(dim=-1)
            kept = (1.0 - step * penalty[:, None] / norm.clamp_min(1e-12)).clamp_min(0.0)
            group.mul_(kept.view_as(wide))
    return [w.detach() for w in weights]


def _each(present: Tensor, repeats: int) -> Tensor:
    """What the networks of each store are to predict, [S repeats, T'], receivers innermost."""
    s, rows, n = present.shape
    return present.mT.repeat(1, repeats // n, 1).reshape(s * repeats, rows)


def _uniform(shape: tuple[int, ...], inputs: int, generator: torch.Generator) -> Tensor:
    return (2.0 * torch.rand(shape, generator=generator) - 1.0) / inputs**0.5
