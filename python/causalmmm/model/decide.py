"""The questions of ``CausalMMM`` about money: paths, ROI, budgets and plans side by side.

Answered in ``causalmmm.decisions``; here they meet the fitted model.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from causalmmm.data.bounds import Bound, channel_bounds, read_bounds
from causalmmm.data.experiments import read_experiments
from causalmmm.data.panel import Panel
from causalmmm.data.plan import Plan
from causalmmm.data.readers import Readable
from causalmmm.decisions.ahead import Ahead, money_ahead
from causalmmm.decisions.budgets import Budget, compared, optimized
from causalmmm.decisions.calibration import experiments_frame, findings_of, lifts_of
from causalmmm.decisions.effects import paths_frame, returns, roi_frame
from causalmmm.decisions.next_experiment import STEPS, ranked_tests
from causalmmm.decisions.period import By, read_period, recent_steps, tail_of
from causalmmm.decisions.tables import Returns
from causalmmm.engine.decisions import agree
from causalmmm.engine.regression import Calibration
from causalmmm.engine.spec.calendar import extend_grid
from causalmmm.inference.compatibility import PanelLike
from causalmmm.inference.frames import steps_of
from causalmmm.model.answers import RegressionAnswers
from causalmmm.model.predictor import Predictor

_POOL = 3  # draws that experiments weigh, for each that is kept


class Decisions(Predictor):
    """What ``CausalMMM`` answers from joint posterior draws of effects; the response regression
    has them, the amortised model has not: ``ValueError`` there."""

    def paths(
        self,
        panel: PanelLike | None = None,
        *,
        start: str | None = None,
        end: str | None = None,
        by: By = "store",
    ) -> pd.DataFrame:
        """What each channel's spend of a period brought, path by path.

        store, channel, path, mean, lower, upper; in the target's units (in money with a
        ``revenue_per_target`` column), with central 90 % intervals of joint draws.

        The spend of the period is set to zero, all else as it was, and the target's change is
        summed over the period and the carry-over after it (Jin et al., 2017, eqs. 10-11, rolled
        through mediators and the target's own past). ``tv -> sales`` holds mediators at what they
        were; ``tv -> search -> sales`` predicts that mediator anew; ``several mediators`` is the
        rest where there are more than one; they sum to ``total``. ``interaction`` is what all
        channels together bring beyond the sum of single ones: channels and interaction sum to
        ``all channels``.

        start, end  dates as '2024-01-01', both included; default: the whole history, as far as the
                    model reads it (its last ``window`` steps); ``ValueError`` for earlier ones.
        by          "store", "total" (all stores as one), or a mapping from store to group, whose
                    sums have intervals of their own.

        >>> list(model.paths(by="total"))
        ['store', 'channel', 'path', 'mean', 'lower', 'upper']
        """
        panel = self._known(panel)
        systems = self._systems(panel, tail_of(panel))
        return paths_frame(systems, *read_period(panel, int(self.window), start, end), by)

    def roi(
        self,
        panel: PanelLike | None = None,
        *,
        start: str | None = None,
        end: str | None = None,
        by: By = "store",
    ) -> pd.DataFrame:
        """Return on the spend of a period, by channel; arguments as in :meth:`paths`.

        store, channel       a group of ``by``; a paid channel or ``all channels``.
        spend, spend_share   money of the period, and its share of all channels'.
        outcome              incremental outcome, all paths, with outcome_lower and outcome_upper;
        outcome_share        its share of all channels' outcome; empty where that may be zero.
        roi, mroi            outcome per money, and for the last per cent of money; with bounds.
        cpik                 money per incremental unit, median; empty where most draws have none.
        effectiveness        outcome per unit of exposure, where the channel has exposure.

        ``lower`` and ``upper`` bound central 90 % intervals of joint draws.

        >>> roi = model.roi(by="total").set_index("channel")
        >>> bool(roi.loc["x0", "roi_lower"] <= roi.loc["x0", "roi"] <= roi.loc["x0", "roi_upper"])
        True
        """
        panel = self._known(panel)
        systems = self._systems(panel, tail_of(panel))
        return roi_frame(systems, *read_period(panel, int(self.window), start, end), by)

    def returns(
        self, panel: PanelLike | None = None, *, start: str | None = None, end: str | None = None
    ) -> Returns:
        """:meth:`roi` of every store and of all together, and their :meth:`paths`, in one pass.

        ``.stores`` and ``.total`` are frames as ``roi`` gives them by "store" and by "total",
        ``.paths`` as ``paths`` gives it by "total"; asking for the three takes a third of the time.

        >>> found = model.returns()
        >>> set(found.stores["store"]) == set(panel.stores), found.total["store"].unique().tolist()
        (True, ['all stores'])
        """
        panel = self._known(panel)
        systems = self._systems(panel, tail_of(panel))
        return returns(systems, *read_period(panel, int(self.window), start, end))

    def optimize(
        self,
        horizon: int | None = None,
        budget: float | None = None,
        *,
        panel: PanelLike | None = None,
        plan: Any | None = None,
        bounds: Mapping[str, tuple[float, float]] | Readable | None = None,
        groups: Mapping[str, str] | None = None,
        quantile: float | None = None,
        reach: Mapping[str, float] | None = None,
    ) -> Budget:
        """The spend by store, channel and step after the history that brings the most.

        horizon   steps to plan; default: the plan's, or the model's ``horizon_``.
        budget    money for all stores, channels and steps; default: what the current plan spends.
        plan      the current plan, as ``predict`` takes it; default: each store goes on with each
                  channel's mean of the last year.
        bounds    (lower, upper) of a channel's total relative to the current plan, as in
                  ``{"tv": (0.8, 1.2)}``; (1, 1) keeps the channel as it is. Or a table (or a path
                  to one) that bounds any sums: store (a store, a group or ALL), channel (or ALL),
                  start, end, min, max, unit ("money", or "share" of the current plan), per (words
                  of "store channel step": each by itself, not their sum); what is left out is ALL.
        groups    store -> group, names for the table of bounds.
        quantile  maximise this quantile of the outcome instead of its mean, as in 0.1: safer.
        reach     a goal instead of a budget: {"outcome": 50000} spends the least that brings so
                  much in all; {"roi": 2} and {"mroi": 1} the most that still returns so much, on
                  the whole or by its last unit of money.

        No step gets more than the store has spent on the channel in one step before, as nothing is
        known of effects beyond. Carry-over from the history counts, and so does what is carried
        over after the horizon. The current plan, scaled to the budget, is where the search begins,
        and no step of it makes the outcome worse under the model. ``RefusedInput`` where the
        bounds cannot be met; a warning where the plan gains over the current one with a
        probability (``gain["better"]``) below 0.9.

        >>> found = model.optimize(8, bounds={"x0": (0.9, 1.1)})
        >>> bool(found.gain["mean"] >= 0)
        True
        """
        if quantile is not None and not 0 < quantile < 1:
            raise ValueError(f"quantile is between 0 and 1, got {quantile}")
        panel, future, ahead, limits = self._asked(panel, plan, horizon, bounds, groups)
        systems = self._systems(panel, ahead.money.shape[1] + tail_of(panel))
        found = optimized(
            systems,
            panel,
            ahead,
            budget=budget,
            bounds=limits,
            quantile=quantile,
            plan=future,
            reach=reach,
        )
        for finding in found.findings():
            warnings.warn(f"{finding.message} {finding.remedy}", UserWarning, stacklevel=2)
        return found

    def next_experiment(
        self,
        horizon: int | None = None,
        budget: float | None = None,
        *,
        panel: PanelLike | None = None,
        plan: Any | None = None,
        bounds: Mapping[str, tuple[float, float]] | Readable | None = None,
        groups: Mapping[str, str] | None = None,
        steps: int | None = None,
        error: float | None = None,
    ) -> pd.DataFrame:
        """Tests of a channel, ranked by how much they would tell about what the budget brings.

        A test holds back the current plan's spend on a channel for some steps, in one store or in
        ALL. Its lift is uncertain, and so is the gain of the best plan (:meth:`optimize`) over the
        current one; where both depend on the same effects, measuring the one narrows the other:
        var(gain) falls by cov(gain, lift)^2 / (var(lift) + lift_se^2) under the joint draws.

        store, channel, start, end  the test;  spend  money held back.
        lift, lift_sd   expected lift and its standard deviation in the draws, carry-over included;
        lift_se         standard error that the test is assumed to have.
        gain_sd, gain_sd_after  standard deviation of the gain now, and after the test;
        removed         share of its variance that the test removes; rows are sorted by it.

        horizon, budget, plan, bounds, groups  of the budget, as in :meth:`optimize`.
        steps  of a test; default: 8 weeks, 28 days or 3 months, the horizon at most.
        error  lift_se as a share of the expected lift; default: what the noise of the target makes
               of a comparison with as long a period without the test.

        >>> tests = model.next_experiment(8)
        >>> bool(tests["removed"].is_monotonic_decreasing)
        True
        """
        panel, _, ahead, limits = self._asked(panel, plan, horizon, bounds, groups)
        horizon = ahead.money.shape[1]
        steps = min(STEPS[panel.freq[0]], horizon) if steps is None else steps
        if not 1 <= steps <= horizon:
            raise ValueError(f"a test has 1 to {horizon} steps (the horizon), got {steps}")
        if error is not None and not error > 0:
            raise ValueError(f"error is a share of the lift above 0, got {error}")
        systems = self._systems(panel, horizon + tail_of(panel))
        return ranked_tests(
            systems, panel, ahead, budget=budget, bounds=limits, steps=steps, error=error
        )

    def compare(self, plans: Mapping[str, Any], panel: PanelLike | None = None) -> pd.DataFrame:
        """Plans of spend side by side: what each brings beyond the first.

        plan, spend, spend_change, outcome_change, lower, upper, better: ``better`` is the
        probability that the plan brings more than the first. All plans span the same steps; a
        channel that a plan leaves out goes on with its mean of the last year.

        >>> best = model.optimize(4)
        >>> flat = best.plan.assign(**{c: panel.to_frame()[c].mean() for c in ["x0", "x1"]})
        >>> model.compare({"flat": flat, "best": best.plan})["plan"].tolist()
        ['flat', 'best']
        """
        panel = self._known(panel)
        if not plans:
            raise ValueError("no plan to compare: pass a mapping from name to plan")
        known: dict[str, Plan] = {
            name: self._checked_plan(p, panel, controls=False) for name, p in plans.items()
        }
        steps = {name: plan.horizon for name, plan in known.items()}
        if len(set(steps.values())) > 1:
            raise ValueError(f"plans differ in their number of steps: {steps}")
        horizon = next(iter(steps.values()))
        dates = self._dates(panel, horizon)
        ahead = {name: money_ahead(panel, p, horizon, dates) for name, p in known.items()}
        return compared(self._systems(panel, horizon + tail_of(panel)), panel, ahead)

    def calibrate(self, experiments: Readable, panel: PanelLike | None = None) -> pd.DataFrame:
        """Take experiments into the model: from here on all its answers agree with them.

        experiments  a table, or a path to one: store (or ALL), channel, start, end, lift, lift_se,
                     and where wanted spend (default: all of the window), scope ("total" with
                     carry-over, or "immediate") and design ("holdback" and "heavy-up": the panel
                     contains the spend; "go-dark": it lacks it). A lift is what the spend added to
                     the target, in money where ``revenue_per_target`` is a column.

        A row per experiment: the table's columns; before, after (with lower and upper, 90 %), what
        the model says of it; ``conflict``, standard errors between experiment and panel;
        ``panel_wrong``, probability that the panel misjudges the channel; ``factor``, what its
        effects are multiplied by (median). An experiment enters as likelihood on the windowed
        counterfactual through all paths; the factor is of all stores. A second call replaces the
        first; a warning tells of conflicts. Edge probabilities stay as they are.

        >>> import copy
        >>> model = copy.copy(model)  # the original stays without experiments
        >>> days = panel.dates(panel.stores[0])
        >>> test = {"store": "ALL", "channel": "x0", "start": days[40], "end": days[47]}
        >>> found = model.calibrate(pd.DataFrame([test | {"lift": 900.0, "lift_se": 300.0}]))
        >>> bool(abs(found.loc[0, "after"] - 900) <= abs(found.loc[0, "before"] - 900))
        True
        """
        panel = self._known(panel)
        recent = recent_steps(panel, int(self.window))
        read = read_experiments(experiments, recent)
        steps = tail_of(panel)
        regression = self._systems(panel, steps).regression
        pool = _POOL * regression.config.draws
        wide = replace(regression, config=replace(regression.config, draws=pool), calibration=None)
        windows = self._windows(panel.data, ahead=steps)
        before = lifts_of(RegressionAnswers(wide, windows, panel, seed=self.seed), recent, read)
        channels = list(dict.fromkeys(experiment.channel for experiment in read))
        tested = [channels.index(experiment.channel) for experiment in read]
        found = agree(
            torch.from_numpy(before),
            torch.tensor([experiment.lift for experiment in read], dtype=torch.float64),
            torch.tensor([experiment.lift_se for experiment in read], dtype=torch.float64),
            torch.tensor(tested),
            regression.config.draws,
            self.seed,
        )
        factor = torch.ones(len(found.index), len(panel.nodes), dtype=torch.float64)
        factor[:, [panel.nodes.index(channel) for channel in channels]] = found.factor
        records = [experiment.to_json() for experiment in read]
        self.model_ = replace(
            regression, calibration=Calibration(pool, found.index, factor, records)
        )
        after = lifts_of(self._systems(panel, steps), recent, read)
        wrong, middle = found.wrong.numpy()[tested], found.factor.median(0).values.numpy()[tested]
        frame = experiments_frame(read, before, after, wrong, middle)
        for finding in findings_of(read, frame, found.effective):
            warnings.warn(f"{finding.message} {finding.remedy}", UserWarning, stacklevel=2)
        return frame

    def _asked(
        self,
        panel: PanelLike | None,
        plan: Any | None,
        horizon: int | None,
        bounds: Mapping[str, tuple[float, float]] | Readable | None,
        groups: Mapping[str, str] | None,
    ) -> tuple[Panel, Plan | None, Ahead, list[Bound]]:
        """The panel, the current plan and its money, and the bounds of a budget."""
        known = self._known(panel)
        future = None if plan is None else self._checked_plan(plan, known, controls=False)
        steps = steps_of(horizon, future, self.horizon_)
        if bounds is None or isinstance(bounds, Mapping):
            limits = channel_bounds(bounds or {}, known)
        else:
            limits = read_bounds(bounds, known, groups)
        return known, future, money_ahead(known, future, steps, self._dates(known, steps)), limits

    def _systems(self, panel: Panel, steps: int) -> RegressionAnswers:
        answers = self._answers(self._windows(panel.data, ahead=steps), panel)
        if not isinstance(answers, RegressionAnswers):
            raise ValueError(
                "decisions need joint draws of effects, which the response regression has: fit "
                "with regime='regression'"
            )
        return answers

    def _dates(self, panel: Panel, steps: int) -> Any:
        """datetime64 [S, steps]: the steps after each history."""
        data = panel.data
        grid = extend_grid(data.grid, data.freq, steps)
        return grid[(data.start + data.lengths)[:, None] + np.arange(steps)]
