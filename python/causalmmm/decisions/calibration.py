"""``calibrate``: what the joint draws say of experiments, and what experiments say of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from causalmmm.data.experiments import Experiment
from causalmmm.data.panel import Panel
from causalmmm.decisions.period import (
    Floats,
    Period,
    Stores,
    Systems,
    days_of,
    recent_input,
    tail_of,
    worth,
)
from causalmmm.decisions.tables import INTERVAL
from causalmmm.engine.decisions import System
from causalmmm.findings import Finding, refusal, rounded

AGREES = 2.0  # standard errors between an experiment and the panel, at most
_FEW_DRAWS = 50


def lifts_of(systems: Systems, panel: Panel, experiments: Sequence[Experiment]) -> Floats:
    """[D, E]: the lift of each experiment in each joint draw, through all paths, summed over the
    experiment's stores, window and, unless its scope is immediate, the carry-over after it."""
    tail = tail_of(panel)
    shares = [_share(panel, experiment) for experiment in experiments]
    total: Tensor | None = None
    for stores in systems.groups(tail):
        tested = [np.isin(stores, e.stores) for e in experiments]
        if not any(part.any() for part in tested):
            continue
        given = recent_input(panel, stores, tail, 4 * tail)
        system = systems.system(stores, given).to(torch.float32)
        money = systems.scale(stores)[:, -1:] * worth(panel, stores, tail)
        if total is None:
            total = torch.zeros(system.draws, len(experiments), dtype=torch.float64)
        for e, (experiment, here) in enumerate(zip(experiments, tested, strict=True)):
            if here.any():
                lift = _lift(system, panel, stores, experiment, here, shares[e], money)
                total[:, e] += lift
    assert total is not None
    return total.numpy()


def _share(panel: Panel, experiment: Experiment) -> float:
    """The spend that made the difference, as a share of the money of the window (of the mean
    money for as many steps, where a channel went dark)."""
    channel = list(panel.schema.channels).index(experiment.channel)
    if np.isnan(experiment.spend):
        return 1.0
    period = Period(np.datetime64(experiment.start), np.datetime64(experiment.end))
    money = 0.0
    for store in experiment.stores.tolist():
        begin, end = panel.data.offsets[store], panel.data.offsets[store + 1]
        first = panel.data.start[store]
        inside = period.holds(panel.data.grid[first : first + end - begin])
        spent = panel.spend[begin:end, channel].astype(np.float64)
        dark = experiment.design == "go-dark"
        money += spent[~inside].mean() * inside.sum() if dark else spent[inside].sum()
    if not money > 0 or (experiment.design != "go-dark" and experiment.spend > 1.001 * money):
        raise refusal(
            "bad-experiment",
            f"The experiment {experiment.title} moved {experiment.spend:,.6g}, but the panel has "
            f"{max(money, 0.0):,.6g} for the channel there.",
            "Correct spend, dates or design; 'go-dark' is for spend that the panel lacks.",
            column="spend",
        )
    return experiment.spend / money


def _lift(
    system: System,
    panel: Panel,
    stores: Stores,
    experiment: Experiment,
    here: NDArray[np.bool_],
    share: float,
    money: Floats,
) -> Tensor:
    """[D]: lift in the stores of this group that were tested (``here`` bool [B])."""
    tail = tail_of(panel)
    period = Period(np.datetime64(experiment.start), np.datetime64(experiment.end))
    inside, counted = map(torch.from_numpy, period.counted(days_of(panel, stores), tail))
    tested = torch.from_numpy(here).unsqueeze(-1)
    inside, counted = inside & tested, (counted if experiment.scope == "total" else inside) & tested
    node = list(panel.schema.channels).index(experiment.channel)
    series = system.series[:1, :, node]  # [1, B, T + tail]
    if experiment.design == "go-dark":
        history = ~inside
        history[:, series.shape[-1] - tail :] = False
        mean = (series[0] * history).sum(-1) / history.sum(-1)
        other = series + share * mean.view(1, -1, 1) * inside
    else:
        other = series - share * series * inside
    change = (system.change({node: other}) * (counted * torch.from_numpy(money))).sum((1, 2))
    return change if experiment.design == "go-dark" else -change


def experiments_frame(
    experiments: Sequence[Experiment], before: Floats, after: Floats, wrong: Floats, factor: Floats
) -> pd.DataFrame:
    """A row per experiment: what was measured, and what the model says of it before and after;
    ``wrong`` and ``factor`` [E]. See ``CausalMMM.calibrate``."""
    frame = pd.DataFrame([e.to_json() for e in experiments])
    for name, drawn in (("before", before), ("after", after)):
        lower, upper = np.quantile(drawn, INTERVAL, 0)
        frame[name], frame[f"{name}_lower"], frame[f"{name}_upper"] = drawn.mean(0), lower, upper
    spread = np.hypot(before.std(0), frame["lift_se"])
    frame["conflict"] = (frame["lift"] - frame["before"]) / spread
    frame["factor"], frame["panel_wrong"] = factor, wrong
    return frame


def findings_of(
    experiments: Sequence[Experiment], frame: pd.DataFrame, effective: float
) -> list[Finding]:
    """What is to be told: experiments that contradict the panel, and too few draws left."""
    findings = []
    for experiment, row in zip(experiments, frame.to_dict("records"), strict=True):
        if abs(row["conflict"]) > AGREES:
            findings.append(
                Finding(
                    "warning",
                    "experiment-conflict",
                    f"The experiment {experiment.title} measured {rounded(row['lift'])} where the "
                    f"panel expects {rounded(row['before'])} ({row['conflict']:+.1f} standard "
                    f"errors); the channel's effects are multiplied by {row['factor']:.2g}.",
                    "Where spend reacts to demand the experiment is right; else check its units, "
                    "window and stores.",
                    column=experiment.channel,
                )
            )
    if effective < _FEW_DRAWS:
        findings.append(
            Finding(
                "warning",
                "few-draws",
                f"Experiments leave {effective:.0f} effective draws of the posterior: intervals "
                "are rough.",
                "Check whether experiments contradict one another, or lift_se is too small.",
            )
        )
    return findings
