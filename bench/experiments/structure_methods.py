"""The methods of the structure table by name, their input (`Task`) and output (`EdgeEstimate`).

A method sees histories, and what a user of the panel would declare; only ``edge-frequency`` (edges
of training stores) and ``granger-oracle`` (its lag) use more. No metrics and no files here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.experiments.baselines.evidence import edge_probability, group_evidence
from bench.experiments.baselines.granger import granger_by_bic, granger_orders
from bench.experiments.baselines.gvar import gvar
from bench.experiments.baselines.ingra import ingra
from bench.experiments.baselines.ngc import clstm, cmlp
from bench.experiments.baselines.paper import causalmmm_paper
from bench.experiments.baselines.pcmci import pcmci
from bench.experiments.baselines.trivial import receiver_variance, training_frequency
from bench.lib.metrics import edge_metrics
from bench.lib.scenarios import Dataset
from causalmmm.data.panel import Panel

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
ORDERS = range(1, 8)
LEVEL = 0.05  # of the tests whose decisions are counted


@dataclass(frozen=True)
class Task:
    """A dataset split into stores to learn from and stores to evaluate on.

    train, held_out  positions in the panel; ``few`` of the held-out ones for slow methods
    settings         parameters of ``CausalMMM`` beside those that the dataset declares
    quick            small budgets, which only show that a method runs
    """

    dataset: Dataset
    train: NDArray[np.int64]
    held_out: NDArray[np.int64]
    few: int
    seed: int
    settings: dict[str, Any]
    quick: bool

    @property
    def series(self) -> Array:
        """Histories [S, T, N] of the held-out stores."""
        return histories(self.dataset.panel)[self.held_out]

    @property
    def few_series(self) -> Array:
        """Histories of the held-out stores on which methods that take seconds per store are run."""
        return self.series[: self.few]

    @property
    def training_series(self) -> Array:
        return histories(self.dataset.panel)[self.train]

    @property
    def edges(self) -> Mask:
        return self.dataset.edges[self.held_out]

    def panel(self, stores: NDArray[np.int64]) -> Panel:
        return self.dataset.panel.select(list(self.dataset.panel.stores[stores]))


@dataclass(frozen=True)
class EdgeEstimate:
    """Scores [S, N, N] of the first S held-out stores, higher where an edge is more likely.

    probability  the same as probabilities, where the method gives any
    decided      edges the method itself reports; by default those of probability 0.5 or more
    extra        further columns of its row
    """

    scores: Array
    probability: Array | None = None
    decided: Mask | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def edges(self) -> Mask | None:
        if self.decided is None and self.probability is not None:
            return self.probability >= 0.5
        return self.decided


def causalmmm(task: Task) -> EdgeEstimate:
    return _fit(task, {"steps": 100} if task.quick else {})


def pretrained(task: Task) -> EdgeEstimate:
    """The package's prior, never fitted; held-out stores are a panel of their own."""
    from causalmmm.model.pretrained import pretrained_graphs

    held_out = task.panel(task.held_out)
    frame = pretrained_graphs(held_out, signed=task.dataset.declared.get("signed", ()))
    probability = edge_array(frame, list(held_out.stores), held_out.nodes)
    return EdgeEstimate(probability, probability)


def raw_window(task: Task) -> EdgeEstimate:
    """This package's model with the paper's encoder and objective; its decoder stays."""
    paper = {"lags": 0, "same_window": True, "prototypes": 1, "store_effects": False}
    return _fit(task, paper | ({"steps": 100} if task.quick else {}))


def paper(task: Task, one_scale: bool = False) -> EdgeEstimate:
    context = task.dataset.panel.data.context
    if context.ndim != 2 or len(context) != task.dataset.panel.n_stores:
        raise ValueError("the paper's decoder takes context that does not move")
    probability = causalmmm_paper(
        task.training_series,
        context[task.train],
        task.series,
        seed=task.seed,
        one_scale=one_scale,
        **_updates(task),
    )
    return EdgeEstimate(probability, probability)


def eb_granger(task: Task, lags: int) -> EdgeEstimate:
    evidence = group_evidence(task.series, lags)
    return EdgeEstimate(evidence, edge_probability(evidence), extra={"lags": lags})


def granger_oracle(task: Task) -> EdgeEstimate:
    tests = granger_orders(task.series, ORDERS)
    auroc = {p: edge_metrics(test.statistic, task.edges)["auroc"] for p, test in tests.items()}
    best = max(auroc, key=lambda p: auroc[p])
    test = tests[best]
    return EdgeEstimate(test.statistic, decided=test.p_value < LEVEL, extra={"lags": best})


def granger_bic(task: Task) -> EdgeEstimate:
    p_value = granger_by_bic(task.series, ORDERS)
    return EdgeEstimate(-p_value, decided=p_value < LEVEL)


def ngc_cmlp(task: Task) -> EdgeEstimate:
    norm = cmlp(task.few_series, seed=task.seed, **_updates(task))
    return EdgeEstimate(norm, decided=norm > 0.0)


def ngc_clstm(task: Task) -> EdgeEstimate:
    norm = clstm(task.few_series, seed=task.seed, **_updates(task))
    return EdgeEstimate(norm, decided=norm > 0.0)


def self_explaining(task: Task) -> EdgeEstimate:
    return EdgeEstimate(gvar(task.few_series, seed=task.seed, **_updates(task)))


def prototypes(task: Task) -> EdgeEstimate:
    return EdgeEstimate(ingra(task.training_series, task.series, seed=task.seed, **_updates(task)))


def pcmci_7(task: Task) -> EdgeEstimate:
    p_value = pcmci(task.few_series, lags=max(ORDERS))
    return EdgeEstimate(-p_value, decided=max(ORDERS) * p_value < LEVEL)


def variance(task: Task) -> EdgeEstimate:
    return EdgeEstimate(receiver_variance(task.series))


def frequency(task: Task) -> EdgeEstimate:
    share = training_frequency(task.dataset.edges[task.train], len(task.held_out))
    return EdgeEstimate(share, share)


METHODS: dict[str, Callable[[Task], EdgeEstimate]] = {
    "causalmmm": causalmmm,
    "pretrained": pretrained,
    "causalmmm-raw-window": raw_window,
    "causalmmm-paper": paper,
    "causalmmm-paper-one-scale": partial(paper, one_scale=True),
    "eb-granger-7": partial(eb_granger, lags=7),
    "eb-granger-14": partial(eb_granger, lags=14),
    "ngc-cmlp": ngc_cmlp,
    "ngc-clstm": ngc_clstm,
    "gvar": self_explaining,
    "ingra": prototypes,
    "pcmci": pcmci_7,
    "granger-bic": granger_bic,
    "granger-oracle": granger_oracle,
    "receiver-variance": variance,
    "edge-frequency": frequency,
}


def _updates(task: Task) -> dict[str, int]:
    return {"updates": 20} if task.quick else {}


def _fit(task: Task, fixed: dict[str, Any]) -> EdgeEstimate:
    from causalmmm.model.estimator import CausalMMM

    settings = {**task.dataset.declared, **fixed, **task.settings}
    model = CausalMMM(seed=task.seed, **settings).fit(task.panel(task.train), progress=False)
    held_out = task.panel(task.held_out)
    probability = edge_array(model.graphs(held_out), list(held_out.stores), held_out.nodes)
    return EdgeEstimate(probability, probability, extra={"epochs": len(model.history_)})


def histories(panel: Panel) -> Array:
    """[S, T, N] of a panel whose histories are equally long."""
    steps = np.unique(panel.lengths)
    if len(steps) > 1:
        raise ValueError(f"histories differ in length: {steps.min()} to {steps.max()} steps")
    return panel.data.values.reshape(panel.n_stores, int(steps[0]), -1).astype(np.float64)


def edge_array(
    frame: pd.DataFrame, stores: Sequence[str], nodes: Sequence[str], value: str = "probability"
) -> Array:
    """The column ``value`` [S, N, N] of rows store, source, target, ...; 0 where there is none."""
    array = np.zeros((len(stores), len(nodes), len(nodes)))
    at = (
        pd.Index(stores).get_indexer(pd.Index(frame["store"])),
        pd.Index(nodes).get_indexer(pd.Index(frame["source"])),
        pd.Index(nodes).get_indexer(pd.Index(frame["target"])),
    )
    if any((index < 0).any() for index in at):
        raise ValueError("the frame names a store or series that the panel does not have")
    array[at] = frame[value].to_numpy(float)
    return array
