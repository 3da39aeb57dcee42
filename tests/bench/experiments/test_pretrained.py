"""The difference to evidence of the bench of the prior: mean over stores, error over draws."""

from __future__ import annotations

import numpy as np
import pytest
from bench.experiments.pretrained import HELD_OUT_SEED, SEED, paired_difference

EDGES = np.array([[[False, True, False], [False] * 3, [False] * 3]])
RIGHT = np.where(EDGES, 1.0, 0.0)  # AUROC 1
LEVEL = np.full(EDGES.shape, 0.5)  # AUROC .5


def test_difference_and_its_error_are_those_of_draws() -> None:
    ours = [(RIGHT, EDGES), (RIGHT, EDGES), (LEVEL, EDGES), (LEVEL, EDGES)]
    row = paired_difference(ours, [(LEVEL, EDGES)] * 4)
    differences = np.array([0.5, 0.5, 0.0, 0.0])
    assert row["beside_evidence"] == pytest.approx(0.25)
    assert row["standard_error"] == pytest.approx(differences.std(ddof=1) / 2.0)


def test_stores_of_one_draw_share_its_error() -> None:
    twice = np.concatenate([EDGES, EDGES])
    ours = [(np.concatenate([RIGHT, RIGHT]), twice), (LEVEL, EDGES)]
    others = [(np.concatenate([LEVEL, LEVEL]), twice), (LEVEL, EDGES)]
    row = paired_difference(ours, others)
    assert row["beside_evidence"] == pytest.approx(1.0 / 3.0)  # of three stores, not of two draws
    # sums .5 * 2 and 0 less the mean times the counts 2 and 1: 1/3 and -1/3
    assert row["standard_error"] == pytest.approx(np.sqrt(2.0) * np.hypot(1 / 3, 1 / 3) / 3.0)


def test_draws_without_edges_do_not_count() -> None:
    empty = np.zeros_like(EDGES)
    ours = [(RIGHT, EDGES), (LEVEL, EDGES), (RIGHT, empty)]
    row = paired_difference(ours, [(LEVEL, EDGES), (LEVEL, EDGES), (LEVEL, empty)])
    assert row["beside_evidence"] == pytest.approx(0.25)
    assert not paired_difference(ours[2:], ours[2:])


def test_held_out_draws_are_none_of_those_looked_at_before() -> None:
    assert HELD_OUT_SEED > SEED + 60
