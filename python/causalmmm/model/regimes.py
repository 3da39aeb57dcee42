"""Which regime a panel gets, and the fit of the response regression by names and priors.

The amortised model is fitted in ``fitting``; the mathematics lives in ``causalmmm.engine``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from causalmmm.data.panel import Panel
from causalmmm.engine.batches.windows import Windows
from causalmmm.engine.nn.pretrained import PretrainedGraphs
from causalmmm.engine.prior import PanelKind, shipped_prior
from causalmmm.engine.regression import CombinedEdges, Regression, RegressionConfig, fit, layout
from causalmmm.engine.spec.calendar import CalendarSpec, period_of
from causalmmm.model.answers import observed_stores
from causalmmm.model.level_jumps import panel_jumps
from causalmmm.model.priors import Pair, edge_probability, positive_effects, reactive_series

Given = tuple[Mapping[Pair, float] | None, Sequence[Pair], Sequence[Pair]]
REGIMES = ("auto", "amortised", "regression")
MOST_FITTED = 60  # stores; their rows tell shapes apart well enough, and cost grows with them
MAX_STORES = 1000  # up to which weekly and monthly panels get the response regression by default


def chosen_regime(regime: str, structure: str, panel: Panel) -> str:
    """ "amortised" or "regression" for a panel; ``ValueError`` for a regime that does not exist.

    By default the response regression fits weekly and monthly panels of up to ``MAX_STORES`` stores
    with a channel: spend acts within the step there, which the amortised model does not know. So it
    does daily panels of up to ``MOST_FITTED`` stores whose level jumps without a control that says
    why: the amortised model has no such term, and books the jump to effects. A ``structure`` is a
    choice of the amortised model.
    """
    if regime not in REGIMES:
        raise ValueError(f"regime is one of {REGIMES}, got {regime!r}")
    if regime != "auto":
        return regime
    coarse = period_of(panel.data.freq) in ("W", "M")
    spend = any(role in ("channel", "organic") for role in panel.data.roles)
    if not spend or structure != "auto":
        return "amortised"
    if coarse:
        return "regression" if panel.n_stores <= MAX_STORES else "amortised"
    few = panel.n_stores <= MOST_FITTED
    return "regression" if few and panel_jumps(panel.data) else "amortised"


def fit_regression(
    windows: Windows,
    panel: Panel,
    *,
    prior: float,
    edge_prior: Mapping[Pair, float] | None,
    forbidden: Sequence[Pair],
    required: Sequence[Pair],
    signed: Sequence[Pair],
    reactive: Sequence[str],
    structure: str,
    seed: int,
) -> Regression:
    """The response regression of all series of a panel, its edges combined with the prior's but for
    the structure "evidence".

    What stores share is fitted on up to ``MOST_FITTED`` of them, drawn by ``seed``; every store's
    own coefficients follow in closed form when they are asked for. Channel to mediator or target,
    and mediator to target, have a prior probability of one half
    where the user gives none; all other pairs have ``prior``.
    """
    nodes, roles = panel.nodes, panel.data.roles
    config = RegressionConfig(other_prior=prior, seed=seed)
    positive = positive_effects(nodes, roles, signed)
    usual = layout(roles, config.edge_prior, config.other_prior)
    known = edge_probability(nodes, usual.prior, edge_prior, forbidden, required)
    follows = reactive_series(nodes, roles, reactive)
    plan = layout(roles, prior=known, positive=positive, reactive=follows)
    observed = observed_stores(windows, panel, fitted_stores(panel.n_stores, seed))
    spec = windows.calendar.spec
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fitted = fit(observed, plan, spec.groups, config)
    if structure == "evidence":
        return fitted
    given = edge_prior, forbidden, required
    return replace(fitted, edges=combined_edges(panel, spec, signed, reactive, given))


def combined_edges(
    panel: Panel, spec: CalendarSpec, signed: Sequence[Pair], reactive: Sequence[str], given: Given
) -> CombinedEdges | None:
    """For panels of weeks; None for others, where the regression's edges stay alone: no law of the
    prior is of months.

    ``given`` are the user's edge_prior, forbidden and required. Those with probability zero or one
    stay as they are, and so do the edges of reactive channels, which no law has.
    """
    if period_of(panel.data.freq) != "W":
        return None
    prior, roles = shipped_prior(), panel.data.roles
    kind = PanelKind(roles, "W", positive_effects(panel.nodes, roles, signed))
    graphs = PretrainedGraphs(kind, spec.groups, prior.network, prior.familiarity)
    probability = edge_probability(panel.nodes, graphs.base.sigmoid(), *given)
    settled = (probability == 0) | (probability == 1)
    settled |= torch.eye(len(roles), dtype=torch.bool)
    settled[reactive_series(panel.nodes, roles, reactive)] = True
    return CombinedEdges(graphs, probability, settled)


def fitted_stores(stores: int, seed: int) -> NDArray[np.int64]:
    """Positions of the stores that shapes and shared effects are fitted on, in order."""
    if stores <= MOST_FITTED:
        return np.arange(stores)
    return np.sort(np.random.default_rng(seed).choice(stores, MOST_FITTED, replace=False))


def fit_record(regression: Regression, nodes: Sequence[str]) -> pd.DataFrame:
    """What the evidence chose for every receiver, a row each.

    series, log_evidence, shared_scale (1 where a unit of spend means the same in all stores),
    autoregression, error_correlation, level_shifts.
    """
    return pd.DataFrame(
        [
            {
                "series": nodes[j],
                "log_evidence": receiver.report.get("log evidence", float("nan")),
                "shared_scale": float(receiver.shared_scale),
                "autoregression": float(receiver.own_lag),
                "error_correlation": receiver.rho,
                "level_shifts": float(len(receiver.shift_begin)),
            }
            for j, receiver in regression.receivers.items()
        ]
    )
