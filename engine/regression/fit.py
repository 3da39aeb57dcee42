"""Fit of the response regression: one receiver after the other, choices made by evidence.

Calls the optimiser and the searches; the mathematics lives in their modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from causalmmm.engine.regression.config import RegressionConfig
from causalmmm.engine.regression.design import (
    Layout,
    Observed,
    design,
    kind_names,
)
from causalmmm.engine.regression.edges import (
    EffectPrior,
    Slab,
    learn_slab,
    sender_moments,
)
from causalmmm.engine.regression.em import expect_maximise
from causalmmm.engine.regression.level import (
    Shifts,
    find_shifts,
    no_shifts,
    pruned,
    relevance,
    shift_cost,
    shifted,
)
from causalmmm.engine.regression.optimise import best_decays, converge, laplace_draws, maximise
from causalmmm.engine.regression.problem import Mode, Problem, noise_mode, rated, start
from causalmmm.engine.regression.state import Receiver, Regression
from causalmmm.engine.regression.theta import ThetaSpec, theta_spec

_EM_STEPS = 15
_SHIFTS_AT_ONCE = 4
_SHIFT_ROUNDS = 3
_RELEVANCE_ROUNDS = 10
_WARM = (1.0, 0.5, 0.0)
_TIED = 3.0  # standard errors of an autocorrelation that is looked into
_MORE = 3.0  # nats that a choice with one more parameter must gain
_RHOS = (-0.2, 0.2, 0.4, 0.6, 0.8, 0.92)


@dataclass(frozen=True)
class Choice:
    """What is decided by evidence about one receiver.

    shared_scale  one unit of a sender means the same in all stores, else relative to its average.
    own_lag       its own last value is a term.
    rho           AR(1) coefficient of its errors.
    warm          senders before the first row, as a share of their mean.
    """

    shared_scale: bool
    own_lag: bool = False
    rho: float = 0.0
    warm: float = 1.0


@dataclass(frozen=True)
class Fitted:
    """A mode with its choice and its level shifts, of which ``common`` columns are in all stores.

    value  log evidence less what its shifts cost.
    """

    choice: Choice
    mode: Mode
    shifts: Shifts
    common: list[int]
    value: float


@dataclass(frozen=True)
class Task:
    """One receiver to be fitted, with all that does not change while it is."""

    observed: Observed
    layout: Layout
    receiver: int
    senders: tuple[int, ...]
    groups: tuple[str, ...]
    reference: Tensor
    config: RegressionConfig

    def problem(self, choice: Choice, shifts: Shifts, skip_first: bool = False) -> Problem:
        built = base_problem(
            self.observed,
            self.layout,
            self.receiver,
            self.senders,
            self.groups,
            self.reference if choice.shared_scale else None,
            self.config,
            choice,
            skip_first,
        )
        return shifted(built, self.observed, shifts)


def base_problem(
    observed: Observed,
    plan: Layout,
    receiver: int,
    senders: Sequence[int],
    groups: Sequence[str],
    reference: Tensor | None,
    config: RegressionConfig,
    choice: Choice,
    skip_first: bool = False,
) -> Problem:
    """A receiver's problem without level shifts; ``reference`` [N] is one scale for all stores."""
    unit = sender_unit(observed, senders, reference)
    built = design(
        observed,
        plan,
        receiver,
        senders,
        unit,
        groups,
        own_lag=choice.own_lag,
        rho=choice.rho,
        skip_first=skip_first,
        warm=choice.warm,
    )
    spec = spec_of(config, len(senders), groups, choice.own_lag)
    return Problem(built, spec, fixed_scale=built.y[:, :0])


def spec_of(
    config: RegressionConfig, senders: int, groups: Sequence[str], own_lag: bool
) -> ThetaSpec:
    """Prior of a receiver's parameters."""
    kinds = kind_names(groups)
    kind = [kinds.index(name) for name in groups] + [kinds.index("ar")] * own_lag
    return theta_spec(config, senders, tuple(kinds), tuple(kind), level=0.5)


def sender_unit(observed: Observed, senders: Sequence[int], reference: Tensor | None) -> Tensor:
    """[B, n]: what turns a scaled series into exposure."""
    scale = observed.scale[:, list(senders)]
    return torch.ones_like(scale) if reference is None else scale / reference[list(senders)]


def references(observed: Observed) -> Tensor:
    """[N]: average of each series over all stores' rows where it is not zero, in user's units."""
    rows = observed.mask.unsqueeze(1).to(torch.float64)
    size = observed.x.abs() * observed.scale.unsqueeze(-1) * rows
    return size.sum((0, 2)) / ((size > 0).sum((0, 2))).clamp_min(1)


def fit(
    observed: Observed,
    plan: Layout,
    groups: Sequence[str],
    config: RegressionConfig,
    receivers: Sequence[int] | None = None,
) -> Regression:
    """The regression of all series of a panel, or of these ``receivers``, the target first."""
    chosen = list(receivers if receivers is not None else reversed(range(plan.nodes)))
    reference = references(observed).clamp_min(1e-12)
    fitted = {}
    for receiver in chosen:
        task = Task(
            observed,
            plan,
            receiver,
            tuple(plan.senders(receiver)),
            tuple(groups),
            reference,
            config,
        )
        fitted[receiver] = fit_receiver(task) if plan.shaped(receiver) else fit_plain(task)
    return Regression(config, plan, tuple(groups), reference, fitted)


def fit_receiver(task: Task) -> Receiver:
    """A receiver whose senders' shapes are fitted."""
    config = task.config
    report: dict[str, float] = {}
    scales = {"shared": [True], "store": [False], "auto": [True, False]}[config.sender_scale]
    if len(task.observed.x) == 1:
        scales = [False]
    scouted = [_scout(task, Choice(shared)) for shared in scales]
    scouted.sort(key=lambda f: -f.value)
    best = scouted[0]
    if config.level:
        best = _with_level(task, best)
        if best.shifts.scale.shape[1]:  # a shift may have decided the scale
            scouted = [best, *(_with_level(task, other) for other in scouted[1:])]
            best = max(scouted, key=lambda f: f.value)
        else:
            scouted[0] = best
    for found in scouted:
        scale = "shared" if found.choice.shared_scale else "store"
        report[f"log evidence, {scale} scale"] = found.value
    best = _with_memory(task, best, report)
    problem = task.problem(best.choice, best.shifts)
    mode = converge(problem, best_decays(problem, best.mode), config.iterations)
    again = best_decays(problem, mode)
    if again.value > mode.value + 1e-6:
        mode = converge(problem, again, config.iterations)
    best, mode = _still_shifted(task, replace(best, mode=mode))
    problem = task.problem(best.choice, best.shifts)
    report["log evidence"] = mode.value
    return _finished(task, best, problem, mode, report)


def _scout(task: Task, choice: Choice) -> Fitted:
    """A few steps from the prior's centre, and the better ones of other carry-overs."""
    config, shifts = task.config, no_shifts(len(task.observed.x))
    problem = task.problem(choice, shifts)
    mode = expect_maximise(problem, start(problem), _EM_STEPS)
    mode = best_decays(problem, maximise(problem, mode, config.scout))
    choices = [replace(choice, warm=warm) for warm in _WARM]
    modes = [expect_noise(task.problem(c, shifts), mode) for c in choices]
    best = max(range(len(choices)), key=lambda k: modes[k].value)
    mode = maximise(task.problem(choices[best], shifts), modes[best], config.scout // 2)
    return Fitted(choices[best], mode, shifts, [], mode.value)


def fit_plain(task: Task) -> Receiver:
    """A receiver whose senders' shapes stay at their prior's centre: it costs one evaluation."""
    config, stores = task.config, len(task.observed.x)
    own_lag = config.autoregression in ("auto", "lag")
    choice = Choice(shared_scale=False, own_lag=own_lag)
    problem = task.problem(choice, no_shifts(stores))
    mode = expect_maximise(problem, start(problem), 2 * _EM_STEPS)
    fitted = Fitted(choice, mode, no_shifts(stores), [], mode.value)
    return _finished(task, fitted, problem, mode, {"log evidence": mode.value})


def _with_level(task: Task, without: Fitted) -> Fitted:
    """The fit with level shifts, if the evidence is for them."""
    config, observed = task.config, task.observed
    shifts, common, mode = without.shifts, list(without.common), without.mode
    plain = task.problem(without.choice, shifts)
    for _ in range(_SHIFT_ROUNDS):
        before = shifts.scale.shape[1]
        undecided = _calendar_undecided(plain.spec, mode.theta)
        shifts, more = find_shifts(
            plain, observed, undecided, shifts, config.level_odds, _SHIFTS_AT_ONCE
        )
        common += more
        if shifts.scale.shape[1] == before:
            break
        mode = replace(mode, theta=undecided)
        for _ in range(_RELEVANCE_ROUNDS):  # cheap: what trend had absorbed goes back to the shift
            problem = shifted(plain, observed, shifts)
            mode = expect_maximise(problem, mode, 3)
            shifts = relevance(problem, mode.theta, mode.log_noise, shifts, common)
        shifts, common = pruned(
            plain, observed, mode.theta, mode.log_noise, shifts, common, config.level_odds
        )
        problem = shifted(plain, observed, shifts)
        mode = maximise(problem, rated(problem, mode), config.scout)
        shifts = relevance(problem, mode.theta, mode.log_noise, shifts, common)
    if not shifts.scale.shape[1]:
        return without
    shifts, common = pruned(
        plain, observed, mode.theta, mode.log_noise, shifts, common, config.level_odds
    )
    problem = shifted(plain, observed, shifts)
    mode = maximise(problem, rated(problem, mode), config.scout)
    own = (shifts.scale > 0).sum() - sum(int((shifts.scale[:, c] > 0).sum()) for c in common)
    cost = shift_cost(observed, config.level_odds) * (int(own) + len(common))
    found = replace(without, mode=mode, shifts=shifts, common=common, value=mode.value - cost)
    longer = maximise(plain, without.mode, config.scout)
    return (
        found if found.value > longer.value else replace(without, mode=longer, value=longer.value)
    )


def _still_shifted(task: Task, fitted: Fitted) -> tuple[Fitted, Mode]:
    """The fit without level shifts that a search run to its end has made needless."""
    config, mode = task.config, fitted.mode
    if not fitted.shifts.scale.shape[1]:
        return fitted, mode
    plain = task.problem(fitted.choice, no_shifts(len(task.observed.x)))
    shifts, common = pruned(
        plain,
        task.observed,
        mode.theta,
        mode.log_noise,
        fitted.shifts,
        fitted.common,
        config.level_odds,
    )
    if not torch.equal(shifts.scale, fitted.shifts.scale):
        problem = shifted(plain, task.observed, shifts)
        mode = converge(problem, rated(problem, mode), config.iterations)
    return replace(fitted, shifts=shifts, common=common, mode=mode), mode


def _calendar_undecided(spec: ThetaSpec, theta: Tensor) -> Tensor:
    """theta with terms at their prior, but for the intercept.

    A fit without shifts has made its trend and cycles sure of what a shift did; undecided, they
    give it back where a shift explains it better.
    """
    undecided = theta.clone()
    undecided[spec.index("scales")] = 0.0
    undecided[spec.index("shared")][1:] = 0.0
    return undecided


def _with_memory(task: Task, fitted: Fitted, report: dict[str, float]) -> Fitted:
    """Autocorrelated errors or the receiver's own last value, where the evidence asks for them.

    With errors, effects stay what they are; with an own lag they go on into later steps, and an
    effect is meant in the long run. All are compared on the rows that have a row before.
    """
    setting, scout = task.config.autoregression, task.config.scout
    plain = task.problem(fitted.choice, fitted.shifts, skip_first=True)
    base = expect_noise(plain, fitted.mode)
    if setting == "none" or (setting == "auto" and not _autocorrelated(plain, base)):
        return fitted
    found = {"none": (fitted.choice, maximise(plain, base, scout))} if setting == "auto" else {}
    if setting in ("auto", "errors"):
        options = [replace(fitted.choice, rho=rho) for rho in _RHOS]
        problems = [task.problem(o, fitted.shifts, skip_first=True) for o in options]
        modes = [expect_noise(problem, fitted.mode) for problem in problems]
        best = max(range(len(options)), key=lambda k: modes[k].value)
        found["errors"] = (options[best], maximise(problems[best], modes[best], scout))
    if setting in ("auto", "lag"):
        choice = replace(fitted.choice, own_lag=True)
        problem = task.problem(choice, fitted.shifts)
        theta = torch.nn.functional.pad(base.theta, (0, 1))  # the coefficient that stores share
        mode = expect_maximise(problem, replace(base, theta=theta), 2 * _EM_STEPS)
        found["lag"] = (choice, maximise(problem, mode, scout))
    report |= {f"log evidence, memory {name}": mode.value for name, (_, mode) in found.items()}
    handicap = {"none": 0.0, "errors": _MORE, "lag": 2 * _MORE}
    name = max(found, key=lambda k: found[k][1].value - handicap[k])
    choice, mode = found[name]
    return replace(fitted, choice=choice, mode=rated(task.problem(choice, fitted.shifts), mode))


@torch.no_grad()
def _autocorrelated(problem: Problem, mode: Mode) -> bool:
    """Whether residuals follow those of the step before."""
    response = problem.design.entering(problem.responses(mode.theta))
    columns = torch.cat([problem.design.terms.mT, response], 1)
    mean = problem.posterior(mode.theta, mode.log_noise).mean
    left = problem.design.y - (mean.unsqueeze(1) @ columns).squeeze(1)
    left = left * problem.design.rows / mode.log_noise.exp().unsqueeze(-1)
    tied = (left[:, 1:] * left[:, :-1]).sum() / left.square().sum()
    return abs(float(tied)) > _TIED / float(problem.design.count.sum()) ** 0.5


def expect_noise(problem: Problem, mode: Mode) -> Mode:
    """The mode with each store's noise at its best."""
    noise = noise_mode(problem, mode.theta)
    return rated(problem, Mode(mode.theta, noise, 0.0))


def _finished(
    task: Task, fitted: Fitted, problem: Problem, mode: Mode, report: dict[str, float]
) -> Receiver:
    """The receiver's state: posterior draws of theta, and what is expected of edges."""
    config, spec = task.config, problem.spec
    n = spec.senders
    if task.layout.shaped(task.receiver):
        draws = laplace_draws(problem, mode, config.draws, config.seed + task.receiver)
    else:
        draws = mode.theta.unsqueeze(0).clone()  # a file holds no two views of one tensor
    shapes = spec.unpack(mode.theta)
    positive = problem.design.positive
    zero = torch.zeros_like(shapes.mean)
    slab = Slab(
        torch.where(positive, shapes.mean, zero),
        torch.where(positive, shapes.spread, shapes.mean),
        zero,
        positive,
    )
    if n:
        at = spec.index("mean")
        effect = EffectPrior(spec.centre[at], spec.width[at], shapes.spread / shapes.mean)
        prior = task.layout.prior[list(task.senders), task.receiver]
        log_noise = noise_mode(problem, mode.theta)
        slab = learn_slab(sender_moments(problem, mode.theta, log_noise), slab, effect, prior)
    choice, shifts = fitted.choice, fitted.shifts
    begin, end, scale = (
        part[0, fitted.common].clone() for part in (shifts.begin, shifts.end, shifts.scale)
    )
    return Receiver(
        task.senders,
        choice.shared_scale,
        choice.own_lag,
        choice.rho,
        choice.warm,
        mode.theta,
        draws,
        slab.mean,
        slab.sd,
        slab.log_odds,
        begin,
        end,
        scale,
        report,
    )
