"""The case study: its store tells the story, its true curves are right, its text is written."""

from __future__ import annotations

import case_study
import numpy as np

from causalmmm.estimator import CausalMMM
from causalmmm.simulation import simulate


def test_the_chosen_store_has_the_story_in_its_true_graph():
    seed, brand, store = case_study.choose(range(20))
    _, truth = simulate(case_study.LAW, seed=seed, stores=store + 1, steps=2)
    edges, pv, gmv = truth.edges[store], case_study.LAW.channels, -1
    assert edges[brand, pv]
    assert edges[pv, gmv]
    assert any(edges[brand, k] and edges[k, gmv] for k in range(pv))


def test_true_curves_are_what_constant_levels_settle_at():
    panel, truth = simulate(case_study.LAW, seed=0, stores=2, steps=60)
    names = case_study.series_names(truth, 0, 1)
    renamed = case_study.renamed(panel, truth.nodes, names)
    assert tuple(renamed.nodes) == names
    model = CausalMMM(epochs=1).fit(renamed, progress=False)
    curves = case_study.response_curves(model, renamed, truth, 1, names)
    assert len(curves) == truth.edges[1].sum()
    for curve in curves:
        i, j = names.index(curve.source), names.index(curve.target)
        level = curve.level[-1] / truth.levels[1, i]
        response = level ** truth.slope[1, i]
        response /= response + truth.half_saturation[1, i] ** truth.slope[1, i]
        gained = 0.0
        for _ in range(200):  # u(t) = memory u(t - 1) + effect s
            gained = truth.own_memory[j] * gained + truth.effects[1, i, j] * response
        np.testing.assert_allclose(curve.true[-1], gained * truth.levels[1, j], rtol=1e-4)
        assert curve.learned[0] == curve.true[0] == 0.0


def test_the_command_writes_text_and_picture(tmp_path, capsys):
    options = ["--draws", "2", "--stores", "12", "--settings", '{"epochs": 1}']
    rows = case_study.main([*options, "--out", str(tmp_path)])
    assert any(row["true edge"] for row in rows)
    text = (tmp_path / "case-study.md").read_text(encoding="utf-8")
    assert "What sells directly" in text
    assert text in capsys.readouterr().out
    assert (tmp_path / "case-study.png").stat().st_size > 0
