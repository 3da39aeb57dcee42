"""Graphs of a panel without any fit: the pretrained prior, with evidence where it has no say.

What the prior is, is decided in ``causalmmm.engine.prior``; here panels become frames.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from causalmmm.data.panel import Panel
from causalmmm.engine.batches.windows import Windows
from causalmmm.engine.nn.pretrained import PretrainedGraphs
from causalmmm.engine.prior import PanelKind, Prior, kinds_of, panel_log_odds, shipped_prior
from causalmmm.engine.spec.calendar import Calendar, calendar_spec, period_of
from causalmmm.findings import Finding, PanelError, counted, first_few
from causalmmm.inference import frames
from causalmmm.inference.compatibility import PanelLike, as_panel
from causalmmm.model.priors import Pair, edge_probability, positive_effects

LEAST_STEPS = 24  # of a history: below, regressions on seven lags have nothing to say
_WINDOW = 730
_STORES_AT_ONCE = 64


@dataclass(frozen=True)
class Reading:
    """What the prior reads in S stores of a panel.

    log_bf    [S, N, N], log Bayes factors of every edge from each store alone: the network's, or
              those of evidence in stores that are unlike every law
    evidence  [S, N, N], log Bayes factors of evidence
    unlike    bool [S]
    """

    log_bf: Tensor
    evidence: Tensor
    unlike: NDArray[np.bool_]


def pretrained_graphs(
    panel: PanelLike,
    *,
    edge_prior: Mapping[Pair, float] | None = None,
    forbidden: Sequence[Pair] = (),
    required: Sequence[Pair] = (),
    signed: Sequence[Pair] = (),
    threshold: float = 0.0,
) -> pd.DataFrame:
    """Graphs of all stores from the pretrained prior, without a fit, in seconds.

    Rows store, source, target, probability, prior, evidence: the probability of the edge; what it
    was before the store's own data (what is usual for such a pair, moved by how often the panel's
    stores have it); and what per-store evidence alone makes of that. So ``probability`` beside
    ``prior`` shows how far the data moved. ``edge_prior``, ``forbidden``, ``required`` and
    ``signed`` are as in ``CausalMMM``; rows with a probability below ``threshold`` are left out.

    Stores unlike every law that the prior was trained on get their graphs from evidence, with a
    warning. ``PanelError`` for histories below 24 steps.

    >>> from causalmmm import pretrained_graphs, simulate
    >>> panel, _ = simulate("paper-small", stores=1, seed=3)
    >>> list(pretrained_graphs(panel).columns)
    ['store', 'source', 'target', 'probability', 'prior', 'evidence']
    """
    panel = as_panel(panel)
    prior = shipped_prior()
    reading = read_panel(panel, prior, signed)
    if reading.unlike.any():
        warnings.warn(unlike_message(panel, reading), UserWarning, stacklevel=2)
    usual = usual_probability(panel.data.roles, prior)
    given = edge_probability(panel.nodes, usual, edge_prior, forbidden, required)
    odds = panel_odds(reading.log_bf, given)
    values = {
        "probability": torch.sigmoid(odds + reading.log_bf),
        "prior": torch.sigmoid(odds).expand_as(reading.log_bf),
        "evidence": torch.sigmoid(odds + reading.evidence),
    }
    source, target = np.nonzero(~np.eye(len(panel.nodes), dtype=bool))
    cells = {name: array.numpy()[:, source, target] for name, array in values.items()}
    keep = cells["probability"] >= threshold
    names = np.array(panel.nodes, dtype=object)
    columns: dict[str, Any] = {
        "store": np.repeat(panel.stores, keep.sum(1)),
        "source": np.broadcast_to(names[source], keep.shape)[keep],
        "target": np.broadcast_to(names[target], keep.shape)[keep],
    }
    return pd.DataFrame(columns | {name: cell[keep] for name, cell in cells.items()})


def read_panel(panel: Panel, prior: Prior, signed: Sequence[Pair] = ()) -> Reading:
    """What the prior reads in every store of a panel, a few stores at a time."""
    _check_lengths(panel)
    spec = calendar_spec(panel.data, None, None)
    windows = Windows(panel.data, Calendar(spec, panel.data.grid), _WINDOW, 0)
    kind = panel_kind(panel.data.roles, panel.data.freq, panel.nodes, signed)
    graphs = PretrainedGraphs(kind, spec.groups, prior.network)
    nodes = len(panel.nodes)
    log_bf, evidence = torch.empty(2, panel.n_stores, nodes, nodes)
    unlike = np.empty(panel.n_stores, dtype=bool)
    for stores in frames.groups(panel, _WINDOW, _STORES_AT_ONCE):
        statistics = graphs.statistics(windows.full(stores))
        far = prior.familiarity.distance(statistics.features) > 1
        own = torch.where(far[:, None, None], statistics.log_bf, graphs.log_bf(statistics))
        log_bf[stores], evidence[stores] = own, statistics.log_bf
        unlike[stores] = far.numpy()
    return Reading(log_bf, evidence, unlike)


def panel_kind(
    roles: Sequence[str], freq: str, nodes: Sequence[str], signed: Sequence[Pair]
) -> PanelKind:
    """What the prior may know of a panel's series beside their values."""
    return PanelKind(tuple(roles), period_of(freq), positive_effects(nodes, roles, signed))


def usual_probability(roles: Sequence[str], prior: Prior) -> Tensor:
    """[N, N]: how often such pairs have an edge in the laws."""
    kinds = kinds_of(roles)
    return prior.network.base[kinds][:, kinds].sigmoid()


def panel_odds(log_bf: Tensor, given: Tensor) -> Tensor:
    """[N, N]: log odds of edges before a store's own data; infinite where they are ``given`` [N, N]
    as 0 or 1."""
    certain = (given == 0) | (given == 1)
    odds = panel_log_odds(log_bf, torch.logit(given, 1e-6))
    return torch.where(certain, torch.logit(given), odds)


def unlike_message(panel: Panel, reading: Reading) -> str:
    names = panel.stores[reading.unlike].tolist()
    return (
        f"{counted(len(names), 'store')} of {panel.n_stores} ({first_few(names, 3)}) are unlike "
        "every law that the pretrained prior was trained on: their graphs come from per-store "
        "evidence, whose probabilities tend to be too sure"
    )


def _check_lengths(panel: Panel) -> None:
    short = np.flatnonzero(panel.lengths < LEAST_STEPS)
    if len(short):
        raise PanelError(
            [
                Finding(
                    "error",
                    "history-too-short",
                    f"store '{panel.stores[s]}' has {panel.lengths[s]} steps; the pretrained prior "
                    f"needs {LEAST_STEPS}",
                    "give it a longer history, or leave the store out",
                    store=str(panel.stores[s]),
                    rows=int(panel.lengths[s]),
                )
                for s in short
            ]
        )
