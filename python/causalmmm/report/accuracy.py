"""How far expectations are off: where the model was fitted, and on hidden steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalmmm.evaluation.forecasts import MODEL, seasonal_naive, store_mean

if TYPE_CHECKING:
    from causalmmm.data.panel import Panel

Floats = NDArray[np.float64]
COVERED = (80, 95)


class Accuracy:
    """Errors of the target, summed up block by block; ``hidden`` steps at the end were not fitted.

    ``tables`` gives the fit of all stores over time (date, actual, expected, hidden) and the scores
    (steps, method, r2, r2_median, mape, wmape, coverage_80, coverage_95); ``by_store`` a row per
    store: store, total, share_explained, wmape, wmape_hidden.
    """

    def __init__(self, panel: Panel, hidden: int) -> None:
        self.panel, self.hidden = panel, hidden
        self.grid = np.zeros((len(panel.data.grid), 2))  # expected, actual
        self.seen = np.zeros(len(panel.data.grid), bool)
        self.pairs: dict[tuple[str, str], list[_Scores]] = {}
        self.inside: dict[int, list[tuple[int, int]]] = {level: [] for level in COVERED}
        self.rows: list[dict[str, Any]] = []

    def add(self, block: Panel, fitted: Sequence[Floats], expected: pd.DataFrame | None) -> None:
        """``fitted`` [rows, 2] by store: expected and actual of its last rows; ``expected``, the
        forecast of the hidden steps."""
        data, hidden = block.data, self.hidden
        ahead = None if expected is None else self._add_hidden(block, expected)
        for s, (name, values) in enumerate(zip(block.stores.tolist(), fitted, strict=True)):
            end = int(data.start[s] + data.lengths[s])
            known = values[: len(values) - hidden]
            place = np.arange(end - len(values), end) + self._offset(block)
            np.add.at(self.grid, place[: len(known)], known)
            self.seen[place] = True
            scores = _Scores.of(known[:, 0], known[:, 1])
            self.pairs.setdefault(("fitted", MODEL), []).append(scores)
            row = {"store": name, "total": float(values[:, 1].sum()), "wmape": scores.wmape}
            if ahead is not None:
                both = np.stack([ahead[s], values[len(known) :, 1]], 1)
                np.add.at(self.grid, place[len(known) :], both)
                row["wmape_hidden"] = _Scores.of(ahead[s], both[:, 1]).wmape
            self.rows.append(row)

    def _offset(self, block: Panel) -> int:
        """Where the block's grid begins in the panel's."""
        return int(np.searchsorted(self.panel.data.grid, block.data.grid[0]))

    def _add_hidden(self, block: Panel, expected: pd.DataFrame) -> Floats:
        history, future = block.split(self.hidden)
        steps, target = self.hidden, block.nodes[-1]
        rows = expected[expected["series"] == target]
        actual = future.data.values[:, -1].reshape(-1, steps).astype(np.float64)
        mean = rows["mean"].to_numpy(np.float64).reshape(-1, steps)
        methods = {
            MODEL: mean,
            "seasonal naive": seasonal_naive(history, steps)[:, -1],
            "store mean": np.repeat(store_mean(history)[:, -1:], steps, 1),
        }
        for method, values in methods.items():
            made = self.pairs.setdefault(("hidden", method), [])
            made += [_Scores.of(v, a) for v, a in zip(values, actual, strict=True)]
        for level, counts in self.inside.items():
            ends = rows[[f"lower_{level}", f"upper_{level}"]].to_numpy(float)
            low, high = (ends[:, k].reshape(-1, steps) for k in (0, 1))
            counts.append((int(((low <= actual) & (actual <= high)).sum()), actual.size))
        return mean

    @property
    def by_store(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows)

    def tables(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The fit of all stores together over time, and the scores of every method."""
        shown = self.grid[self.seen]
        fit = pd.DataFrame(
            {
                "date": self.panel.data.grid[self.seen].astype("datetime64[ns]"),
                "actual": shown[:, 1],
                "expected": shown[:, 0],
                "hidden": np.arange(len(shown)) >= len(shown) - self.hidden,
            }
        )
        scores = [
            {"steps": steps, "method": method, **_Scores.together(made)}
            for (steps, method), made in sorted(self.pairs.items())
        ]
        table = pd.DataFrame(scores)
        for level, counts in self.inside.items():
            table[f"coverage_{level}"] = np.nan
            if counts:
                share = sum(c for c, _ in counts) / sum(n for _, n in counts)
                ours = (table["steps"] == "hidden") & (table["method"] == MODEL)
                table.loc[ours, f"coverage_{level}"] = share
        return fit, table


class _Scores:
    """Sums behind the scores of one store and method."""

    def __init__(self, forecast: Floats, actual: Floats) -> None:
        error = np.abs(forecast - actual)
        self.count = len(actual)
        self.error, self.size = float(error.sum()), float(np.abs(actual).sum())
        self.squares = float((error**2).sum())
        self.sum, self.sum_squares = float(actual.sum()), float((actual**2).sum())
        some = actual != 0
        self.relative, self.relative_count = (
            float((error[some] / np.abs(actual[some])).sum()),
            int(some.sum()),
        )

    @classmethod
    def of(cls, forecast: Floats, actual: Floats) -> _Scores:
        return cls(forecast.astype(np.float64), actual.astype(np.float64))

    @property
    def wmape(self) -> float:
        return self.error / self.size if self.size > 0 else float("nan")

    @property
    def r2(self) -> float:
        spread = self.sum_squares - self.sum**2 / max(self.count, 1)
        return 1 - self.squares / spread if spread > 0 else float("nan")

    @staticmethod
    def together(made: Sequence[_Scores]) -> dict[str, float]:
        """Pooled over stores, and the median of stores' R2."""
        count, total = sum(s.count for s in made), sum(s.sum for s in made)
        spread = sum(s.sum_squares for s in made) - total**2 / max(count, 1)
        relative = sum(s.relative_count for s in made)
        size = sum(s.size for s in made)
        r2 = [s.r2 for s in made if np.isfinite(s.r2)]
        return {
            "r2": 1 - sum(s.squares for s in made) / spread if spread > 0 else float("nan"),
            "r2_median": float(np.median(r2)) if r2 else float("nan"),
            "mape": sum(s.relative for s in made) / relative if relative else float("nan"),
            "wmape": sum(s.error for s in made) / size if size > 0 else float("nan"),
        }
