"""How well contributions can be told at all: the response regression told parts of the truth.

    python -m bench.experiments.contribution_floor --seeds 0 1 2 3 4

Same priors, same draws as ``bench.peers``; contributions are totals through mediators. ``told``:

nothing   the model as users fit it;
shapes    true carry-over, slope, half saturation and unit of every sender; coefficients, their
          scales, level shifts and noise are estimated;
edges     which pairs exist, shapes estimated;
both      shapes and edges;
mean      as both, and the true mean of each effect over stores, with the spread that it has.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray

from bench.lib.options import with_defaults
from bench.lib.record import Row, table
from bench.lib.result_log import ResultLog
from bench.peers.judge import judged
from causalmmm import CausalMMM, Panel
from causalmmm.engine.regression.problem import Problem
from causalmmm.simulation import Truth, simulate

TOLD = ("nothing", "shapes", "edges", "both", "mean")
VALUES = ["contribution_pooled", "contribution_apart", "roi_error", "cover_contributions"]
_SURE = 1e-3  # width of the prior of what is told
_HOLDOUT = 13
_MODULES = ("fit", "posterior")


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    options = _options(arguments)
    torch.set_num_threads(1)
    log = ResultLog(options.out, "contribution-floor", vars(options))
    for preset in options.preset:
        for seed in options.seeds:
            panel, truth = simulate(preset, seed=seed)
            for told in options.told:
                key: Row = {"preset": preset, "seed": seed, "told": told}
                log.add(key, partial(measured, panel, truth, told, seed))
    print(table(log.rows, ["preset", "told"], VALUES))
    return log.rows


def measured(panel: Panel, truth: Truth, told: str, seed: int) -> list[Row]:
    """One row: errors of total contributions over the weeks that are seen."""
    frame = panel.to_frame()
    weeks = truth.config.steps
    seen = np.tile(np.arange(weeks) < weeks - _HOLDOUT, panel.n_stores)
    train = Panel.from_frame(frame[seen].reset_index(drop=True), panel.schema)
    edges: dict[str, Any] = {}
    if told in ("edges", "both", "mean"):
        edges = _edges(truth)
    with ExitStack() as stack:
        if told in ("shapes", "both", "mean"):
            stack.enter_context(told_shapes(truth, means=told == "mean"))
        model = CausalMMM(regime="regression", seed=seed, **edges).fit(train, progress=False)
        sums = model.contributions(train).set_index(["store", "series"])
    names = [(s, c) for s in panel.stores.tolist() for c in truth.channels]
    shape = (panel.n_stores, len(truth.channels), 3)
    found = sums.loc[names, ["total", "total_lower", "total_upper"]].to_numpy(float).reshape(shape)
    true = truth.contributions()[:, : weeks - _HOLDOUT].sum(1, dtype=float)
    answer = dict(
        zip(
            ("contributions", "contributions_lower", "contributions_upper"),
            np.moveaxis(found, 2, 0),
            strict=True,
        )
    )
    future = np.ones((1, 1))
    row = judged(answer | {"forecast": future}, {"contributions": true, "future": future})
    return [{name: row[name] for name in VALUES}]


def _edges(truth: Truth) -> dict[str, Any]:
    """Pairs that some store has, required; all others forbidden."""
    there, names = truth.edges.any(0), truth.nodes
    pairs = [(a, b) for i, a in enumerate(names) for j, b in enumerate(names) if i != j]
    held = [bool(there[names.index(a), names.index(b)]) for a, b in pairs]
    return {
        "required": [pair for pair, is_there in zip(pairs, held, strict=True) if is_there],
        "forbidden": [pair for pair, is_there in zip(pairs, held, strict=True) if not is_there],
    }


@contextmanager
def told_shapes(truth: Truth, *, means: bool = False) -> Iterator[None]:
    """Within it the regression is fitted with the true shapes, in units of typical levels."""
    levels = torch.from_numpy(np.asarray(truth.levels, np.float64))  # [S, N]
    fitting, asked = (import_module(f"causalmmm.engine.regression.{m}") for m in _MODULES)
    base = fitting.base_problem

    def unit(observed: Any, senders: Sequence[int], reference: Any) -> torch.Tensor:
        del reference
        return (observed.scale / levels)[:, list(senders)]

    def told(observed: Any, plan: Any, receiver: int, senders: Any, *rest: Any, **more: Any) -> Any:
        problem: Problem = base(observed, plan, receiver, senders, *rest, **more)
        return replace(problem, spec=_sure(problem, truth, receiver, list(senders), means))

    with ExitStack() as stack:
        for module in (fitting, asked):
            stack.enter_context(patch.object(module, "base_problem", told))
            stack.enter_context(patch.object(module, "sender_unit", unit))
        stack.enter_context(patch.object(fitting, "best_decays", lambda problem, mode: mode))
        yield


def _sure(problem: Problem, truth: Truth, receiver: int, senders: list[int], means: bool) -> Any:
    """The prior of the parameters with the true shapes for certain."""
    n, spec = len(senders), problem.spec
    if not n:
        return spec
    centre, width = spec.centre.clone(), spec.width.clone()
    parts: list[NDArray[Any]] = [
        np.log(truth.decay[senders] / (1 - truth.decay[senders])),
        np.log(truth.slope[0, senders]),
        np.log(truth.half_saturation[0, senders]),
    ]
    if means:
        effects = truth.effects[:, senders, receiver]
        size = np.maximum(effects.mean(0), 1e-3)
        spread = np.maximum(effects.std(0) / size, 0.05)
        parts += [np.log(size), np.log(spread)]
    for k, part in enumerate(parts):
        centre[k * n : (k + 1) * n] = torch.from_numpy(np.asarray(part, np.float64))
        width[k * n : (k + 1) * n] = _SURE
    return replace(spec, centre=centre, width=width)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--preset", nargs="+", default=["weekly-mmm"])
    parser.add_argument("--seeds", type=int, nargs="+", default=None, help="0 to 4 by default")
    parser.add_argument("--told", nargs="+", default=None, choices=TOLD)
    parser.add_argument("--quick", action="store_true", help="small, into runs/ unless --out")
    parser.add_argument("--again", action="store_true", help="measure what is there already too")
    parser.add_argument("--out", type=Path)
    usual = {"seeds": [0, 1, 2, 3, 4], "told": list(TOLD)}
    return with_defaults(parser.parse_args(arguments), usual, {"seeds": [0], "told": ["both"]})


if __name__ == "__main__":
    main()
