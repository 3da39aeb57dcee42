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
from causalmmm.model.alignment import begins_within_step
from causalmmm.model.answers import observed_stores
from causalmmm.model.level_jumps import panel_jumps
from causalmmm.model.priors import Pair, edge_probability, positive_effects, reactive_series

Given = tuple[Mapping[Pair, float] | None, Sequence[Pair], Sequence[Pair]]
REGIMES = ("auto", "amortised", "regression")
MOST_FITTED = 60  # stores; their rows tell shapes apart well enough, and cost grows with them
MAX_STORES = 1000  # up to which weekly and monthly panels get the response regression by default


def chosen_regime(regime: str, structure: str, panel: Panel) -> tuple[str, str]:
    """ "amortised" or "regression" for a panel, and why; ``ValueError`` for any other ``regime``.

    By default evidence about effects decides: the response regression fits panels in which effects
    begin within the step (``begins_within_step``), which the amortised model cannot, and those
    whose level jumps without a control that says why, which the amortised model books to effects.
    It fits weekly and monthly panels without such evidence too: graphs and effects are better there
    (``bench.experiments.regimes``). On more stores than ``MAX_STORES``, or ``MOST_FITTED`` of daily
    rows, the amortised model does; a ``structure`` is a choice of it.
    """
    if regime not in REGIMES:
        raise ValueError(f"regime is one of {REGIMES}, got {regime!r}")
    if regime != "auto":
        return regime, "as set"
    if not any(role in ("channel", "organic") for role in panel.data.roles):
        return "amortised", "no series is spent"
    if structure != "auto":
        return "amortised", f"structure '{structure}' is a choice of it"
    coarse = period_of(panel.data.freq) in ("W", "M")
    if panel.n_stores > (MAX_STORES if coarse else MOST_FITTED):
        return "amortised", "many stores teach each other"
    if begins_within_step(panel):
        return "regression", "effects begin within the step"
    if not coarse and panel_jumps(panel.data):
        return "regression", f"the level of {panel.nodes[-1]} jumps"
    if coarse:
        return "regression", "few stores and long steps"
    return "amortised", "nothing says that effects begin within the step"


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
    """For panels of weeks and days; None for others, where the regression's edges stay alone: no
    law of the prior is of months.

    ``given`` are the user's edge_prior, forbidden and required. Those with probability zero or one
    stay as they are, and so do the edges of reactive channels, which no law has.
    """
    period = period_of(panel.data.freq)
    if period == "M":
        return None
    prior, roles = shipped_prior(), panel.data.roles
    kind = PanelKind(roles, period, positive_effects(panel.nodes, roles, signed))
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
