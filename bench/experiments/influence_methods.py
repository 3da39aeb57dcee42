"""Influence of every sender on every receiver, measured on a forecaster by pulses; the fitted
model under other graphs. No files, no tables.

A pulse adds one standard deviation of the sender to one row. One step ahead: what it changes in the
predictions of the receiver over the next ``STEPS`` rows, all rows otherwise as they were. Rolled
out: what it changes in a forecast of ``STEPS`` rows that feeds on itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.experiments.baselines.forecast_graphless import OneStep
from causalmmm.data.panel import Panel
from causalmmm.engine.batches.batch import Batch
from causalmmm.engine.batches.windows import Windows
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.nn.posterior import Inference, causal_probability
from causalmmm.engine.predict.effects import expected_weights, one_step_errors
from causalmmm.engine.predict.future import Future
from causalmmm.engine.predict.noise import draw_noise
from causalmmm.engine.predict.rollout import roll_forward
from causalmmm.engine.spec.calendar import Calendar, extend_grid

if TYPE_CHECKING:
    from causalmmm.model.estimator import CausalMMM

Array = NDArray[np.float64]
STEPS = 7
DRAWS = 16
Rolled = Callable[[Array], Array]


class Fitted:
    """The fitted model on a panel, with the first ``rows`` steps of each store as context."""

    def __init__(self, model: CausalMMM, panel: Panel, rows: int) -> None:
        data = panel.data
        self.model: CausalModel = model.model_
        calendar = Calendar(model.calendar_, extend_grid(data.grid, data.freq, STEPS))
        windows = Windows(data, calendar, int(data.lengths.max()), model.config_.memory)
        stores = np.arange(panel.n_stores)
        self.scale = windows.scale
        self.rows = rows
        self.batch = windows.full(stores)
        self.batch.target_mask[:, rows:] = self.batch.context_mask[:, rows:]  # hidden, not padding
        self.batch.context_mask[:, rows:] = False
        ends = data.offsets[stores + 1] - 1
        self.future = Future(
            basis=torch.from_numpy(
                calendar.ahead(data.start[stores] + data.lengths[stores] - 1, STEPS)
            ),
            control_std=torch.zeros(panel.n_stores, STEPS, 0),
            context=torch.from_numpy(data.context[ends if data.context_moves else stores]),
            given=torch.full((panel.n_stores, len(panel.nodes), STEPS), torch.nan),
            floor=(self.batch.x.amin(-1) >= 0).unsqueeze(1),
        )
        with torch.no_grad():
            self.inferred = self.model.infer(self.batch)

    @property
    def probability(self) -> Array:
        """[S, N, N], the model's own probabilities of edges."""
        return causal_probability(self.inferred.posterior.edges).double().numpy()

    def under(self, graph: Array | None) -> Inference:
        """The inference under another graph of probabilities [S, N, N]; None keeps the learned."""
        if graph is None:
            return self.inferred
        gate = torch.as_tensor(graph, dtype=torch.float32)
        gates = torch.stack([1.0 - gate, gate], dim=-1)
        posterior = self.inferred.posterior
        edges = posterior.edges._replace(z=gates, logits=gates.log())
        return dataclasses.replace(
            self.inferred, posterior=dataclasses.replace(posterior, edges=edges)
        )

    @torch.no_grad()
    def errors(self, graph: Array | None = None) -> Array:
        """One-step errors [S, T - 1, N] in units of each series' level."""
        return one_step_errors(self.model, self.under(graph)).mT.double().numpy()

    @torch.no_grad()
    def one_step(self, graph: Array | None = None) -> Array:
        """[S, N, N], summed over steps and averaged over pulses at four rows.

        Predictions are linear in responses, and a response depends on its sender alone, so one
        pulse in all series at once tells the influence of each.
        """
        weights = expected_weights(self.model, self.under(graph))
        total = 0.0
        for at in pulse_rows(self.batch.x.shape[-1]):
            change = self._responses(self._pulsed(at, None)) - self._responses(self.batch.x)
            moved = torch.einsum("bidt,bidj->bijt", change[..., at : at + STEPS], weights)
            total = total + moved.abs().sum(-1)
        return self._relative(total / len(pulse_rows(self.batch.x.shape[-1])))

    @torch.no_grad()
    def rolled_out(self, graph: Array | None = None) -> Array:
        """[S, N, N], summed over steps; forecasts are means of the same ``DRAWS`` futures."""
        inferred = self.under(graph)
        base = self._forecast(self.batch, inferred)
        columns = []
        for sender in range(self.batch.x.shape[1]):
            x = self._pulsed(self.batch.x.shape[-1] - 1, sender)
            shifted = inferred.residual + (x - self.batch.x)  # the baseline stays what it was
            moved = self._forecast(
                dataclasses.replace(self.batch, x=x),
                dataclasses.replace(inferred, residual=shifted),
            )
            columns.append((moved - base).abs().sum(-1))
        return self._relative(torch.stack(columns, dim=1))

    def _forecast(self, batch: Batch, inferred: Inference) -> Tensor:
        """[S, N, STEPS]."""
        nodes, terms = batch.x.shape[1], batch.basis.shape[-1]
        noise = draw_noise(nodes, terms, STEPS, draws=DRAWS, seed=0, device=batch.x.device)
        return roll_forward(self.model, batch, inferred, self.future, noise).mean(1)

    def _responses(self, x: Tensor) -> Tensor:
        response, _ = self.model.decoder.respond(x, self.batch.context, self.batch.level)
        return self.model.decoder.delayed(response)

    def _pulsed(self, at: int, sender: int | None) -> Tensor:
        x = self.batch.x.clone()
        which = slice(None) if sender is None else slice(sender, sender + 1)
        x[:, which, at] += self._spread()[:, which]
        return x

    def _spread(self) -> Tensor:
        return self.batch.x.std(-1)

    def _relative(self, influence: Tensor) -> Array:
        """In standard deviations of the receiver; the diagonal is zero."""
        out = (influence / self._spread().unsqueeze(1).clamp_min(1e-6)).double().numpy()
        out[:, np.arange(out.shape[1]), np.arange(out.shape[1])] = 0.0
        return out


def pulse_rows(steps: int) -> list[int]:
    """Four rows, spread over the last half of a history, with ``STEPS`` more after each."""
    return [int(at) for at in np.linspace(steps // 2, steps - STEPS - 2, 4)]


def one_step_influence(predict: OneStep, x: Array) -> Array:
    """[S, N, N] of a forecaster without a graph, as for ``Fitted.one_step``."""
    rows, total = pulse_rows(x.shape[1]), 0.0
    base = predict(x)
    for at in rows:
        columns = []
        for sender in range(x.shape[2]):
            pulsed = x.copy()
            pulsed[:, at, sender] += x[..., sender].std(1)
            columns.append(np.abs(predict(pulsed) - base)[:, at : at + STEPS].sum(1))
        total = total + np.stack(columns, axis=1)
    return _relative(total / len(rows), x)


def rolled_influence(predict: OneStep, x: Array) -> Array:
    """[S, N, N] of a forecaster without a graph, as for ``Fitted.rolled_out``: the last ``STEPS``
    rows are forecast from the ones before, each from the forecasts before it."""
    start = x.shape[1] - STEPS

    def roll(history: Array) -> Array:
        path = history.copy()
        for t in range(start, x.shape[1]):
            path[:, t] = predict(path)[:, t - 1]
        return path[:, start:]

    base, columns = roll(x), []
    for sender in range(x.shape[2]):
        pulsed = x.copy()
        pulsed[:, start - 1, sender] += x[..., sender].std(1)
        columns.append(np.abs(roll(pulsed) - base).sum(1))
    return _relative(np.stack(columns, axis=1), x)


def _relative(influence: Array, x: Array) -> Array:
    out = influence / np.maximum(x.std(1), 1e-6)[:, None]
    out[:, np.arange(out.shape[1]), np.arange(out.shape[1])] = 0.0
    return out


def wrong_graphs(edges: NDArray[np.bool_], seed: int) -> NDArray[np.bool_]:
    """As many edges per store, of the same kinds of receivers, between other pairs where possible:
    the senders of each receiver are dealt anew among the series that do not drive it."""
    rng = np.random.default_rng([seed, 19])
    wrong = np.zeros_like(edges)
    stores, nodes, _ = edges.shape
    for s in range(stores):
        for j in range(nodes):
            free = np.flatnonzero(~edges[s, :, j] & (np.arange(nodes) != j))
            count = min(len(free), int(edges[s, :, j].sum()))
            wrong[s, rng.permutation(free)[:count], j] = True
    return wrong
