"""Edges of weekly panels come from the response regression and the pretrained prior together."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from causalmmm import CausalMMM, Panel, simulate
from causalmmm.engine.nn.pretrained import LEAST_STEPS
from causalmmm.engine.regression import Observed
from causalmmm.engine.regression import combined_edges as engine_edges
from causalmmm.model import diagnostics
from causalmmm.model.answers import observed_stores
from causalmmm.model.regimes import combined_edges
from causalmmm.simulation import Truth

Fit = tuple[CausalMMM, Panel, Truth]


@pytest.fixture(scope="module")
def fit() -> Fit:
    panel, truth = simulate("weekly-mmm", seed=2, stores=2, steps=60, channels=3)
    spend, target = panel.nodes[0], panel.nodes[-1]
    model = CausalMMM(
        forbidden=[(target, spend)], required=[(panel.nodes[1], target)], reactive=[panel.nodes[2]]
    )
    return model.fit(panel, progress=False), panel, truth


def keyed(graphs: pd.DataFrame) -> pd.DataFrame:
    return graphs.set_index(["store", "source", "target"])


def weighed(fit: Fit, weight: float, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Graphs with that weight of the regression."""
    monkeypatch.setattr(engine_edges, "REGRESSION_WEIGHT", weight)
    return keyed(fit[0].graphs())


def test_probabilities_lie_between_those_of_both(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = keyed(fit[0].graphs())
    alone, prior = (weighed(fit, w, monkeypatch) for w in (1.0, 0.0))
    low = np.minimum(alone["probability"], prior["probability"]) - 1e-6
    high = np.maximum(alone["probability"], prior["probability"]) + 1e-6
    assert ((low <= usual["probability"]) & (usual["probability"] <= high)).all()
    assert np.abs(alone["probability"] - prior["probability"]).max() > 0.1


def test_evidence_alone_is_the_regressions(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    model, panel, _ = fit
    own = CausalMMM(**(model.get_params() | {"structure": "evidence", "regime": "regression"}))
    plain = keyed(own.fit(panel, progress=False).graphs())
    assert np.abs(plain["probability"] - keyed(model.graphs())["probability"]).max() > 0.1
    pd.testing.assert_frame_equal(plain, weighed(fit, 1.0, monkeypatch), rtol=0, atol=1.1e-4)


def test_a_saved_model_keeps_its_prior(fit: Fit, tmp_path: Path) -> None:
    model, panel, _ = fit
    model.save(tmp_path / "model")
    loaded = CausalMMM.load(tmp_path / "model")
    pd.testing.assert_frame_equal(loaded.graphs(panel), model.graphs(), check_exact=True)


def test_warnings_of_a_fit_rest_on_the_regressions_own_edges(fit: Fit) -> None:
    model, panel, _ = fit
    alone = CausalMMM.__new__(CausalMMM)
    vars(alone).update(vars(model) | {"model_": replace(model.model_, edges=None)})
    own = diagnostics._own_edges(model, panel)
    pd.testing.assert_frame_equal(own, alone.graphs(), check_exact=True)


def test_effects_stay_those_of_the_regression(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = ["effect", "lower", "upper"]
    alone, prior = (weighed(fit, w, monkeypatch)[columns] for w in (1.0, 0.0))
    pd.testing.assert_frame_equal(alone, prior)


def test_what_the_user_gave_stays_and_reactive_channels_are_the_regressions(
    fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = fit[1].nodes
    alone, prior = (weighed(fit, w, monkeypatch)["probability"].unstack(0) for w in (1.0, 0.0))
    assert (prior.loc[(names[-1], names[0])] == 0).all()
    assert (prior.loc[(names[1], names[-1])] == 1).all()
    pd.testing.assert_frame_equal(alone.loc[[names[2]]], prior.loc[[names[2]]])


def test_a_store_has_the_same_graph_in_other_company(fit: Fit) -> None:
    model, panel, _ = fit
    both = model.graphs().set_index("store")
    for store in panel.stores.tolist():
        single = model.graphs(panel.select([store])).set_index("store")
        found, expected = (frame.loc[[store], "probability"] for frame in (single, both))
        np.testing.assert_array_equal(found, expected)


def test_a_history_is_read_once_whatever_is_asked(
    fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, panel, _ = fit
    edges, observed = deepcopy(model.model_.edges), []
    edges._kept.clear()
    read = engine_edges.CombinedEdges._read

    def noting(self: engine_edges.CombinedEdges, store: Observed) -> engine_edges.Reading:
        observed.append(store)
        return read(self, store)

    monkeypatch.setattr(engine_edges.CombinedEdges, "_read", noting)
    both = observed_stores(model._windows(panel.data), panel, np.arange(2))
    first, second = edges(both), edges(both.select(torch.tensor([1])))
    assert len(observed) == 2
    torch.testing.assert_close(second.log_odds, first.log_odds[1:], rtol=0, atol=0)
    x = both.x.clone()
    x[1, -1, -3] += 1.0
    changed = edges(replace(both, x=x))
    assert len(observed) == 3
    torch.testing.assert_close(changed.log_odds[0], first.log_odds[0], rtol=0, atol=0)
    assert not torch.equal(changed.log_odds[1], first.log_odds[1])
    for part in ("basis", "mask"):
        rows = getattr(both, part).clone()
        rows[0, 0] = 0
        edges(replace(both, **{part: rows}))
    assert len(observed) == 5
    monkeypatch.setattr(engine_edges, "_MOST_KEPT", 5)
    edges(replace(both, x=2 * both.x))
    assert len(edges._kept) == 5  # the oldest went


def test_short_or_unlike_histories_keep_what_the_regression_says(fit: Fit) -> None:
    model, panel, _ = fit
    edges, target = deepcopy(model.model_.edges), len(panel.nodes) - 1
    stores, senders = np.arange(2), list(range(target))
    own = torch.full((2, target), 0.5, dtype=torch.float64)
    observed = observed_stores(model._windows(panel.data), panel, stores)
    assert not torch.equal(edges(observed).combined(own, senders, target), own)
    few = panel.split(60 - LEAST_STEPS + 1)[0]
    short = observed_stores(model._windows(few.data), few, stores)
    assert torch.equal(edges(short).combined(own, senders, target), own)
    edges.graphs.familiarity.farthest.fill_(1e-9)
    assert torch.equal(edges(observed).combined(own, senders, target), own)


def test_what_is_weighed_by_graphs_is_weighed_by_the_combined_ones(fit: Fit) -> None:
    """Drawn graphs have an edge as often as the table of graphs says."""
    model, panel, _ = fit
    windows, target = model._windows(panel.data), panel.nodes[-1]
    known = model._answers(windows, panel)._posterior(np.arange(2)).known[len(panel.nodes) - 1]
    uniform = torch.rand(20_000, 2, len(known.fitted.senders), generator=torch.manual_seed(0))
    often = known.inclusion.draw(uniform.double()).mean(0)  # [B, n]
    table = keyed(model.graphs())["probability"]
    for b, store in enumerate(panel.stores.tolist()):
        expected = [table[store, panel.nodes[i], target] for i in known.fitted.senders]
        np.testing.assert_allclose(often[b].numpy(), expected, atol=0.015)


def test_months_are_in_no_law_and_days_are(fit: Fit) -> None:
    panel = fit[1]
    values = panel.data.values.reshape(panel.n_stores, -1, len(panel.nodes))
    schema = panel.schema.model_copy(update={"freq": "MS", "controls": []})
    monthly = Panel.from_arrays(values, schema=schema, first_date="2020-01-01", freq="MS")
    assert combined_edges(monthly, fit[0].calendar_, (), (), (None, (), ())) is None
    schema = schema.model_copy(update={"freq": "D"})
    daily = Panel.from_arrays(values, schema=schema, first_date="2020-01-01", freq="D")
    found = combined_edges(daily, fit[0].calendar_, (), (), (None, (), ()))
    assert found is not None
    assert found.graphs.kind.period == "D"
