"""Edges of the response regression and of the pretrained prior as one: their log odds averaged.

The regression sees how well effects explain a store, the prior what edges of such panels look like.
Graphs and everything that is weighed by graphs (contributions, forecasts, decisions) take the
combined probabilities; effects while an edge is present are the regression's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor, nn

from causalmmm.engine.batches.batch import Batch
from causalmmm.engine.nn.pretrained import LEAST_STEPS, PretrainedGraphs
from causalmmm.engine.ops.export_switch import exporting
from causalmmm.engine.prior import (
    PanelKind,
    empty_familiarity,
    empty_network,
    give_innovations_no_weight,
)
from causalmmm.engine.regression.design import Observed

# Of the regression's log odds; the prior's have the rest. By the log loss of edges on draws of the
# training law "weekly" (bench.experiments.combined_edges).
REGRESSION_WEIGHT = 1 / 3
_MOST_KEPT = 10_000  # readings of stores, some kilobytes each
_SURE = 1e-4  # evidence of either counts up to this distance from zero and one


@dataclass(frozen=True)
class Reading:
    """What the prior reads in B stores.

    log_odds  [B, N, N] of every edge;  settled  bool [B, N, N], pairs that stay the regression's.
    """

    log_odds: Tensor
    settled: Tensor

    def combined(self, own: Tensor, senders: Sequence[int], receiver: int) -> Tensor:
        """[B, n] from the regression's own probabilities of a receiver's senders."""
        some = torch.tensor(senders)
        read, settled = (
            part[..., receiver].index_select(1, some) for part in (self.log_odds, self.settled)
        )
        return _both(own, read, settled)


class CombinedEdges(nn.Module):
    """Reads stores for the regression; a store's reading is the same in whatever company it is.

    graphs   the pretrained prior for series like the panel's, reading stores alone.
    given    [N, N], probability of every edge before any data, as the prior has it.
    settled  bool [N, N], pairs that stay the regression's; so do all pairs of stores whose history
             is too short for the prior or unlike all its laws.

    What drives a receiver is read without the series that are forbidden to (``given`` is zero), so
    that these have no influence on it by a bit.
    """

    given: Tensor
    settled: Tensor

    def __init__(self, graphs: PretrainedGraphs, given: Tensor, settled: Tensor) -> None:
        super().__init__()
        self.graphs = graphs
        self.register_buffer("given", given)
        self.register_buffer("settled", settled)
        receivers: dict[tuple[int, ...], list[int]] = {}  # by the series that they are read with
        for j in range(len(given)):
            held = tuple(i for i in range(len(given)) if i == j or bool(given[i, j] > 0))
            if len(held) > 1:
                receivers.setdefault(held, []).append(j)
        # no list of modules: all read with the network of ``graphs``, which is kept once
        self._readers = tuple((held, to, graphs.of(held)) for held, to in receivers.items())
        self._kept: dict[bytes, Reading] = {}  # by what was read, oldest first

    @torch.no_grad()
    def forward(self, observed: Observed) -> Reading:
        """The prior reads one store at a time, so that its answers do not depend on others by a
        bit; an exported file reads all at once. Reading is most of an answer's time: a history
        that was read for one question is not read again for the next."""
        if exporting():
            return self._read(observed)
        reader = _digest(*self.state_dict().values())
        stores = torch.arange(len(observed.x)).split(1)
        parts = [self._read_once(observed.select(store), reader) for store in stores]
        return Reading(*(torch.cat(part) for part in zip(*map(_parts, parts), strict=True)))

    def _read_once(self, store: Observed, reader: bytes) -> Reading:
        """A store's reading: the kept one where these weights have read the same rows before."""
        key = reader + _digest(store.x, store.basis, store.mask)
        reading = self._kept.get(key)
        if reading is None:
            reading = self._kept[key] = self._read(store)
            if len(self._kept) > _MOST_KEPT:
                oldest, *_ = list(self._kept)  # a copy: other threads keep readings meanwhile
                self._kept.pop(oldest, None)
        return reading

    def _read(self, observed: Observed) -> Reading:
        rows, x = observed.mask, observed.x.to(torch.float32)
        short = rows.to(torch.float32).sum(-1) < LEAST_STEPS
        none = torch.zeros_like(observed.x[..., 0])
        odds = [none] * len(self.given)  # by receiver, [B, N]
        silent = [torch.ones_like(short)] * len(self.given)
        for held, receivers, graphs in self._readers:
            some = torch.tensor(held)
            batch = Batch(
                x=x.index_select(1, some),
                basis=observed.basis.to(torch.float32),
                context=observed.x[:, :0],
                context_mask=rows,
                target_mask=rows,
                store=observed.store,
            )
            statistics = graphs.statistics(batch)
            log_bf, unlike = graphs.log_bf(statistics), graphs.unlike(statistics)
            place = [held.index(i) if i in held else 0 for i in range(len(odds))]
            for j in receivers:
                column = log_bf[..., held.index(j)].index_select(1, torch.tensor(place))
                given = self.given[:, j].clamp(_SURE, 1 - _SURE)
                read = torch.sigmoid(column + torch.logit(given)).to(torch.float64)
                odds[j] = torch.logit(read, eps=_SURE)
                silent[j] = short | unlike
        settled = self.settled | torch.stack(silent, -1).unsqueeze(1)
        return Reading(torch.stack(odds, -1), settled)

    def before_data(self, own: Tensor) -> Tensor:
        """[N, N]: probabilities before any data, from the regression's ``own``."""
        given = torch.logit(self.given.to(own.dtype), eps=_SURE)
        return _both(own, given, self.settled)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors by name, and the rest as JSON holds it."""
        kind = self.graphs.kind
        return dict(self.state_dict()), {"roles": list(kind.roles), "period": kind.period}

    @staticmethod
    def from_state(
        tensors: dict[str, Tensor], settings: dict[str, Any], groups: Sequence[str]
    ) -> CombinedEdges:
        """What :meth:`state` described; ``groups`` name the kind of each calendar term."""
        kind = PanelKind(tuple(settings["roles"]), settings["period"], tensors["graphs.positive"])
        network = empty_network(tensors["graphs.network.read.0.weight"].shape)
        familiarity = empty_familiarity(tensors["graphs.familiarity.directions"].shape)
        graphs = PretrainedGraphs(kind, tuple(groups), network, familiarity)
        edges = CombinedEdges(graphs, tensors["given"], tensors["settled"])
        edges.load_state_dict(tensors)
        give_innovations_no_weight(network, familiarity)
        return edges


def _both(own: Tensor, read: Tensor, settled: Tensor) -> Tensor:
    """Probabilities from the regression's ``own`` and log odds that the prior has."""
    odds = torch.logit(own, eps=_SURE)
    both = torch.sigmoid(REGRESSION_WEIGHT * odds + (1 - REGRESSION_WEIGHT) * read)
    return torch.where(settled, own, both)


def _parts(reading: Reading) -> tuple[Tensor, Tensor]:
    return reading.log_odds, reading.settled


def _digest(*parts: Tensor) -> bytes:
    """Tells tensors of other values, shapes or dtypes apart."""
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(f"{part.dtype}{tuple(part.shape)}".encode())
        digest.update(part.contiguous().numpy().data)
    return digest.digest()
