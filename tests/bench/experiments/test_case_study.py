"""The case study: its store tells the story, its true curves are right, its text is written."""

from __future__ import annotations

import numpy as np
from bench.experiments import case_study

from causalmmm.model.estimator import CausalMMM
from causalmmm.simulation import simulate


def test_the_chosen_store_has_the_story_in_its_true_graph():
    seed, brand, store = case_study.choose(range(20))
    _, truth = simulate(case_study.LAW, seed=seed, stores=store + 1, steps=2)
    edges, pv, gmv = truth.edges[store], case_study.LAW.channels, -1
    assert edges[brand, pv]
    assert edges[pv, gmv]
    assert any(edges[brand, k] and edges[k, gmv] for k in range(pv))


def test_true_curves_pass_through_half_saturation_and_end_at_the_true_effect():
    panel, truth = simulate(case_study.LAW, seed=0, stores=2, steps=60)
    names = case_study.series_names(truth, 0, 1)
    renamed = case_study.renamed(panel, truth.nodes, names)
    assert tuple(renamed.nodes) == names
    model = CausalMMM(epochs=1).fit(renamed, progress=False)
    curves = case_study.response_curves(model, renamed, truth, 1, names)
    assert len(curves) == truth.edges[1, :-2, -1].sum() > 0
    for curve in curves:
        i = names.index(curve.channel)
        most = truth.effects[1, i, -1] * truth.levels[1, -1] / (1 - truth.own_memory[-1])
        half = truth.half_saturation[1, i] * truth.levels[1, i]
        assert half < curve.amount[-1]
        np.testing.assert_allclose(np.interp(half, curve.amount, curve.true), most / 2, rtol=1e-2)
        assert (curve.true < most).all()
        assert curve.learned[0] == curve.true[0] == 0.0


def test_the_command_writes_text_and_picture(tmp_path, capsys):
    options = ["--draws", "2", "--stores", "12", "--settings", '{"epochs": 1}']
    rows = case_study.main([*options, "--out", str(tmp_path)])
    assert any(row["true edge"] for row in rows)
    text = (tmp_path / "case-study.md").read_text(encoding="utf-8")
    assert "What sells directly" in text
    assert text in capsys.readouterr().out
    assert (tmp_path / "case-study.png").stat().st_size > 0
