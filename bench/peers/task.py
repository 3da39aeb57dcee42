"""What a method gets and what it gives back, as files; numpy and pandas only.

Every method reads this in an environment of its own, so nothing here may import causalmmm. Truth is
no part of a task.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]
LEVEL = 0.9  # of the central intervals that are judged
WEEKS_A_YEAR = 365.25 / 7


@dataclass(frozen=True)
class Task:
    """A weekly panel of S stores whose last ``holdout`` weeks are hidden: there, spend and controls
    are known, target and mediators are not.

    folder  holds ``panel.csv``: one row per store and week, stores in blocks, missing where hidden.
    """

    folder: str
    store: str
    date: str
    target: str
    channels: list[str]
    mediators: list[str]
    controls: list[str]
    stores: list[str]
    weeks: int
    holdout: int
    seed: int

    @property
    def train(self) -> int:
        """Weeks that are seen."""
        return self.weeks - self.holdout

    @property
    def frame(self) -> pd.DataFrame:
        return pd.read_csv(Path(self.folder) / "panel.csv", parse_dates=[self.date])

    def block(self, columns: list[str]) -> Array:
        """[S, T, columns] of the panel, NaN where hidden."""
        return self.frame[columns].to_numpy(float).reshape(len(self.stores), self.weeks, -1)

    def calendar(self, order: int = 2) -> Array:
        """[T, 1 + 2 order]: trend from -1 to 1 over the seen weeks, sines and cosines of a year."""
        week = np.arange(self.weeks)
        angle = 2.0 * np.pi * np.outer(week / WEEKS_A_YEAR, np.arange(1, order + 1))
        return np.column_stack([2.0 * week / self.train - 1.0, np.sin(angle), np.cos(angle)])

    def save(self) -> None:
        (Path(self.folder) / "task.json").write_text(json.dumps(asdict(self), indent=2) + "\n")


@dataclass(frozen=True)
class Answer:
    """What a method says, in units of the target; None where it says nothing.

    contributions  [S, C] of each channel over the seen weeks;  lower, upper  ends of intervals
    forecast       [S, H] of the hidden weeks
    """

    forecast: Array
    forecast_lower: Array | None = None
    forecast_upper: Array | None = None
    contributions: Array | None = None
    contributions_lower: Array | None = None
    contributions_upper: Array | None = None


def of_draws(forecast: Array, contributions: Array) -> Answer:
    """An answer out of posterior draws [draws, S, H] and [draws, S, C]: means and quantiles."""
    tails = [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0]
    return Answer(
        forecast.mean(0),
        *np.quantile(forecast, tails, axis=0),
        contributions.mean(0),
        *np.quantile(contributions, tails, axis=0),
    )


def main(method: Callable[[Task], Answer], packages: tuple[str, ...] = ()) -> None:
    """Run a method as a command, METHOD TASK_FOLDER ANSWER.npz, and write its price beside it.

    The price is CPU seconds without imports, with compilation, and the peak memory of the process.
    """
    folder, out = sys.argv[1:3]
    task = Task(**json.loads((Path(folder) / "task.json").read_text()))
    began = sum(os.times()[:4])
    answer = method(task)
    seconds = sum(os.times()[:4]) - began
    np.savez(out, **{k: v for k, v in vars(answer).items() if v is not None})
    price: dict[str, Any] = {
        "cpu_seconds": seconds,
        "peak_mb": _peak_mb(),
        "versions": " ".join(f"{name} {_version(name)}" for name in packages),
    }
    Path(out).with_suffix(".json").write_text(json.dumps(price) + "\n")


def _peak_mb() -> float:
    """Peak resident memory of this process; Linux, since getrusage counts what started it too."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)
