"""Graphs from the pretrained prior: at once, calibrated, with what the user knows, and honest where
it knows nothing."""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from causalmmm import (
    CausalMMM,
    Panel,
    PanelError,
    Schema,
    load,
    pretrained_graphs,
    simulate,
)
from causalmmm.simulation import Truth


@pytest.fixture(scope="module")
def days() -> tuple[Panel, Truth]:
    return simulate("paper-small", stores=12, seed=31)


def scores(frame: pd.DataFrame, truth: Truth, column: str = "probability") -> float:
    """Mean AUROC over stores."""
    both = frame.merge(truth.edges_frame(), on=["store", "source", "target"])
    values = [
        roc_auc_score(rows["edge"], rows[column])
        for _, rows in both.groupby("store")
        if 0 < rows["edge"].sum() < len(rows)
    ]
    return float(np.mean(values))


@pytest.mark.parametrize(
    ("preset", "least"), [("paper-small", 0.9), ("airmmm", 0.93), ("weekly-mmm", 0.95)]
)
def test_one_store_that_nothing_was_fitted_on_has_a_good_graph(preset: str, least: float) -> None:
    """Each store is a panel of its own; per-store evidence is clearly behind."""
    panel, truth = simulate(preset, stores=6, seed=41)
    alone = pd.concat([pretrained_graphs(panel.select([str(s)])) for s in panel.stores])
    assert scores(alone, truth) > least
    assert scores(alone, truth) > scores(alone, truth, "evidence") + 0.02
    both = alone.merge(truth.edges_frame(), on=["store", "source", "target"])
    for low, high in ((0.0, 0.2), (0.8, 1.0)):
        inside = both[both["probability"].between(low, high)]
        gap = abs(inside["probability"].mean() - inside["edge"].mean())
        assert gap < 0.1, (low, high, gap)


def test_a_store_takes_a_fraction_of_a_second(days: tuple[Panel, Truth]) -> None:
    one = days[0].select([str(days[0].stores[0])])
    pretrained_graphs(one)
    began = time.process_time()
    pretrained_graphs(one)
    assert time.process_time() - began < 1.0


def test_what_the_user_knows_decides(days: tuple[Panel, Truth]) -> None:
    panel = days[0].select([str(s) for s in days[0].stores[:2]])
    frame = pretrained_graphs(
        panel, forbidden=[("x0", "*")], required=[("x1", "gmv")], edge_prior={("x2", "gmv"): 0.9}
    ).set_index(["source", "target"])
    usual = pretrained_graphs(panel).set_index(["source", "target"])
    assert (frame.loc["x0", "probability"] == 0).all()
    assert (frame.loc[("x1", "gmv"), "probability"] == 1).all()
    moved = frame.loc[("x2", "gmv"), "probability"]
    assert (moved.to_numpy() > usual.loc[("x2", "gmv"), "probability"].to_numpy()).all()
    np.testing.assert_allclose(frame.loc[("x2", "gmv"), "prior"], 0.9, rtol=1e-5)
    untouched = frame.loc[("x3", "gmv"), "probability"].to_numpy()
    np.testing.assert_allclose(untouched, usual.loc[("x3", "gmv"), "probability"], rtol=1e-5)


def test_rows_below_the_threshold_are_left_out(days: tuple[Panel, Truth]) -> None:
    every = pretrained_graphs(days[0])
    likely = pretrained_graphs(days[0], threshold=0.5)
    assert len(every) == 12 * 56
    assert len(likely) == (every["probability"] >= 0.5).sum()
    assert likely["probability"].min() >= 0.5


def strange(stores: int = 2) -> Panel:
    """Series such as no law has: all of them double every seven steps."""
    noise = np.random.default_rng(0).standard_normal((stores, 200, 4))
    values = np.exp(0.1 * np.arange(200))[:, None] * (1 + 0.1 * noise)
    schema = Schema(store="s", date="d", target="y", channels=["a", "b", "c"], freq="D")
    return Panel.from_arrays(values, schema=schema, first_date="2024-01-01", freq="D")


def test_a_panel_unlike_every_law_says_so_and_gets_evidence() -> None:
    with pytest.warns(UserWarning, match=r"2 stores of 2 .* unlike every law"):
        frame = pretrained_graphs(strange())
    np.testing.assert_allclose(frame["probability"], frame["evidence"], atol=1e-6)


def test_usual_panels_are_not_called_unlike(days: tuple[Panel, Truth]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pretrained_graphs(days[0])


def test_short_histories_are_refused_by_name() -> None:
    panel, _ = simulate("paper-small", stores=2, steps=20)
    with pytest.raises(PanelError, match=r"store 's0000000' has 20 steps.*needs 24"):
        pretrained_graphs(panel)


@pytest.fixture(scope="module")
def fitted(days: tuple[Panel, Truth]) -> CausalMMM:
    panel = days[0].select([str(s) for s in days[0].stores[:6]])
    return CausalMMM(
        structure="pretrained", epochs=2, draws=20, device="cpu", required=[("x1", "gmv")]
    ).fit(panel, progress=False)


def test_a_fit_takes_its_graphs_from_the_prior(
    fitted: CausalMMM, days: tuple[Panel, Truth]
) -> None:
    assert fitted.config_.structure == "pretrained"
    read = pretrained_graphs(fitted.panel_, required=[("x1", "gmv")])
    graphs = fitted.graphs()
    np.testing.assert_allclose(graphs["probability"], read["probability"], atol=2e-3)
    assert scores(graphs, days[1]) > 0.85


def test_a_new_store_is_read_as_one_of_the_panel_alone_and_in_company(
    fitted: CausalMMM, days: tuple[Panel, Truth]
) -> None:
    new = days[0].select([str(s) for s in days[0].stores[6:9]])
    together = fitted.graphs(new)
    alone = fitted.graphs(new.select([str(new.stores[1])]))
    rows = together[together["store"] == new.stores[1]]
    np.testing.assert_allclose(rows["probability"], alone["probability"], atol=1e-4)


def test_a_saved_model_reads_the_same_graphs(
    fitted: CausalMMM, days: tuple[Panel, Truth], tmp_path: Path
) -> None:
    fitted.save(tmp_path / "m")
    again = load(tmp_path / "m", device="cpu")
    pd.testing.assert_frame_equal(again.graphs(fitted.panel_), fitted.graphs())


def test_an_exported_file_reads_the_same_graphs(fitted: CausalMMM, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="needs the optional extra onnx")
    from causalmmm.runtime import OnnxModel

    fitted.export_onnx(tmp_path / "m.onnx")
    found = OnnxModel(tmp_path / "m.onnx").graphs(fitted.panel_)["probability"]
    np.testing.assert_allclose(found, fitted.graphs()["probability"], atol=1e-4)


def test_the_prior_alone_is_one_file_that_reads_the_same_graphs(
    days: tuple[Panel, Truth], tmp_path: Path
) -> None:
    """Stores that the file was not made with too, read as members of the panel that it was."""
    pytest.importorskip("onnx", reason="needs the optional extra onnx")
    runtime = pytest.importorskip("onnxruntime", reason="needs the optional extra onnx")
    from causalmmm.model.prior_export import export_prior

    panel = days[0].select([str(s) for s in days[0].stores[:4]])
    known = {"forbidden": [("x0", "*")], "required": [("x1", "gmv")]}
    session = runtime.InferenceSession(export_prior(panel, tmp_path / "prior.onnx", **known))
    count, nodes = panel.n_stores, panel.nodes
    date = panel.data.grid.astype("datetime64[D]").astype(np.int64)
    found = session.run(
        ["probability", "evidence", "unlike"],
        {
            "history": panel.data.values.reshape(count, -1, len(nodes)),
            "date": np.tile(date, (count, 1)),
        },
    )
    frame = pretrained_graphs(panel, **known)
    off = ~np.eye(len(nodes), dtype=bool)
    np.testing.assert_allclose(found[0][:, off].ravel(), frame["probability"], atol=1e-4)
    np.testing.assert_allclose(found[1][:, off].ravel(), frame["evidence"], atol=1e-4)
    assert not found[2].any()
