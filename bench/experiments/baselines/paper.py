"""CausalMMM as its paper describes it (Gong et al., WSDM 2024): raw windows in, neural messages.

Encoder: every series' whole history through an MLP, edges and nodes in two passes with BatchNorm.
Decoder: a recurrent state per series, messages along sampled edges from states of sender and
receiver, saturated by a Hill curve whose shape context moves. One window serves graph and
likelihood, and the prior is uniform. Own implementation; what is kinder than the authors' code:
stores are trained in batches, a message knows the sender's latest value (theirs the state before
it), and the output variance (0.1, theirs is 5e-7) lets the prior count. Series come clear of the
calendar and standardised per store; or, closer to theirs, as they are, on one scale for all stores,
which keeps how stores differ in size.

Budget: ``updates`` steps of Adam on 16 stores and a random stretch of 50 steps each; the weights
with the best loss on a tenth of the training stores are kept.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from bench.experiments.baselines.series import clear_of_calendar

Array = NDArray[np.float64]
_RATE = 2e-3
_BATCH, _STRETCH, _EVERY = 16, 50, 20
_VARIANCE = 0.1
_TEMPERATURE = 0.5


def causalmmm_paper(
    training: Array,
    training_context: Array,
    series: Array,
    *,
    hidden: int = 32,
    updates: int = 600,
    seed: int = 0,
    one_scale: bool = False,
) -> Array:
    """Edge probabilities [S, N, N] of the histories ``series`` [S, T, N], from a model trained on
    ``training`` [R, T, N] with static context [R, C].

    one_scale  series less their mean over all training stores, by their spread there; otherwise
               each store's own, clear of the calendar.
    """
    if one_scale:
        mean, spread = training.mean((0, 1)), training.std((0, 1))
        prepared = [(a - mean) / np.where(spread > 0.0, spread, 1.0) for a in (training, series)]
    else:
        prepared = [clear_of_calendar(a) for a in (training, series)]
    known, asked = (torch.as_tensor(a, dtype=torch.float32) for a in prepared)
    context = torch.as_tensor(training_context, dtype=torch.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _Paper(*known.shape[1:], context.shape[1], hidden)
        _fit(model, known, context, updates, np.random.default_rng(seed))
    with torch.no_grad():
        parts = [model.encode(part).softmax(-1)[..., 1] for part in asked.split(64)]
    return torch.cat(parts).double().numpy()


class _Paper(nn.Module):
    """Graphs and one-step predictions; edge type 0 carries no message."""

    def __init__(self, steps: int, nodes: int, context: int, hidden: int) -> None:
        super().__init__()
        self.embed = _MLP(steps, hidden)
        self.edge1, self.node = _MLP(2 * hidden, hidden), _MLP(hidden, hidden)
        self.edge2 = _MLP(3 * hidden, hidden)
        self.out = nn.Linear(hidden, 2)
        self.message = nn.Sequential(nn.Linear(2 * hidden + 2, hidden), nn.Tanh())
        self.curve = nn.Linear(1 + context, 2 * hidden)  # slope and half-saturation by context
        self.state = nn.GRUCell(hidden + 1, hidden)
        self.predict = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        self.register_buffer("off", ~torch.eye(nodes, dtype=torch.bool))
        self.hidden = hidden

    def encode(self, x: Tensor) -> Tensor:
        """Logits [B, N, N, 2], sender by receiver, from whole histories [B, T, N]."""
        h = self.embed(x.mT)
        first = self.edge1(_pairs(h))
        received = self.node((first * self.off.unsqueeze(-1)).sum(1) / (len(self.off) - 1))
        return self.out(self.edge2(torch.cat([_pairs(received), first], dim=-1)))

    def forward(self, whole: Tensor, stretch: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Errors [B, T' - 1, N] on a stretch [B, T', N], and KL [B] of the graph."""
        logits = self.encode(whole)
        share = logits.softmax(-1)
        sample = F.gumbel_softmax(logits, tau=_TEMPERATURE) if self.training else share
        gate = (sample[..., 1] * self.off).unsqueeze(-1)
        uniform = torch.log(torch.tensor(0.5))
        divergence = (share * (logits.log_softmax(-1) - uniform)).sum(-1) * self.off
        batch, steps, nodes = stretch.shape
        state = stretch.new_zeros(batch * nodes, self.hidden)
        curve = self.curve(F.pad(context, (1, 0), value=1.0))[:, None, None]
        slope, half = F.softplus(curve[..., : self.hidden] + 1.0), curve[..., self.hidden :]
        errors = []
        for t in range(steps - 1):
            known = torch.cat([state.view(batch, nodes, -1), stretch[:, t, :, None]], dim=-1)
            sent = self.message(_pairs(known))
            felt = torch.sigmoid(slope * (sent - half))  # Hill of exp(sent)
            message = (felt * gate).sum(1).reshape(batch * nodes, -1)
            now = stretch[:, t].reshape(-1, 1)
            state = self.state(torch.cat([message, now], dim=-1), state)
            predicted = (now + self.predict(state)).view(batch, nodes)
            errors.append(predicted - stretch[:, t + 1])
        return torch.stack(errors, dim=1), divergence.sum((1, 2))


class _MLP(nn.Module):
    """Two layers and BatchNorm over all leading axes, as in the authors' encoder."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs, hidden), nn.ELU(), nn.Linear(hidden, hidden), nn.ELU()
        )
        self.norm = nn.BatchNorm1d(hidden)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.layers(x).flatten(0, -2)).view(*x.shape[:-1], -1)


def _pairs(h: Tensor) -> Tensor:
    """[B, N, N, 2 H] of sender and receiver from [B, N, H]."""
    n = h.shape[1]
    sender, receiver = h.unsqueeze(2).expand(-1, -1, n, -1), h.unsqueeze(1).expand(-1, n, -1, -1)
    return torch.cat([sender, receiver], dim=-1)


def _fit(model: _Paper, x: Tensor, context: Tensor, updates: int, rng: np.random.Generator) -> None:
    order = rng.permutation(len(x))
    held = max(1, min(64, len(x) // 10))
    watched, kept = order[:held], order[held:]
    optimiser = torch.optim.Adam(model.parameters(), lr=_RATE)
    steps = x.shape[1]
    long = min(_STRETCH, steps)

    def loss(stores: NDArray[np.int64], first: int) -> Tensor:
        errors, divergence = model(x[stores], x[stores, first : first + long], context[stores])
        nll = errors.square().sum((1, 2)) / (2 * _VARIANCE) * steps / long
        return (nll + divergence).mean()

    best, weights = float("inf"), copy.deepcopy(model.state_dict())
    for update in range(updates):
        model.train()
        stores = kept[rng.permutation(len(kept))[:_BATCH]]
        value = loss(stores, int(rng.integers(0, steps - long + 1)))
        optimiser.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        if (update + 1) % _EVERY == 0:
            model.eval()
            with torch.no_grad():
                score = float(loss(watched, steps - long))
            if score < best:
                best, weights = score, copy.deepcopy(model.state_dict())
    model.load_state_dict(weights)
    model.eval()
