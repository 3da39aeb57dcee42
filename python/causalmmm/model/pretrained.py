"""Graphs of a panel without any fit: the pretrained prior, with evidence where it has no say.

What the prior is, is decided in ``causalmmm.engine.prior``; here panels become frames.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from causalmmm.data.panel import Panel
from causalmmm.engine.batches.windows import Windows
from causalmmm.engine.nn.pretrained import LEAST_STEPS, PretrainedGraphs
from causalmmm.engine.prior import PanelKind, Prior, shipped_prior
from causalmmm.engine.spec.calendar import Calendar, CalendarSpec, calendar_spec, period_of
from causalmmm.findings import Finding, PanelError, counted, first_few
from causalmmm.inference import frames
from causalmmm.inference.compatibility import PanelLike, as_panel
from causalmmm.model.priors import Pair, edge_probability, positive_effects

WINDOW = 730  # last rows of a history that are read
_STORES_AT_ONCE = 64
_GROUPS_OF_PANEL = 4  # of so many stores, whose states stand for the panel


@dataclass(frozen=True)
class Reading:
    """What the prior reads in S stores of a panel.

    log_bf    [S, N, N], log Bayes factors of every edge from each store alone: the network's, or
              those of evidence in stores that are unlike every law
    evidence  [S, N, N], log Bayes factors of evidence
    unlike    bool [S]
    graphs    reads further stores as members of this panel
    """

    log_bf: Tensor
    evidence: Tensor
    unlike: NDArray[np.bool_]
    graphs: PretrainedGraphs


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
    was before any data (what is usual for such a pair, or your own ``edge_prior``); and what
    per-store evidence alone makes of that. So ``probability`` beside ``prior`` shows how far the
    data moved. Stores of a panel inform each other, in so far as they agree. ``edge_prior``,
    ``forbidden``, ``required`` and ``signed`` are as in ``CausalMMM``; rows with a probability
    below ``threshold`` are left out.

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
    usual = reading.graphs.base.sigmoid()
    given = edge_probability(panel.nodes, usual, edge_prior, forbidden, required)
    odds = torch.logit(given)  # infinite where an edge is forbidden or required
    values = {
        "probability": torch.sigmoid(odds + reading.log_bf),
        "prior": given.expand_as(reading.log_bf),
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


def read_panel(
    panel: Panel, prior: Prior, signed: Sequence[Pair] = (), spec: CalendarSpec | None = None
) -> Reading:
    """What the prior reads in every store of a panel, a few stores at a time.

    ``spec`` are the calendar's terms, by default the usual ones.
    """
    _check_lengths(panel)
    spec = spec or calendar_spec(panel.data, None, None)
    windows = Windows(panel.data, Calendar(spec, panel.data.grid), WINDOW, 0)
    positive = positive_effects(panel.nodes, panel.data.roles, signed)
    kind = PanelKind(panel.data.roles, period_of(panel.data.freq), positive)
    network, familiarity = deepcopy(prior.network), deepcopy(prior.familiarity)
    graphs = PretrainedGraphs(kind, spec.groups, network, familiarity)
    groups = list(frames.groups(panel, WINDOW, _STORES_AT_ONCE))
    known = [graphs.statistics(windows.full(stores)) for stores in groups[:_GROUPS_OF_PANEL]]
    graphs.set_panel(known)
    nodes = len(panel.nodes)
    log_bf, evidence = torch.empty(2, panel.n_stores, nodes, nodes)
    unlike = np.empty(panel.n_stores, dtype=bool)
    for k, stores in enumerate(groups):
        some = known[k] if k < len(known) else graphs.statistics(windows.full(stores))
        log_bf[stores], evidence[stores] = graphs.log_bf(some), some.log_bf
        unlike[stores] = graphs.unlike(some).numpy()
    return Reading(log_bf, evidence, unlike, graphs)


def panel_graphs(panel: Panel, signed: Sequence[Pair], spec: CalendarSpec) -> PretrainedGraphs:
    """Reads stores as members of this panel; warns of those that are unlike every law."""
    reading = read_panel(panel, shipped_prior(), signed, spec)
    if reading.unlike.any():
        warnings.warn(unlike_message(panel, reading), UserWarning, stacklevel=5)
    return reading.graphs


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
