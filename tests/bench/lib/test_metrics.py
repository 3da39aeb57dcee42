"""Scores and records say what they should on cases that can be worked out by hand."""

from __future__ import annotations

import csv
import json

import numpy as np
import pandas as pd
import pytest
from bench.experiments.structure_methods import edge_array
from bench.lib.metrics import calibration, decision_metrics, edge_metrics, forecast_metrics
from bench.lib.record import record, table


def graphs(stores: int = 40, nodes: int = 5) -> np.ndarray:
    edges = np.random.default_rng(0).random((stores, nodes, nodes)) < 0.3
    edges[:, np.arange(nodes), np.arange(nodes)] = False
    return edges


def test_the_truth_scores_one_and_its_opposite_zero():
    edges = graphs()
    right, wrong = edge_metrics(edges.astype(float), edges), edge_metrics(1.0 - edges, edges)
    assert {right[k] for k in ("auroc", "auprc", "pooled_auroc", "heterogeneous_auroc")} == {1.0}
    assert wrong["auroc"] == wrong["pooled_auroc"] == wrong["heterogeneous_auroc"] == 0.0


def test_the_diagonal_does_not_count():
    edges = graphs()
    scores = np.random.default_rng(1).random(edges.shape)
    shifted = scores + 10.0 * np.eye(5)
    assert edge_metrics(scores, edges) == edge_metrics(shifted, edges)


def test_one_graph_for_all_stores_cannot_tell_stores_apart():
    edges = graphs()
    constant = np.repeat(edges.mean(0)[None], len(edges), axis=0)
    assert edge_metrics(constant, edges)["heterogeneous_auroc"] == 0.5
    assert edge_metrics(constant, edges)["auroc"] > 0.5


def test_stores_without_or_with_all_edges_are_skipped_and_counted():
    edges = graphs()
    edges[0] = False
    edges[1] = ~np.eye(5, dtype=bool)
    assert edge_metrics(edges.astype(float), edges)["stores"] == len(edges) - 2


def test_calibration_of_known_probabilities():
    edges = np.zeros((1, 2, 2), dtype=bool)
    edges[0, 0, 1] = True
    probability = np.full((1, 2, 2), 0.9)
    result = calibration(probability, edges)
    assert result["true_share_80_100"] == 0.5
    assert result["pairs_80_100"] == 2
    assert result["ece"] == pytest.approx(0.4)
    assert np.isnan(calibration(probability / 2, edges)["true_share_80_100"])


def test_structural_hamming_distance_counts_an_edge_turned_round_once():
    edges = np.zeros((2, 3, 3), dtype=bool)
    edges[:, 0, 1] = True
    turned, diagonal = edges.swapaxes(1, 2).copy(), edges | np.eye(3, dtype=bool)
    assert decision_metrics(diagonal, edges) == {"accuracy": 1.0, "shd": 0.0}
    assert decision_metrics(turned, edges) == {"accuracy": pytest.approx(4 / 6), "shd": 1.0}
    more = edges.copy()
    more[0, [1, 2], [2, 1]] = True
    assert decision_metrics(more, edges) == {"accuracy": pytest.approx(10 / 12), "shd": 1.0}
    assert decision_metrics(edges & False, edges)["shd"] == 1.0


def test_forecast_scores_by_hand():
    actual = np.array([[1.0, 3.0], [10.0, 30.0]])
    perfect, mean = (
        forecast_metrics(actual, actual),
        forecast_metrics(actual, actual * 0 + [[2], [20]]),
    )
    assert (perfect["mse"], perfect["wape"], perfect["r2_median"]) == (0.0, 0.0, 1.0)
    assert mean["mse"] == pytest.approx(0.25), "relative to each store's own mean"
    assert mean["wape"] == pytest.approx(22 / 44)
    assert mean["r2_median"] == 0.0
    assert mean["r2_pooled"] > 0.0, "store levels alone explain pooled variance"


def test_edge_array_puts_probabilities_where_the_frame_says():
    frame = pd.DataFrame(
        {
            "store": ["b", "a"],
            "source": ["x", "y"],
            "target": ["y", "x"],
            "probability": [0.7, 0.2],
        }
    )
    array = edge_array(frame, ["a", "b"], ["x", "y"])
    assert array[1, 0, 1] == 0.7
    assert array[0, 1, 0] == 0.2
    assert array.sum() == pytest.approx(0.9)
    with pytest.raises(ValueError, match="does not have"):
        edge_array(frame, ["a"], ["x", "y"])


def test_results_are_written_with_where_and_when(tmp_path):
    rows = [{"method": "a", "auroc": 0.5}, {"method": "b", "auroc": 0.75, "ece": 0.1}]
    record(tmp_path / "results", "structure", rows, {"preset": "paper-small"})
    with (tmp_path / "results" / "structure.csv").open() as file:
        read = list(csv.DictReader(file))
    assert [r["auroc"] for r in read] == ["0.5", "0.75"]
    assert read[0]["ece"] == ""
    header = json.loads((tmp_path / "results" / "structure.json").read_text())
    assert header["settings"] == {"preset": "paper-small"}
    assert {"command", "date", "revision", "machine", "versions"} <= set(header)


def test_tables_average_over_repetitions():
    text = table([{"m": "a", "v": 1.0}, {"m": "a", "v": 3.0}, {"m": "b", "v": None}], ["m"], ["v"])
    assert "2 ± 1.414" in text
    assert text.splitlines()[-1].split() == ["b", "-"]
