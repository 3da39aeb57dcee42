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
    relevance,
    shifted,
)
from causalmmm.engine.regression.optimise import best_decays, laplace_draws, maximise
from causalmmm.engine.regression.problem import Mode, Problem, noise_mode, rated, start
from causalmmm.engine.regression.state import Receiver, Regression
from causalmmm.engine.regression.theta import ThetaSpec, theta_spec

_EM_STEPS = 15
_SHIFTS_AT_ONCE = 4
_SHIFT_ROUNDS = 3
_RELEVANCE_ROUNDS = 10
_MORE = 3.0  # nats that a choice with one more parameter must gain
_RHOS = (-0.2, 0.2, 0.4, 0.6, 0.8, 0.92)


@dataclass(frozen=True)
class Choice:
    """What is decided by evidence about one receiver."""

    shared_scale: bool
    own_lag: bool = False
    rho: float = 0.0


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

    def problem(self, choice: Choice, shifts: Shifts) -> Problem:
        built = base_problem(
            self.observed, self.layout, self.receiver, self.senders, self.groups,
            self.reference if choice.shared_scale else None, self.config, choice.own_lag,
            choice.rho,
        )
        return shifted(built, self.observed, shifts)


def base_problem(
    observed: Observed, plan: Layout, receiver: int, senders: Sequence[int],
    groups: Sequence[str], reference: Tensor | None, config: RegressionConfig, own_lag: bool,
    rho: float,
) -> Problem:
    """A receiver's problem without level shifts; ``reference`` [N] is one scale for all stores."""
    unit = sender_unit(observed, senders, reference)
    built = design(observed, plan, receiver, senders, unit, groups, own_lag=own_lag, rho=rho)
    spec = spec_of(config, len(senders), groups, own_lag)
    empty = torch.zeros(len(observed.x), 0, dtype=torch.float64)
    return Problem(built, spec, empty)


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
    observed: Observed, plan: Layout, groups: Sequence[str], config: RegressionConfig,
    receivers: Sequence[int] | None = None,
) -> Regression:
    """The regression of all series of a panel, or of these ``receivers``, the target first."""
    chosen = list(receivers if receivers is not None else reversed(range(plan.nodes)))
    reference = references(observed).clamp_min(1e-12)
    fitted = {}
    for receiver in chosen:
        task = Task(
            observed, plan, receiver, tuple(plan.senders(receiver)), tuple(groups), reference,
            config,
        )
        shaped = bool(plan.instant[:, receiver].any())
        fitted[receiver] = fit_receiver(task) if shaped else fit_plain(task)
    return Regression(config, plan, tuple(groups), reference, fitted)


def fit_receiver(task: Task) -> Receiver:
    """A receiver whose senders' shapes are fitted."""
    config, report = task.config, {}
    stores = len(task.observed.x)
    scales = {"shared": [True], "store": [False], "auto": [True, False]}[config.sender_scale]
    if stores == 1:
        scales = [False]
    scouted = {}
    for shared in scales:
        problem = task.problem(Choice(shared), no_shifts(stores))
        mode = expect_maximise(problem, start(problem), _EM_STEPS)
        mode = best_decays(problem, maximise(problem, mode, config.scout))
        scouted[shared] = maximise(problem, mode, config.scout // 2)
        report["log evidence, " + ("shared" if shared else "store") + " scale"] = (
            scouted[shared].value
        )
    shared = max(scouted, key=lambda s: scouted[s].value)
    choice, shifts, common = Choice(shared), no_shifts(stores), no_shifts(stores)
    mode = scouted[shared]
    if config.level:
        mode, shifts, common = _with_level(task, choice, mode)
    choice, mode = _with_memory(task, choice, mode, shifts, report)
    problem = task.problem(choice, shifts)
    mode = maximise(problem, mode, config.iterations)
    again = best_decays(problem, mode)
    if again.value > mode.value + 1e-6:
        mode = maximise(problem, again, config.iterations)
    report["log evidence"] = mode.value
    return _finished(task, choice, problem, mode, common, report)


def fit_plain(task: Task) -> Receiver:
    """A receiver whose senders' shapes stay at their prior's centre: it costs one evaluation."""
    config, stores = task.config, len(task.observed.x)
    own_lag = config.autoregression in ("auto", "lag")
    choice = Choice(shared_scale=False, own_lag=own_lag)
    problem = task.problem(choice, no_shifts(stores))
    mode = expect_maximise(problem, start(problem), 2 * _EM_STEPS)
    report = {"log evidence": mode.value}
    return _finished(task, choice, problem, mode, no_shifts(stores), report)


def _with_level(task: Task, choice: Choice, mode: Mode) -> tuple[Mode, Shifts, Shifts]:
    """The mode with level shifts, all of them, and those that all stores have."""
    config = task.config
    shifts, common = no_shifts(len(task.observed.x)), []
    plain = task.problem(choice, shifts)
    for _ in range(_SHIFT_ROUNDS):
        before = shifts.scale.shape[1]
        shifts, more = find_shifts(
            plain, task.observed, _calendar_undecided(plain.spec, mode.theta), shifts,
            config.level_odds, _SHIFTS_AT_ONCE, shared=True,
        )
        common += more
        if shifts.scale.shape[1] == before:
            break
        mode = replace(mode, theta=_calendar_undecided(plain.spec, mode.theta))
        for _ in range(_RELEVANCE_ROUNDS):  # cheap: what trend had absorbed goes back to the shift
            problem = shifted(plain, task.observed, shifts)
            mode = expect_maximise(problem, mode, 3)
            shifts = relevance(problem, mode.theta, mode.log_noise, shifts, common)
        problem = shifted(plain, task.observed, shifts)
        mode = maximise(problem, rated(problem, mode), config.scout)
        shifts = relevance(problem, mode.theta, mode.log_noise, shifts, common)
    held = Shifts(shifts.begin[:, common], shifts.end[:, common], shifts.scale[:, common])
    return mode, shifts, held


def _calendar_undecided(spec: ThetaSpec, theta: Tensor) -> Tensor:
    """theta with terms at their prior, but for the intercept.

    A fit without shifts has made its trend and cycles sure of what a shift did; undecided, they
    give it back where a shift explains it better.
    """
    undecided = theta.clone()
    undecided[spec.index("scales")] = 0.0
    undecided[spec.index("shared")][1:] = 0.0
    return undecided


def _with_memory(
    task: Task, choice: Choice, mode: Mode, shifts: Shifts, report: dict[str, float]
) -> tuple[Choice, Mode]:
    """Autocorrelated errors or the receiver's own last value, where the evidence asks for them.

    With errors, effects stay what they are; with an own lag they go on into later steps, and an
    effect is meant in the long run.
    """
    config = task.config
    if config.autoregression == "none":
        return choice, mode
    begin = mode
    options: dict[Choice, Mode] = {}
    if config.autoregression in ("auto", "errors"):
        options |= {replace(choice, rho=rho): begin for rho in _RHOS}
    rows: dict[Choice, Mode] = {}
    base = _on_later_rows(task, choice, shifts, begin)
    for option in options:
        problem = task.problem(option, shifts)
        rows[option] = expect_noise(problem, begin)
    best = max(rows, key=lambda o: rows[o].value, default=None)
    found = [(base.value + (0 if config.autoregression == "auto" else -1e9), choice, mode)]
    if best is not None:
        found.append((rows[best].value - _MORE, best, rows[best]))
        report["log evidence, autocorrelated errors"] = rows[best].value
    _, choice, mode = max(found, key=lambda f: f[0])
    return choice, mode


def expect_noise(problem: Problem, mode: Mode) -> Mode:
    noise = noise_mode(problem, mode.theta)
    return rated(problem, Mode(mode.theta, noise, 0.0))


def _on_later_rows(task: Task, choice: Choice, shifts: Shifts, mode: Mode) -> Mode:
    return expect_noise(task.problem(choice, shifts), mode)


def _finished(
    task: Task, choice: Choice, problem: Problem, mode: Mode, common: Shifts,
    report: dict[str, float],
) -> Receiver:
    """The receiver's state: posterior draws of theta, and what is expected of edges."""
    config, spec = task.config, problem.spec
    n = spec.senders
    shaped = bool(task.layout.instant[:, task.receiver].any())
    if shaped:
        draws = laplace_draws(problem, mode, config.draws, config.seed + task.receiver)
    else:
        draws = mode.theta.expand(config.draws, -1).clone()
    shapes = spec.unpack(mode.theta)
    positive = problem.design.positive
    zero = torch.zeros_like(shapes.mean)
    slab = Slab(
        torch.where(positive, shapes.mean, zero),
        torch.where(positive, shapes.spread, shapes.mean), zero, positive,
    )
    if n:
        at = spec.index("mean")
        effect = EffectPrior(spec.centre[at], spec.width[at], shapes.spread / shapes.mean)
        prior = task.layout.prior[list(task.senders), task.receiver]
        log_noise = noise_mode(problem, mode.theta)
        slab = learn_slab(sender_moments(problem, mode.theta, log_noise), slab, effect, prior)
    first = slice(0, 1)  # shifts that all stores have are the same in each of them
    return Receiver(
        task.senders, choice.shared_scale, choice.own_lag, choice.rho, mode.theta, draws,
        slab.mean, slab.sd, slab.log_odds, common.begin[first, :].flatten(),
        common.end[first, :].flatten(), common.scale[first, :].flatten(), report,
    )
