"""A report holds every card, says what to run for those it cannot fill, and needs no network."""

from __future__ import annotations

import gzip
import json
import re
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy.special import expit, logit

from causalmmm import CausalMMM, Panel
from causalmmm.engine.nn.pretrained import usual_log_odds
from causalmmm.engine.prior import shipped_prior
from causalmmm.engine.regression import RegressionConfig
from causalmmm.model.fleet import Fleet
from causalmmm.report import Tables, sentences, write_page, write_report
from causalmmm.report.cards import cards_of
from causalmmm.report.svg import svg_of

if TYPE_CHECKING:
    from conftest import Fitted

CARDS = ("summary", "data", "fit", "trust", "graphs", "contributions", "returns", "curves",
         "budget", "forecast", "residuals", "experiments", "stores", "methods")  # fmt: skip
HIDDEN = 8


class _Page(HTMLParser):
    """What a test needs to know of a page: ids, headings, links out of it, text by section."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.levels: list[int] = []
        self.outside: list[str] = []
        self.text: dict[str, str] = {}
        self.section = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if "id" in found:
            self.ids.append(str(found["id"]))
        if tag == "section":
            self.section = str(found["id"])
        if re.fullmatch(r"h\d", tag):
            self.levels.append(int(tag[1]))
        for name in ("src", "href", "xlink:href"):
            link = found.get(name) or ""
            if link and not link.startswith(("#", "data:")):
                self.outside.append(link)

    def handle_data(self, data: str) -> None:
        self.text[self.section] = self.text.get(self.section, "") + data


def test_a_full_report_has_all_cards_and_nothing_is_missing(page: str) -> None:
    read = _Page(page)
    assert [name for name in read.ids if name in CARDS] == list(CARDS)
    shown = set(CARDS) - {"trust", "experiments", "stores"}  # nobody passed those
    assert not [name for name in shown if "Not shown" in read.text[name]]
    assert "causalmmm evaluate RUN" in read.text["trust"]
    assert "causalmmm calibrate RUN" in read.text["experiments"]
    assert "Our <report>" in read.text[""]


def test_a_page_is_self_contained_and_in_order(page: str) -> None:
    read = _Page(page)
    assert not read.outside
    assert "@import" not in page
    assert "url(http" not in page
    assert len(read.ids) == len(set(read.ids))
    assert read.levels[0] == 1
    assert read.levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(read.levels))


def test_the_summary_says_what_drives_what_to_move_and_how_sure(page: str, tables: Tables) -> None:
    told = _Page(page).text["summary"]
    roi = tables.frames["roi"].set_index("channel").drop("all channels")
    assert f"{roi['roi'].idxmax()} returned most" in told
    assert f"The last unit spent on {roi['mroi'].idxmax()} brings" in told
    assert "weeks hidden from the fit the forecast was off by" in told
    assert "The plan spends" in told
    parts = tables.frames["parts"].groupby("component")["value"].sum()
    channels = [f"x{k}" for k in range(8)]
    assert f"Channels explain {parts[channels].sum() / parts.sum():.0%} of gmv" in told


def test_where_no_return_is_surely_above_zero_nothing_is_to_be_moved(tables: Tables) -> None:
    roi = tables.frames["roi"]
    unsure = replace(tables, frames={**tables.frames, "roi": roi.assign(roi_lower=0.0)})
    told = " ".join(sentences.moves(unsure))
    best = roi.loc[roi["roi"].where(roi["channel"] != "all channels").idxmax(), "channel"]
    assert f"No channel's return is surely above zero: the most is that of {best}," in told
    assert "pays" not in told
    assert "returned most" not in told


def test_small_parts_and_mediators_that_are_not_there_go_unmentioned(tables: Tables) -> None:
    parts, paths = tables.frames["parts"], tables.frames["paths"]
    small = ~parts["component"].isin(["baseline", "own past", "remainder", "x0"])
    frames = {
        "parts": parts[parts["component"] != "pv"].assign(value=parts["value"].mask(small, 0.0)),
        "paths": paths[paths["path"].str.count(" -> ") < 2],
    }
    alone = replace(tables, facts={**tables.facts, "stores": 1}, frames={**tables.frames, **frames})
    drives = sentences.drivers(alone)
    assert "directly; the largest part is x0 (" in drives
    assert "mediators" not in drives
    assert "x1" not in drives
    assert "mediators" not in " ".join(sentences.paths(alone))
    assert "mediators" in " ".join(sentences.paths(tables))
    assert "average over stores" not in " ".join(sentences.graphs(alone))


def test_numbers_in_pictures_are_not_cut() -> None:
    figure = Figure()
    figure.text(0.123456, 0.5, "0.0455 (at most 1.23456)")
    drawn = svg_of(figure, "a")
    assert ">0.0455 (at most 1.23456)<" in drawn
    tags = "".join(re.findall("<[^>]*>", drawn)).replace(
        'aria-label="0.0455 (at most 1.23456)"', ""
    )
    assert not re.search(r"\d\.\d{3}", tags)


def test_fleet_tables_are_sums_over_stores(weekly: tuple[CausalMMM, Panel], tables: Tables) -> None:
    model, panel = weekly
    parts = model.decompose(panel).groupby(["date", "component"])["value"].sum()
    table = tables.frames["parts"].set_index(["date", "component"])["value"]
    np.testing.assert_allclose(table[parts.index], parts, rtol=1e-5, atol=1e-3)
    curves = model.response_curves(panel=panel, points=13)
    whole = tables.frames["curves"].groupby("channel")[["amount", "expected"]].max()
    largest = curves.groupby(["store", "channel"])[["amount", "expected"]].max()
    np.testing.assert_allclose(whole, largest.groupby("channel").sum(), rtol=1e-4)
    fit = tables.frames["fit"]
    assert fit["hidden"].sum() == HIDDEN
    actual = panel.to_frame().groupby(panel.schema.date)[panel.nodes[-1]].sum()
    np.testing.assert_allclose(fit["actual"], actual[fit["date"]], rtol=1e-5)


def test_bounds_of_all_stores_are_quantiles_of_their_summed_draws(
    weekly: tuple[CausalMMM, Panel], tables: Tables
) -> None:
    model, panel = weekly
    one, fleet = panel.select(panel.stores[:1].tolist()), Fleet()
    forecast = model.predict(one, 4, level=(80,), fleet=fleet)
    own = forecast.loc[forecast["series"] == "gmv", ["lower_80", "upper_80"]].to_numpy()
    np.testing.assert_allclose(fleet.quantiles("forecast", (0.1, 0.9)).T, own, rtol=1e-5)
    curves = model.response_curves(panel=one, points=3, fleet=fleet)
    ends = fleet.quantiles("curves", (0.05, 0.95))[:, :8].reshape(2, -1)
    np.testing.assert_allclose(ends.T, curves[["lower", "upper"]], rtol=1e-4, atol=1e-3)
    stores = model.response_curves(panel=panel, points=13).assign(width=lambda t: t.upper - t.lower)
    widths = stores[stores["amount"] > 0].groupby("channel")["width"].sum()
    fleets = tables.frames["curves"].assign(width=lambda t: t.upper - t.lower)
    together = fleets.groupby("channel")["width"].sum()[widths.index]
    assert (together < widths).all()
    assert (together > widths / 3).all()


def test_what_the_fit_warned_of_is_in_the_summary_and_the_card_of_trust(
    weekly: tuple[CausalMMM, Panel], tables: Tables
) -> None:
    assert tables.facts["doubts"] == weekly[0].warnings_
    doubted = replace(tables, facts={**tables.facts, "doubts": ["the baseline is below zero"]})
    told = "The fit warns: the baseline is below zero."
    assert told in sentences.summary(doubted)
    trust = next(card for card in cards_of(doubted) if card.id == "trust")
    assert trust.sentences == (told,)


def test_scores_are_those_of_the_forecasts_of_hidden_steps(
    weekly: tuple[CausalMMM, Panel], tables: Tables
) -> None:
    model, panel = weekly
    history, future = panel.split(HIDDEN)
    drop = ["gmv", "pv"]
    forecast = model.predict(history, HIDDEN, plan=future.to_frame().drop(columns=drop))
    ours = forecast[forecast["series"] == "gmv"]
    actual = future.to_frame()["gmv"].to_numpy()
    error = np.abs(ours["mean"].to_numpy() - actual)
    scores = tables.frames["accuracy"].set_index(["steps", "method"]).loc[("hidden", "causalmmm")]
    assert scores["wmape"] == pytest.approx(error.sum() / actual.sum(), rel=1e-4)
    assert scores["mape"] == pytest.approx((error / actual).mean(), rel=1e-4)
    spread = ((actual - actual.mean()) ** 2).sum()
    assert scores["r2"] == pytest.approx(1 - (error**2).sum() / spread, rel=1e-4)
    held = (ours["lower_80"].to_numpy() <= actual) & (actual <= ours["upper_80"].to_numpy())
    assert scores["coverage_80"] == pytest.approx(held.mean())
    by_store = error.reshape(3, -1).sum(1) / actual.reshape(3, -1).sum(1)
    np.testing.assert_allclose(tables.frames["stores"]["wmape_hidden"], by_store, rtol=1e-4)


def test_a_plan_stands_beside_last_years_spend(
    weekly: tuple[CausalMMM, Panel], tables: Tables
) -> None:
    table = tables.frames["budget"].set_index("channel")
    np.testing.assert_allclose(table["change"], 0.5, rtol=1e-4)
    assert table.loc["all channels", "spend"] == pytest.approx(table["spend"].iloc[:-1].sum())
    assert 0 < tables.facts["gain"]["mean"] < tables.facts["gain"]["upper"]
    assert tables.facts["gain"]["better"] == 1
    assert "a gain with probability 100 %" in next(sentences.budget(tables))
    assert tables.facts["plan_doubts"] == []


def test_a_page_of_one_store_names_it_and_not_all_stores(
    weekly: tuple[CausalMMM, Panel], tmp_path: Path
) -> None:
    model, panel = weekly
    one = str(panel.stores[1])
    out = write_report(model, panel.select([one]), tmp_path / "r.html", tables=tmp_path / "t")
    said = out.read_text(encoding="utf-8").split("<script")[0]
    assert f"gmv of store {one}" in said
    assert f"returns most in {one}" in said
    assert f"1 store, {panel.data.grid[0]}" in said
    for wrong in ("all stores", "1 stores", "1 weeks", "pooled over stores"):
        assert wrong not in said, wrong
    assert set(pd.read_csv(tmp_path / "t" / "roi.csv")["store"]) == {one}


def test_a_calibrated_model_shows_its_experiments(
    weekly: tuple[CausalMMM, Panel], calibrated: CausalMMM, tables: Tables, tmp_path: Path
) -> None:
    panel = weekly[1]
    assert "experiments" not in tables.frames
    out = write_report(calibrated, panel, tmp_path / "r.html", tables=tmp_path / "t")
    assert calibrated.horizon_ == 6
    assert len(pd.read_csv(tmp_path / "t" / "forecast.csv")) == 6  # without a plan: the model's
    table = pd.read_csv(tmp_path / "t" / "experiments.csv")
    assert list(table["channel"]) == ["x0", "x2"]
    assert abs(table["conflict"][0]) < 2 < table["conflict"][1]
    told = " ".join(_Page(out.read_text(encoding="utf-8")).text["experiments"].split())
    assert "1 of 2 experiments agree with the panel" in told


def records(page: str) -> list[dict[str, Any]]:
    packed = re.search(r'id="records">([^<]*)<', page)
    assert packed is not None
    lines = gzip.decompress(b64decode(packed[1])).decode().splitlines()
    return [json.loads(line) for line in lines]


def test_the_store_picker_has_the_numbers_of_every_store(
    weekly: tuple[CausalMMM, Panel], tables: Tables, page: str
) -> None:
    model, panel = weekly
    lines = records(page)
    assert [line["n"] for line in lines[:4]] == [*panel.stores, ""]
    second = lines[1]
    store = str(panel.stores[1])
    actual = panel.select([store]).data.values[:, -1]
    np.testing.assert_allclose(second["y"], actual[-len(second["y"]) :], rtol=1e-3)
    edges = model.graphs(panel).query("store == @store and probability >= 0.1")
    assert len(second["e"]) == len(edges)
    roi = tables.frames["roi_stores"].query("store == @store")
    np.testing.assert_allclose([row[4] for row in lines[5]["r"]], roi["roi"], rtol=1e-3)
    fleet = np.sum([line["y"] for line in lines[:3]], 0)
    np.testing.assert_allclose(lines[3]["y"], fleet, rtol=2e-3)


def test_the_amortised_model_has_a_report_without_decisions(fitted: Fitted, tmp_path: Path) -> None:
    out = write_report(fitted.model, fitted.panel, tmp_path / "r.html", tables=tmp_path / "tables")
    read = _Page(out.read_text(encoding="utf-8"))
    assert [name for name in read.ids if name in CARDS] == list(CARDS)
    for card in ("returns", "budget", "experiments"):
        assert "regime: regression" in read.text[card]
    assert "12 stores" in read.text["data"]
    written = {path.name for path in (tmp_path / "tables").iterdir()}
    assert {"parts.csv", "stores.csv", "facts.json"} <= written
    stores = pd.read_csv(tmp_path / "tables" / "stores.csv")
    assert list(stores["store"]) == list(fitted.panel.stores)


def test_probabilities_stand_beside_what_they_were_before_any_data(
    weekly: tuple[CausalMMM, Panel], tables: Tables, page: str
) -> None:
    _, panel = weekly
    graphs = tables.frames["graphs"]
    channels = list(panel.schema.channels)
    onward = graphs["source"].isin(channels) & (graphs["target"] == panel.nodes[-1])
    # a third of the log odds are the regression's, the rest the pretrained prior's usual ones
    base = usual_log_odds(panel.data.roles, shipped_prior().network).double().numpy()
    regression = RegressionConfig()
    onto_target = expit((logit(regression.edge_prior) + 2 * base[0, -1]) / 3)
    assert np.allclose(graphs.loc[onward, "prior"], onto_target)
    among = graphs["source"].isin(channels) & graphs["target"].isin(channels)
    between = expit((logit(regression.other_prior) + 2 * base[0, 1]) / 3)
    assert np.allclose(graphs.loc[among, "prior"], between)
    assert "before any data" in _Page(page).text["graphs"]
    moved = graphs.assign(probability=np.where(onward, 0.9, 0.0), prior=0.6)
    still = moved.assign(prior=np.where(moved["source"] == channels[0], 0.88, 0.6))
    told = [
        " ".join(sentences.graphs(replace(tables, frames={**tables.frames, "graphs": some})))
        for some in (moved, still)
    ]
    assert "hardly moved" not in told[0]
    assert f"The data hardly moved {channels[0]} → {panel.nodes[-1]}:" in told[1]


def test_tests_that_were_passed_are_shown(weekly: tuple[CausalMMM, Panel], tmp_path: Path) -> None:
    model, panel = weekly
    metrics = model.evaluate(panel, tests=["holdout"], horizon=HIDDEN)
    history, _ = panel.split(HIDDEN)
    out = write_report(model, history, tmp_path / "r.html", metrics=metrics)
    read = _Page(out.read_text(encoding="utf-8"))
    assert "seasonal naive" in read.text["trust"]
    assert "fit --holdout" in " ".join(read.text["fit"].split())  # nothing is hidden here


def test_thresholds_that_were_tested_are_shown_from_a_file(tables: Tables, tmp_path: Path) -> None:
    rows = [("holdout", "MAPE", 0.05, None, 0.15, True), ("placebo", "ROI", 0.4, None, 0.1, False)]
    rows += [("refresh", "not run", None, None, None, None)]
    columns = ["test", "measure", "value", "at_least", "at_most", "passed"]
    path = tmp_path / "tests.csv"
    pd.DataFrame(rows, columns=columns).assign(meaning="").to_csv(path, index=False)
    with_tests = replace(tables, frames=tables.frames | {"metrics": pd.read_csv(path)})
    out = write_page(with_tests, tmp_path / "r.html", "Tests")
    told = _Page(out.read_text(encoding="utf-8")).text["trust"]
    assert "1 of 2 thresholds are kept" in told
    assert "not run" in told
