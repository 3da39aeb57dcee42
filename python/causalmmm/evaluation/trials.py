"""The seven trials of ``trust``: on which panels a model is fitted again, and what must come out.

Each trial names its panels first, so that its cost is known before it begins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from causalmmm.data.panel import Panel
from causalmmm.evaluation.altered import (
    Rows,
    copy_of,
    later_rows,
    noisy_spend,
    shuffled_rows,
    simulated_target,
    with_copies,
)
from causalmmm.evaluation.forecasts import MODEL, forecasts, hide, scores
from causalmmm.findings import counted, first_few

if TYPE_CHECKING:
    from causalmmm.model.fitted import FittedModel

# Thresholds of mmm-eval, which users know; wMAPE stands for MAPE, which small sales blow up.
ERROR, R2 = 0.15, 0.8
REFRESHED, PERTURBED = 0.15, 0.08
PLACEBO = 0.5  # of what a channel returns: an ROI of -50 % where it returns its spend
# Our own: no worse than naive, intervals that hold about what they say, effects found again.
NAIVE = 1.0
COVER_80 = (0.7, 0.9)
COVER_90 = 0.75
RECOVERED = 0.15

NOISE = 0.05  # standard deviation of the factor on spend, as in mmm-eval
# Of FAKES copies, fewer in proportion. Chosen on five sound and five reactive panels, tried on ten
# others (docs/trust.md): by chance one of three copies of future spend gets a small sure effect,
# where spend follows demand two do.
FUTURE_COPIES = 1
FAKES = 3  # channels of which a fake copy is added: those with the largest effects
MATTERS = 0.02  # share of all effects from which on a channel's relative change counts
STEP = {"D": "day", "W": "week", "M": "month"}
ADDED = {"D": 28, "W": 4, "M": 1}  # steps of a refresh


class NotRun(ValueError):
    """A trial that makes no sense for this model or panel; the message says why."""


@dataclass(frozen=True)
class Ask:
    """A fitted model, the panel it is tried on, and how many steps are hidden how often."""

    model: FittedModel
    panel: Panel
    horizon: int
    origins: int

    @property
    def step(self) -> str:
        return STEP[self.panel.freq[0]]

    @property
    def target(self) -> str:
        return self.panel.nodes[-1]

    @property
    def seed(self) -> int:
        return int(self.model.seed)

    @property
    def in_draws(self) -> bool:
        """Whether the model has joint draws, and with them intervals of effects."""
        return self.model.regime_ == "regression"


@dataclass(frozen=True)
class Measure:
    """A number, the bounds it must keep (None: none), and what it means in words."""

    measure: str
    value: float
    meaning: str
    at_least: float | None = None
    at_most: float | None = None


@dataclass(frozen=True)
class Trial:
    """Panels to fit the model on, and what is measured on the fitted models in their order."""

    panels: Sequence[Panel]
    judge: Callable[[Sequence[FittedModel]], list[Measure]]


def holdout(ask: Ask) -> Trial:
    """The last steps are hidden and forecast, their spend known."""
    return _hidden(ask, [0])


def cv(ask: Ask) -> Trial:
    """The same from several origins, half a horizon apart, fitted before the first."""
    every = max(1, ask.horizon // 2)
    return _hidden(ask, [every * k for k in reversed(range(ask.origins))])


def refresh(ask: Ask) -> Trial:
    """Some more steps arrive: how far does what was said of the time before them move?"""
    added = ADDED[ask.panel.freq[0]]
    earlier = _without(ask.panel, added)
    until = str(ask.panel.data.grid[-1 - added])

    def judge(fitted: Sequence[FittedModel]) -> list[Measure]:
        before = channel_effects(fitted[0], earlier)
        after = channel_effects(fitted[1], ask.panel, until)
        return _moved(before, after, REFRESHED, f"with {counted(added, ask.step)} more")

    return Trial([earlier, ask.panel], judge)


def perturbation(ask: Ask) -> Trial:
    """Spend is recorded with a little noise."""
    noisy = noisy_spend(ask.panel, NOISE, ask.seed)

    def judge(fitted: Sequence[FittedModel]) -> list[Measure]:
        before = channel_effects(fitted[0], ask.panel)
        after = channel_effects(fitted[1], noisy)
        return _moved(before, after, PERTURBED, f"with {NOISE:.0%} noise on spend")

    return Trial([ask.panel, noisy], judge)


def placebo(ask: Ask) -> Trial:
    """Copies of channels, shuffled in time, are added: they must get no effect."""
    rows = shuffled_rows(ask.panel, ask.seed)
    return _fake(ask, "shuffled", rows, 0, "chance alone gets an effect")


def future_spend(ask: Ask) -> Trial:
    """The spend of the step after is added as a channel of its own: it must get no effect."""
    # Where nothing acts within a step, the value that acts now must be that of two steps later.
    steps = 1 if ask.in_draws else 2
    rows = later_rows(ask.panel, steps)
    doubt = "spend follows demand, or both follow something that is not in the panel"
    return _fake(ask, f"next {ask.step}", rows, steps, doubt, FUTURE_COPIES)


def recovery(ask: Ask) -> Trial:
    """Sales are simulated from the fitted model: its effects must be found again."""
    parts = ask.model.decompose(ask.panel)
    simulated = simulated_target(ask.panel, parts, ask.seed)
    channels = channel_names(ask.panel)
    keys = ["store", "component"]
    true = parts[parts["component"].isin(channels)].groupby(keys)["value"].sum()

    def judge(fitted: Sequence[FittedModel]) -> list[Measure]:
        again = fitted[0].decompose(simulated).groupby(keys)["value"].sum()[true.index]
        by_channel = pd.DataFrame({"true": true, "again": again}).groupby("component").sum()
        error = (by_channel["again"] - by_channel["true"]).abs()
        share = float(error.sum() / by_channel["true"].abs().sum())
        measures = [
            Measure(
                "error of effects",
                share,
                f"effects found in data of the model's own law miss its own by {share:.0%}; most: "
                f"{error.idxmax()}",
                at_most=RECOVERED,
            )
        ]
        return measures + (_recovered_intervals(fitted[0], simulated, true) if ask.in_draws else [])

    return Trial([simulated], judge)


TRIALS: dict[str, Callable[[Ask], Trial]] = {
    "holdout": holdout,
    "cv": cv,
    "refresh": refresh,
    "perturbation": perturbation,
    "placebo": placebo,
    "future-spend": future_spend,
    "recovery": recovery,
}


def channel_names(panel: Panel) -> list[str]:
    """Channels and organic channels, in order."""
    pairs = zip(panel.nodes, panel.data.roles, strict=True)
    return [name for name, role in pairs if role in ("channel", "organic")]


def channel_effects(model: FittedModel, panel: Panel, until: str | None = None) -> pd.DataFrame:
    """What the channels' amounts brought over the history (to the date ``until``), all stores as
    one: by channel, effect, amount (money, where known), and lower, the end of a 90 % interval.

    Effects are totals through all paths in the response regression; the amortised model has direct
    ones without intervals.
    """
    names, data = channel_names(panel), panel.data
    if model.regime_ == "regression":
        table = model.paths(panel, end=until, by="total")
        table = table[table["path"] == "total"].set_index("channel").loc[names]
        found = pd.DataFrame({"effect": table["mean"], "lower": table["lower"]})
    else:
        parts = model.decompose(panel)
        parts = parts[parts["component"].isin(names)]
        if until is not None:
            parts = parts[parts["date"] <= until]
        effect = parts.groupby("component")["value"].sum().loc[names]
        found = pd.DataFrame({"effect": effect, "lower": np.nan})
    amounts = data.values[:, : len(names)].astype(np.float64)
    paid = panel.spend.shape[1]
    amounts[:, :paid] = np.where(np.isnan(panel.spend), amounts[:, :paid], panel.spend)
    if until is not None:
        step = np.arange(len(amounts)) - np.repeat(data.offsets[:-1] - data.start, panel.lengths)
        amounts = amounts[data.grid[step] <= np.datetime64(until)]
    return found.assign(amount=amounts.sum(0))


def _hidden(ask: Ask, skipped: Sequence[int]) -> Trial:
    horizon, j = ask.horizon, len(ask.panel.nodes) - 1
    training = _without(ask.panel, horizon + skipped[0])

    def judge(fitted: Sequence[FittedModel]) -> list[Measure]:
        made = forecasts(fitted[0], ask.panel, horizon, skipped, spend_known=True)
        found = {(method, metric): value for method, metric, value in scores(made, j, horizon)}
        error = {method: found[method, "wape"] for method in made.means}
        naive = {method: value for method, value in error.items() if method != MODEL}
        best = min(naive, key=lambda method: naive[method])
        ratio = error[MODEL] / naive[best] if naive[best] > 0 else np.inf
        r2, cover = found[MODEL, "r2_median"], found[MODEL, "coverage_80"]
        origins = f" from {len(skipped)} origins" if len(skipped) > 1 else ""
        said = f"forecasts of {counted(horizon, f'hidden {ask.step}')}{origins}"
        return [
            Measure("wMAPE", error[MODEL], f"{said} miss {ask.target} by {error[MODEL]:.1%}; their "
                    "spend was known", at_most=ERROR),
            *(Measure(f"wMAPE of {method}", value, f"the same of a forecast by {method}")
              for method, value in naive.items()),
            Measure("wMAPE / best naive", ratio, f"below 1: better than {best}", at_most=NAIVE),
            Measure("R2, median store", r2, f"{r2:.0%} of what moved in the median store was "
                    "foreseen", at_least=R2),
            Measure("coverage of 80 % intervals", cover, f"{cover:.0%} of what happened lay inside",
                    *COVER_80),
        ]  # fmt: skip

    return Trial([training], judge)


def _fake(ask: Ask, label: str, rows: Rows, cut: int, doubt: str, allowed: int = 0) -> Trial:
    """Copies of the channels with the largest effects, which must have none themselves."""
    effects = channel_effects(ask.model, ask.panel)["effect"]
    paid = effects[list(ask.panel.schema.channels)]
    real = [str(name) for name in paid[paid > 0].nlargest(FAKES).index]
    if not real:
        raise NotRun("no paid channel has an effect, so there is none to copy")
    panel = with_copies(ask.panel, real, label, rows)
    if cut:
        panel = _without(panel, cut)

    def judge(fitted: Sequence[FittedModel]) -> list[Measure]:
        found = channel_effects(fitted[0], panel)
        own = found.loc[real, "effect"]
        fake = found.loc[[copy_of(name, label) for name in real]]
        share = float(fake["effect"].sum() / own.sum()) if own.sum() > 0 else np.inf
        measures = [
            Measure(
                "return of copies / own",
                share,
                f"copies of {first_few(real)} ({label}) return {share:.0%} of what these do; more "
                f"means that {doubt}",
                at_most=PLACEBO,
            )
        ]
        if ask.in_draws:
            # A share of the channel's own effect, as a bound of positive draws is never quite zero.
            sure = (fake["lower"].to_numpy() > MATTERS * own.to_numpy()).sum()
            measures.append(
                Measure(
                    "copies with a sure effect",
                    float(sure),
                    f"90 % intervals of {sure} of {len(real)} copies leave zero out",
                    at_most=allowed * len(real) // FAKES,
                )
            )
        return measures

    return Trial([panel], judge)


def _moved(before: pd.DataFrame, after: pd.DataFrame, most: float, occasion: str) -> list[Measure]:
    """How far returns differ, by channel and in the sum."""
    old, new = (table["effect"] / table["amount"] for table in (before, after))
    size = before["effect"].abs()
    change = (new / old - 1).abs()[size > MATTERS * size.sum()]
    if not len(change):
        raise NotRun("no channel has an effect that could move")
    mean, worst = float(change.mean()), str(change.idxmax())
    moved = float(((new - old).abs() * before["amount"]).sum() / size.sum())
    return [
        Measure(
            "ROI change, mean channel",
            mean,
            f"{occasion}, ROI of a channel moves by {mean:.0%} on average; most: {worst} "
            f"({change[worst]:.0%})",
            at_most=most,
        ),
        Measure(
            "effects that moved",
            moved,
            f"{occasion}, {moved:.0%} of all effects go to or come from elsewhere",
            at_most=most,
        ),
    ]


def _recovered_intervals(
    again: FittedModel, simulated: Panel, true: pd.Series[float]
) -> list[Measure]:
    table = again.contributions(simulated).set_index(["store", "series"]).loc[true.index]
    inside = (table["direct_lower"] <= true.array) & (true.array <= table["direct_upper"])
    share = float(inside.mean())
    return [
        Measure(
            "coverage of 90 % intervals",
            share,
            f"{share:.0%} of the model's own effects by store and channel lie inside",
            at_least=COVER_90,
        )
    ]


def _without(panel: Panel, last: int) -> Panel:
    """The panel without its last steps, at least as many of which must be left."""
    shortest = int(panel.lengths.min())
    if shortest < 2 * last:
        raise NotRun(
            f"{last} steps are hidden, and as many must be left: it needs {2 * last} steps in "
            f"every store, the shortest has {shortest}"
        )
    return hide(panel, last)[0]
