"""``trust``: whether a fitted model deserves it, in seven trials with thresholds.

What is tried is in ``trials``; here fits are counted, made once each, and put into a table.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from causalmmm.data.fingerprint import fingerprint
from causalmmm.data.panel import Panel
from causalmmm.dates import USUAL_HORIZON
from causalmmm.evaluation.forecasts import held_out
from causalmmm.evaluation.trials import TRIALS, Ask, Measure, NotRun, Trial
from causalmmm.findings import closest, counted, first_few

if TYPE_CHECKING:
    from causalmmm.model.fitted import FittedModel

COLUMNS = ["test", "measure", "value", "at_least", "at_most", "passed", "meaning"]


def to_stderr(line: str) -> None:
    """What is said while it lasts, on standard error."""
    print(line, file=sys.stderr, flush=True)


def trust(
    model: FittedModel,
    panel: Panel,
    tests: Sequence[str] | None = None,
    *,
    horizon: int | None = None,
    origins: int = 5,
    say: Callable[[str], object] | None = to_stderr,
) -> pd.DataFrame:
    """Rows test, measure, value, at_least, at_most, passed, meaning; see ``CausalMMM.trust``."""
    names = _known_tests(tests)
    usual = held_out(model, panel) or USUAL_HORIZON[panel.freq[0]]
    steps = usual if horizon is None else horizon
    if steps < 1 or origins < 1:
        raise ValueError(f"horizon and origins are at least 1, got {steps} and {origins}")
    tell = say or (lambda line: None)
    ask = Ask(model, panel, steps, origins)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about the panel, told when it was fitted
        trials = {name: _planned(name, ask) for name in names}
        fits = Fits(model, tell)
        fits.announce({n: trial for n, trial in trials.items() if isinstance(trial, Trial)}, panel)
        rows = [
            _row(name, measure)
            for name, trial in trials.items()
            for measure in _measured(name, trial, fits)
        ]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return frame.astype({"passed": "boolean", "at_least": float, "at_most": float})


class Fits:
    """A model fitted again with its own settings and seed, once on each panel it is needed for."""

    def __init__(self, model: FittedModel, tell: Callable[[str], object]) -> None:
        self.model, self.tell = model, tell
        self.fitted: dict[str, FittedModel] = {model.trained_on_["fingerprint"]: model}
        self.wanted: set[str] = set()
        self.seconds: list[float] = []

    def announce(self, trials: Mapping[str, Trial], panel: Panel) -> None:
        """Say how many fits are to come."""
        panels = [each for trial in trials.values() for each in trial.panels]
        self.wanted = {fingerprint(each) for each in panels} - set(self.fitted)
        if trials:
            self.tell(
                f"{counted(len(trials), 'test')} ({', '.join(trials)}) "
                f"need{'s' if len(trials) == 1 else ''} {counted(len(self.wanted), 'fit')} of "
                f"{counted(panel.n_stores, 'store')} x {counted(int(panel.lengths.max()), 'step')}"
                ", each like that of the model itself"
            )

    def on(self, panel: Panel, test: str) -> FittedModel:
        """The model fitted on this panel."""
        key = fingerprint(panel)
        if key not in self.fitted:
            began = time.perf_counter()
            again: FittedModel = type(self.model)(**self.model.get_params())
            self.fitted[key] = again.fit(panel, progress=False)
            self.seconds.append(time.perf_counter() - began)
            left = len(self.wanted) - len(self.seconds)
            rest = f", about {left * sum(self.seconds) / len(self.seconds):.0f} s left" * (left > 0)
            self.tell(
                f"fit {len(self.seconds)} of {len(self.wanted)} ({test}): "
                f"{self.seconds[-1]:.0f} s{rest}"
            )
        return self.fitted[key]


def _known_tests(tests: Sequence[str] | None) -> list[str]:
    names = list(TRIALS) if tests is None else [tests] if isinstance(tests, str) else list(tests)
    for name in names:
        if name not in TRIALS:
            hint = closest(str(name), TRIALS)
            raise ValueError(f"there is no test '{name}'. {hint}Known tests: {first_few(TRIALS)}")
    if not names:
        raise ValueError(f"no test is named. Known tests: {first_few(TRIALS)}")
    return list(dict.fromkeys(names))


def _planned(name: str, ask: Ask) -> Trial | str:
    """The trial, or why it makes no sense here."""
    try:
        return TRIALS[name](ask)
    except NotRun as reason:
        return str(reason)


def _measured(name: str, trial: Trial | str, fits: Fits) -> list[Measure]:
    reason = trial
    if isinstance(trial, Trial):
        try:
            return trial.judge([fits.on(panel, name) for panel in trial.panels])
        except NotRun as refused:
            reason = str(refused)
    return [Measure("not run", float("nan"), str(reason))]


def _row(test: str, measure: Measure) -> dict[str, Any]:
    low, high, value = measure.at_least, measure.at_most, measure.value
    passed: Any = pd.NA
    if low is not None or high is not None:
        passed = (low is None or value >= low) and (high is None or value <= high)
    return {"test": test, **vars(measure), "passed": passed}
