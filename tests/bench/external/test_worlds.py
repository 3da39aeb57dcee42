"""Laws of others, as far as they are written here: graphs mean what the series do."""

from __future__ import annotations

import numpy as np
import pytest
from bench.external.bold import brains, skeleton
from bench.external.dynotears import dynotears
from bench.external.ours import METHODS
from bench.external.violations import VIOLATIONS, violated
from bench.external.world import World, foreign, read_world
from bench.lib.metrics import edge_metrics


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_violated_law_has_finite_series_and_a_graph_without_loops(name):
    world = violated(name, 2, seed=1)
    assert np.isfinite(world.series).all()
    assert world.series.shape[0] == len(world.edges) == 2
    assert not world.edges[:, np.arange(7), np.arange(7)].any()


def test_a_violated_law_is_the_same_from_the_same_seed():
    assert np.array_equal(violated("none", 1, 3).series, violated("none", 2, 3).series[:1])


def test_series_follow_their_graph():
    """The regression of a series on one lag of all is largest where the law without violation has
    an edge at some lag, in the mean."""
    world = violated("none", 4, seed=0)
    known = [np.corrcoef(x[:-1].T, x[1:].T)[:7, 7:] for x in world.series]
    off = ~np.eye(7, dtype=bool)
    size, edges = np.abs(known)[:, off], world.edges[:, off]
    assert size[edges].mean() > 2 * size[~edges].mean()


def test_skeletons_are_those_published():
    assert skeleton(5).sum() == 5
    assert skeleton(10).sum() == 11
    reached = np.linalg.matrix_power(skeleton(10).astype(int), 10)
    assert not reached.any()  # no cycle


def test_blurred_signals_are_finite_and_related(monkeypatch):
    monkeypatch.setattr("bench.external.bold.SCANS", 60)
    world = brains(5, 1, seed=0)
    assert world.series.shape == (1, 60, 5)
    assert np.isfinite(world.series).all()
    assert abs(np.corrcoef(world.series[0].T)[0, 1]) > 0.1


def test_dynotears_finds_a_driver_within_the_step_and_one_after_it():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 3))
    x[:, 1] += 0.9 * x[:, 0]
    x[2:, 2] += 0.9 * x[:-2, 1]
    score = dynotears(x)
    assert (score.shape, score[0, 1] + score[1, 0] > 0.3, score[1, 2] > 0.3) == ((3, 3), True, True)
    assert score[2].max() < 0.1


def test_a_world_survives_its_file(tmp_path):
    world = violated("missing values", 1, seed=2)
    again = read_world(world.save(tmp_path))
    assert (again.name, again.source, again.roles, again.freq) == (
        world.name,
        world.source,
        world.roles,
        world.freq,
    )
    assert np.array_equal(again.series, world.series)
    assert np.array_equal(again.edges, world.edges)


@pytest.mark.parametrize("method", ["pretrained", "evidence", "usual frequency"])
def test_own_methods_give_probabilities_of_every_pair(method, world):
    found = METHODS[method](world)
    assert found.scores.shape == world.edges.shape
    assert ((found.scores >= 0) & (found.scores <= 1)).all()


def test_the_prior_finds_strong_drivers(world):
    assert edge_metrics(METHODS["pretrained"](world).scores, world.edges)["auroc"] > 0.9


@pytest.fixture(scope="module")
def world() -> World:
    rng = np.random.default_rng(5)
    edges = np.zeros((2, 4, 4), bool)
    edges[0, 0, 1] = edges[0, 1, 2] = edges[1, 3, 0] = edges[1, 0, 2] = True
    x = rng.standard_normal((2, 150, 4))
    for t in range(1, 150):
        x[:, t] += 0.7 * np.einsum("si,sij->sj", x[:, t - 1], edges)
    return foreign("drivers", "this test", x, edges)
