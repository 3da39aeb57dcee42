"""InGRA (Chu et al., 2020): inductive Granger causality, attention over learned prototypes.

One model for all stores. An LSTM per series reads its history; each receiver attends to all series,
itself included; its attention is matched to prototype attentions that all stores share, and the
matched prototypes decide how much of each series it reads. A store never trained on is scored by
the same attention. Own implementation after the paper, one model for all receivers at once.

Budget and tuning: at most ``updates`` steps of Adam on batches of 32 training stores, stopped early
on a tenth of them; 8 prototypes.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bench.experiments.baselines.series import clear_of_calendar

Array = NDArray[np.float64]
_RATE = 0.005
_BATCH = 32
_EVERY, _PATIENCE = 20, 5  # updates between validations; validations without improvement
_DIVERSE = 0.1


def ingra(
    training: Array,
    series: Array,
    *,
    hidden: int = 16,
    prototypes: int = 8,
    updates: int = 600,
    seed: int = 0,
) -> Array:
    """Attention of each receiver to each sender, averaged over time: [S, N, N] for the histories
    ``series`` [S, T, N], from a model trained on the histories ``training``."""
    known, asked = (
        torch.as_tensor(clear_of_calendar(a), dtype=torch.float32) for a in (training, series)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _InGRA(known.shape[-1], hidden, prototypes)
        _fit(model, known, updates, np.random.default_rng(seed))
    with torch.no_grad():
        parts = [model(part)[1] for part in asked.split(_BATCH)]
    return torch.cat(parts).mT.double().numpy()


class _InGRA(nn.Module):
    """Forward gives one-step predictions [S, T - 1, N], attention [S, receiver, sender], and how
    alike the prototypes are."""

    def __init__(self, nodes: int, hidden: int, prototypes: int) -> None:
        super().__init__()
        scale = hidden**-0.5
        self.read = nn.Parameter(scale * torch.randn(nodes, 1, 4 * hidden))
        self.recur = nn.Parameter(scale * torch.randn(nodes, hidden, 4 * hidden))
        self.bias = nn.Parameter(torch.zeros(nodes, 1, 4 * hidden))
        self.key = nn.Parameter(scale * torch.randn(nodes, hidden, hidden))
        self.query = nn.Parameter(scale * torch.randn(nodes, hidden))
        self.prototypes = nn.Parameter(torch.randn(nodes, prototypes, nodes))
        self.sharp = nn.Parameter(torch.tensor(1.0))
        self.value = nn.Parameter(scale * torch.randn(nodes, nodes, hidden))
        self.offset = nn.Parameter(torch.zeros(nodes))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        state = self._states(x[:, :-1])  # [N, S, T - 1, H]
        keyed = torch.tanh(state @ self.key.unsqueeze(1))
        energy = torch.einsum("isth,jh->stji", keyed, self.query)
        attention = energy.softmax(-1).mean(1)  # [S, receiver, sender], this store's own
        shared = self.prototypes.softmax(-1)
        near = -(attention.unsqueeze(2) - shared).square().sum(-1)  # [S, receiver, prototype]
        weight = (near * self.sharp.exp() * shared.shape[-1]).softmax(-1)
        if self.training:
            weight = nn.functional.gumbel_softmax(weight.clamp_min(1e-9).log(), tau=0.5)
        matched = torch.einsum("sjk,jki->sji", weight, shared)
        # the matched prototype, moved by what the store's own attention says
        graph = (matched * attention).clamp_min(1e-12).sqrt()
        graph = graph / graph.sum(-1, keepdim=True)
        message = torch.einsum("isth,jih->stji", state, self.value)
        predicted = (graph.unsqueeze(1) * message).sum(-1) * shared.shape[-1] ** 0.5
        predicted = predicted + self.offset
        overlap = torch.einsum("jki,jli->jkl", shared, shared)
        alike = overlap.sum() - overlap.diagonal(dim1=1, dim2=2).sum()
        return predicted, graph, alike / overlap.numel()

    def _states(self, x: Tensor) -> Tensor:
        """Hidden states [N, S, T, H] of each series' own LSTM."""
        given = x.permute(2, 0, 1).unsqueeze(-1) @ self.read.unsqueeze(1) + self.bias.unsqueeze(1)
        width = self.recur.shape[1]
        state = cell = given.new_zeros(*given.shape[:2], width)
        states = []
        for step in given.unbind(2):
            gate, keep, out, new = (step + state @ self.recur).chunk(4, dim=-1)
            cell = (keep + 1.0).sigmoid() * cell + gate.sigmoid() * new.tanh()
            state = out.sigmoid() * cell.tanh()
            states.append(state)
        return torch.stack(states, dim=2)


def _fit(model: _InGRA, x: Tensor, updates: int, rng: np.random.Generator) -> None:
    """Mean squared one-step error + likeness of prototypes; keeps the best validated weights."""
    order = rng.permutation(len(x))
    held = max(1, len(x) // 10)
    watched, kept = x[order[:held]], x[order[held:]]
    optimiser = torch.optim.Adam(model.parameters(), lr=_RATE)
    best, stale, weights = float("inf"), 0, copy.deepcopy(model.state_dict())
    for update in range(updates):
        model.train()
        batch = kept[rng.permutation(len(kept))[:_BATCH]]
        predicted, _, alike = model(batch)
        loss = (predicted - batch[:, 1:]).square().mean() + _DIVERSE * alike
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if (update + 1) % _EVERY:
            continue
        model.eval()
        with torch.no_grad():
            error = float((model(watched)[0] - watched[:, 1:]).square().mean())
        stale = 0 if error < best else stale + 1
        if error < best:
            best, weights = error, copy.deepcopy(model.state_dict())
        if stale == _PATIENCE:
            break
    model.load_state_dict(weights)
    model.eval()
