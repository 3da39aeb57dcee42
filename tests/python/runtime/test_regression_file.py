"""The file of a response regression gives the model's answers, from each store's own rows."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rounding import assert_same_table

from causalmmm import CausalMMM, Panel
from causalmmm.simulation import simulate

pytest.importorskip("onnx", reason="needs the optional extra onnx")
pytest.importorskip("onnxruntime", reason="needs the optional extra runtime")

from causalmmm.decisions.period import Period
from causalmmm.model.onnx_export import differences
from causalmmm.runtime import OnnxModel
from causalmmm.runtime.feeds import feeds

# Draws are whole numbers of the file as of the model; what is rounded otherwise are sums, and the
# single precision of responses: a hundredth of what ``export --check`` allows.
CLOSE = 1e-5

# Controls without a plan are not what is tested.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@dataclass(frozen=True)
class Exported:
    model: CausalMMM
    panel: Panel
    path: Path
    file: OnnxModel


def shifted(panel: Panel) -> Panel:
    """All stores sell a fifth less from week 30 on, the first a third less for half a year; the
    second begins three weeks late."""
    table = panel.to_frame()
    days = pd.to_datetime(table["ds"])
    first, second = (table["shop_id"] == name for name in panel.stores[:2])
    table.loc[days >= days.iloc[30], "gmv"] *= 0.8
    table.loc[first & days.between(days.iloc[20], days.iloc[45]), "gmv"] *= 0.67
    return Panel.from_frame(table[~second | (days >= days.iloc[3])], panel.schema)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Level shifts in all stores and in one, a reactive channel, a channel that nothing drives, and
    an experiment. Forty draws instead of two hundred, for the sake of time."""
    drawn, _ = simulate("weekly-mmm", seed=0, stores=3, steps=70, channels=2)
    panel = shifted(drawn)
    nodes, days = panel.nodes, panel.dates(panel.stores[0])
    model = CausalMMM(
        seed=3,
        horizon=5,
        reactive=["x1"],
        forbidden=[(name, "x0") for name in nodes if name != "x0"],
        required=[("x0", nodes[-1])],
    )
    model.fit(panel, progress=False)
    few = replace(model.model_.config, draws=40)
    model.model_ = replace(model.model_, config=few)
    test = {"store": "ALL", "channel": "x0", "start": days[40], "end": days[47]}
    model.calibrate(pd.DataFrame([test | {"lift": 9000.0, "lift_se": 300.0}]), panel)
    path = model.export_onnx(tmp_path_factory.mktemp("onnx") / "model.onnx", max_horizon=20)
    return Exported(model, panel, path, OnnxModel(path, threads=1))


def test_all_answers_are_the_models(exported: Exported) -> None:
    regression = exported.model.model_
    assert len(regression.receivers[len(exported.panel.nodes) - 1].shift_begin) == 1
    assert regression.calibration is not None
    assert regression.edges is not None
    assert max(differences(exported.model, exported.path, exported.panel).values()) < CLOSE


def test_returns_and_paths_of_a_period_are_the_models(exported: Exported) -> None:
    """Draw by draw: intervals, and those of sums over stores, are the same."""
    panel, days = exported.panel, exported.panel.dates(exported.panel.stores[0])
    north = dict.fromkeys(panel.stores[:2].tolist(), "north")
    span = {"start": str(days[20])[:10], "end": str(days[60])[:10]}
    for asked in ({"by": "store", **span}, {"by": "total"}, {"by": north, "end": span["end"]}):
        for question in ("roi", "paths"):
            models = (exported.model, exported.file)
            ours, theirs = (getattr(model, question)(panel, **asked) for model in models)
            assert_same_table(ours, theirs)
    total = exported.file.roi(panel, by="total").set_index("channel")
    assert (total["outcome_lower"] < total["outcome"]).all()
    assert not total.equals(exported.file.roi(panel, by="total", **span).set_index("channel"))


def test_returns_of_a_history_longer_than_the_window_are_the_models(exported: Exported) -> None:
    """Of the steps that both read; earlier ones are refused."""
    panel, model = exported.panel, copy(exported.model)
    model.window = 50
    path = model.export_onnx(exported.path.with_name("short.onnx"), max_horizon=20)
    file, days = OnnxModel(path, threads=1), panel.dates(panel.stores[0])
    ours, theirs = (m.roi(panel, by="total") for m in (model, file))
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-4)
    assert theirs["spend"].iloc[-1] == pytest.approx(panel.tail(50).spend.sum(), rel=1e-6)
    with pytest.raises(ValueError, match="last 50 steps of a history"):
        file.paths(panel, start=str(days[0])[:10])


def test_contributions_over_the_history_are_the_models(exported: Exported) -> None:
    ours, theirs = (m.contributions(exported.panel) for m in (exported.model, exported.file))
    scale = 1e-5 * ours["total"].abs().max()  # of what a bound near zero is a difference of
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-4, atol=scale)


def test_what_is_not_asked_for_is_empty(exported: Exported) -> None:
    """Returns forecast nothing, though there are steps ahead."""
    file, panel, stores = exported.file, exported.panel, np.arange(1)
    names = {"with_sums": "direct_sum", "with_returns": "outcome", "with_graphs": "probability"}
    names |= {"with_contributions": "contribution"}
    given = feeds(panel, stores, window=file.window, steps=3, period=Period.of(panel, None, None))
    for asked in names:
        switches = {name: np.array(name == asked) for name in names}
        inputs = {k: v for k, v in (given | switches).items() if k in file.inputs}
        found = file.run(inputs, [*names.values(), "mean", "response"])
        forecast = {"mean"} if asked != "with_returns" else set()
        assert {name for name, value in found.items() if value.size} == {names[asked]} | forecast


def test_a_new_store_gets_coefficients_from_its_own_rows(exported: Exported) -> None:
    """In a table that is longer, begins elsewhere and has other stores."""
    other, _ = simulate("weekly-mmm", seed=0, stores=5, steps=150, channels=2)
    new = other.select(other.stores[3:].tolist())
    assert max(differences(exported.model, exported.path, new).values()) < CLOSE


def test_plans_and_known_controls_count_as_in_the_model(exported: Exported) -> None:
    panel = exported.panel
    days = panel.data.grid[-1] + 7 * np.arange(1, 14)
    rng = np.random.default_rng(1)
    plan = pd.DataFrame(
        {
            "shop_id": np.repeat(panel.stores, 13),
            "ds": np.tile(days.astype("datetime64[ns]"), panel.n_stores),
            "x0": rng.gamma(1.0, 2_000.0, 13 * panel.n_stores),
            "control0": rng.standard_normal(13 * panel.n_stores),
            "control1": rng.standard_normal(13 * panel.n_stores),
        }
    )
    ours, theirs = (m.predict(panel, plan=plan) for m in (exported.model, exported.file))
    pd.testing.assert_frame_equal(ours, theirs, rtol=CLOSE)
    usual = exported.model.predict(panel, horizon=13)
    assert (usual["mean"] - ours["mean"]).abs().max() > 1


def test_company_batches_and_threads_do_not_matter(exported: Exported) -> None:
    """A bound near zero is a difference of large numbers, and no better than their last digits."""
    together = exported.file.predict(exported.panel)
    near = {"rtol": 1e-6, "atol": 1e-8 * together["upper_95"].abs().max()}
    for store in exported.panel.stores.tolist():
        alone = exported.file.predict(exported.panel.select([store]))
        expected = together[together["store"] == store].reset_index(drop=True)
        pd.testing.assert_frame_equal(alone, expected, **near)
    several = OnnxModel(exported.path, threads=2, batch=1)
    pd.testing.assert_frame_equal(several.predict(exported.panel), together, **near)


def test_the_prior_is_in_its_edges_but_where_a_history_is_short(exported: Exported) -> None:
    """Both counted by the file: stores of 30 and of 23 weeks in one batch."""
    model, panel = exported.model, exported.panel
    long, short = (panel.split(70 - weeks)[0] for weeks in (30, 23))
    own = replace(model.model_, edges=None)
    tables = []
    for some, store in ((long, panel.stores[0]), (short, panel.stores[2])):
        table = some.to_frame()
        tables.append(table[table["shop_id"] == store])
    both = Panel.from_frame(pd.concat(tables), panel.schema)
    found = exported.file.graphs(both).set_index("store")["probability"]
    combined = model.graphs(both).set_index("store")["probability"]
    np.testing.assert_allclose(found, combined, atol=CLOSE)
    kept, model.model_ = model.model_, own
    try:
        alone = model.graphs(both).set_index("store")["probability"]
    finally:
        model.model_ = kept
    first, last = (str(name) for name in both.stores)
    assert (found[first] - alone[first]).abs().max() > 0.1
    np.testing.assert_allclose(found[last], alone[last], atol=CLOSE)
