"""Simulation-based calibration of the response regression (Talts et al., 2018).

    python -m bench.experiments.sbc
    python -m bench.experiments.sbc --quick                # few panels, into runs/

Panels are drawn from the regression's own prior: shapes, shared effects and their spread between
stores, edges, calendar, noise; then fitted. Where a posterior is exact, the rank of a true value
among its draws is uniform. ``told`` fits with the choices that the panels were drawn with; in
``default`` scale, level shifts and autoregression are chosen by evidence, as users have it; in
``all edges`` every store has every edge, and the fit is told.
Values: ``all stores``, a channel's contribution over the history, of all stores; ``one store``, of
the first one. A value of zero (no edge) shares its place with draws of zero: its rank is drawn
among theirs.

p is of a chi-square test of ten equal bins, with one channel of every panel, so that ranks are
independent; cover_50 and cover_90 are shares of all channels' values within central intervals,
bin_0 to bin_9 shares of ranks (.1 each where calibrated).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import chisquare
from torch import Tensor

from bench.lib.options import with_defaults
from bench.lib.record import Row, table
from bench.lib.result_log import ResultLog
from causalmmm.engine.regression import (
    Layout,
    Observed,
    RegressionConfig,
    contributions,
    fit,
    layout,
    observe,
    store_posterior,
)
from causalmmm.engine.regression.fit import Choice, base_problem
from causalmmm.engine.regression.theta import ThetaSpec

STORES, WEEKS, CHANNELS, BINS = 4, 104, 3, 10
GROUPS = ("intercept", "trend", "yearly", "yearly")
ROLES = ("channel",) * CHANNELS + ("target",)
BORROWED = 8.0  # stores' worth of weight of the prior probability of an edge
TOLD = RegressionConfig(autoregression="none", sender_scale="store", level=False)
FITS = {  # settings, and the layout with the prior of edges
    "told": (TOLD, layout(ROLES)),
    "default": (RegressionConfig(), layout(ROLES)),
    "all edges": (TOLD, layout(ROLES, edge_prior=1.0)),
}
Ranks = NDArray[np.float64]


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    options = _options(arguments)
    torch.set_num_threads(1)
    log = ResultLog(options.out, "sbc", vars(options))
    for name in options.fits:
        log.add({"fit": name}, partial(measured, name, options.panels))
    print(table(log.rows, ["fit", "value"], ["p", "cover_50", "cover_90"]))
    return log.rows


def measured(name: str, panels: int) -> list[Row]:
    config, plan = FITS[name]
    ranks = np.stack([ranks_of(seed, config, plan) for seed in range(panels)])
    values = ("all stores", "one store")
    return [{"value": value, **summary(ranks[:, k])} for k, value in enumerate(values)]


def summary(ranks: Ranks) -> Row:
    """Of ranks [panels, C] in [0, 1]."""
    panels, channels = ranks.shape
    single = ranks[np.arange(panels), np.arange(panels) % channels]
    counts = np.histogram(single, BINS, (0, 1))[0]
    shares = np.histogram(ranks, BINS, (0, 1))[0] / ranks.size
    away = np.abs(ranks - 0.5)
    row: Row = {"panels": panels, "p": float(chisquare(counts).pvalue)}
    row |= {"cover_50": float((away <= 0.25).mean()), "cover_90": float((away <= 0.45).mean())}
    return row | {f"bin_{k}": float(share) for k, share in enumerate(shares)}


def ranks_of(seed: int, config: RegressionConfig, plan: Layout) -> Ranks:
    """[2, C] in [0, 1]: of the true contributions of a panel among posterior draws."""
    observed, true = panel(seed, plan)  # true [B, C]
    regression = fit(observed, plan, GROUPS, replace(config, seed=seed), [CHANNELS])
    stores = store_posterior(regression, observed, seed=seed, receivers=[CHANNELS])
    drawn = contributions(stores).sums[..., :CHANNELS]  # [D, B, C]
    rng = np.random.default_rng([seed, 1])
    parts = ((drawn.sum(1), true.sum(0)), (drawn[:, 0], true[0]))
    return np.stack([_ranks(d.numpy(), t.numpy(), rng) for d, t in parts])


def _ranks(drawn: Ranks, true: Ranks, rng: np.random.Generator) -> Ranks:
    """[C] of values [C] among draws [D, C]; ties are broken at random."""
    below, equal = (drawn < true).sum(0), (drawn == true).sum(0)
    return (below + rng.uniform(0, equal + 1)) / (len(drawn) + 1)


def panel(seed: int, plan: Layout) -> tuple[Observed, Tensor]:
    """A panel from the prior, and each channel's true contribution [B, C] over the history."""
    rng = np.random.default_rng([seed, 0])
    torch.manual_seed(seed)
    observed = _spend(rng)
    choice = Choice(shared_scale=False)
    senders, target = range(CHANNELS), CHANNELS
    problem = base_problem(observed, plan, target, senders, GROUPS, None, TOLD, choice)
    theta = _theta(problem.spec, rng)
    centre, scale = problem.prior(theta)  # [B, Q + C] each
    terms = len(GROUPS)
    calendar = centre[:, :terms] + scale[:, :terms] * torch.randn(STORES, terms).double()
    held = _edges(plan, rng)
    effect = _above_zero(centre[:, terms:], scale[:, terms:]) * held
    parts = effect.unsqueeze(-1) * problem.responses(theta)  # [B, C, T]
    noise = torch.from_numpy(np.exp(rng.normal(-2.0, 1.5, STORES))).unsqueeze(-1)
    y = (observed.basis @ calendar.unsqueeze(-1)).squeeze(-1) + parts.sum(1)
    y = y + noise * torch.randn(STORES, WEEKS).double()
    x = torch.cat([observed.x[:, :CHANNELS], y.unsqueeze(1)], 1)
    return replace(observed, x=x), parts.sum(-1)


def _spend(rng: np.random.Generator) -> Observed:
    """Histories of spend in bursts, with a mean of one; the target is still empty."""
    t = np.arange(WEEKS)
    on = rng.random((STORES, CHANNELS, WEEKS // 4)).repeat(4, -1) < 0.7
    spend = rng.gamma(2.0, 1.0, (STORES, CHANNELS, WEEKS)) * on
    spend = spend / spend.mean(-1, keepdims=True)
    values = np.concatenate([spend, np.zeros((STORES, 1, WEEKS))], 1)
    waves = [np.sin(2 * np.pi * t / 52.18), np.cos(2 * np.pi * t / 52.18)]
    basis = np.stack([np.ones(WEEKS), (t - WEEKS + 1) / 52.18, *waves], 1)
    return observe(
        torch.from_numpy(values),
        torch.from_numpy(basis).expand(STORES, -1, -1),
        torch.ones(STORES, WEEKS, dtype=torch.bool),
        torch.ones(STORES, CHANNELS + 1),
        torch.arange(STORES),
        None,
    )


def _theta(spec: ThetaSpec, rng: np.random.Generator) -> Tensor:
    """Parameters [K] from their prior: decays are Beta, all others normal."""
    theta = torch.from_numpy(rng.standard_normal(len(spec.centre)))
    decay = torch.from_numpy(rng.beta(*spec.beta, spec.senders)).clamp(1e-6, 1 - 1e-6)
    where = spec.index("decay")
    theta[where] = (torch.logit(decay) - spec.centre[where]) / spec.width[where]
    return theta


def _edges(plan: Layout, rng: np.random.Generator) -> Tensor:
    """float64 [B, C], one where a store has the edge; how often stores do has a Beta prior."""
    share = plan.prior[:CHANNELS, CHANNELS].numpy().clip(1e-9, 1 - 1e-9)
    often = rng.beta(BORROWED * share, BORROWED * (1 - share))
    return torch.from_numpy((rng.random((STORES, CHANNELS)) < often).astype(float))


def _above_zero(centre: Tensor, scale: Tensor) -> Tensor:
    """Draws of normal numbers that are above zero."""
    value = torch.full_like(centre, -1.0)
    while bool((value <= 0).any()):
        value = torch.where(value > 0, value, centre + scale * torch.randn_like(centre))
    return value


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--fits", nargs="+", choices=list(FITS), default=list(FITS))
    parser.add_argument("--panels", type=int, default=None, help="40 by default")
    parser.add_argument("--quick", action="store_true", help="few panels, into runs/ unless --out")
    parser.add_argument("--again", action="store_true", help="measure what is there already too")
    parser.add_argument("--out", type=Path)
    return with_defaults(parser.parse_args(arguments), {"panels": 40}, {"panels": 3})


if __name__ == "__main__":
    main()
