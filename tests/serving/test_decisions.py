"""Questions about money over HTTP: a model directory answers, an exported file says why not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

fastapi = pytest.importorskip("fastapi", reason="needs the optional extra serve")
pytest.importorskip("prometheus_client", reason="needs the optional extra serve")

from fastapi.testclient import TestClient  # noqa: E402
from httpx2 import Response  # noqa: E402

from causalmmm import CausalMMM, Panel  # noqa: E402
from causalmmm.decisions import budgets  # noqa: E402
from causalmmm.model import served  # noqa: E402
from causalmmm.runtime import OnnxModel  # noqa: E402
from causalmmm.serving import Limits, create_app  # noqa: E402
from causalmmm.simulation import simulate  # noqa: E402

WEEKS = 6


@pytest.fixture(scope="module")
def weekly(tmp_path_factory: pytest.TempPathFactory) -> tuple[served.ServedModel, Panel]:
    panel, _ = simulate("weekly-mmm", seed=0, stores=2, steps=90, channels=3)
    folder = tmp_path_factory.mktemp("served") / "run"
    CausalMMM(seed=0).fit(panel, progress=False).save(folder)
    return served.ServedModel(folder), panel


@pytest.fixture(scope="module")
def client(weekly: tuple[served.ServedModel, Panel]) -> Iterator[TestClient]:
    with TestClient(create_app(weekly[0])) as client:
        yield client


@pytest.fixture(scope="module")
def body(weekly: tuple[served.ServedModel, Panel]) -> dict[str, Any]:
    return {"panel": columns_of(weekly[1].to_frame())}


def columns_of(frame: pd.DataFrame) -> dict[str, list[Any]]:
    days = {name: frame[name].dt.strftime("%Y-%m-%d") for name in frame.select_dtypes("datetime")}
    return {name: column.tolist() for name, column in frame.assign(**days).items()}


def read(answer: Response) -> pd.DataFrame:
    assert answer.status_code == 200, answer.text
    frame = pd.DataFrame(answer.json()["columns"])
    empty = [name for name in frame if frame[name].isna().all()]
    frame[empty] = float("nan")
    return frame


def assert_same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    for name in expected.select_dtypes("datetime"):
        found[name] = pd.to_datetime(found[name])
    pd.testing.assert_frame_equal(found, expected, rtol=1e-9, check_dtype=False)


def test_returns_and_paths_are_those_of_the_model(
    client: TestClient, weekly: tuple[served.ServedModel, Panel], body: dict[str, Any]
) -> None:
    model, panel = weekly
    assert_same(read(client.post("/roi?by=total", json=body)), model.roi(panel, by="total"))
    day = str(panel.data.grid[50])
    expected = model.paths(panel, end=day)
    assert_same(read(client.post(f"/paths?end={day}", json=body)), expected)
    store = str(panel.stores[1])
    groups = {"groups": {"store": [store], "group": ["south"]}}
    assert_same(
        read(client.post("/roi", json=body | groups)), model.roi(panel, by={store: "south"})
    )


def test_a_plan_comes_back_with_its_bounds(
    client: TestClient, weekly: tuple[served.ServedModel, Panel], body: dict[str, Any]
) -> None:
    model, panel = weekly
    bounds = {"channel": ["x0"], "max": [0.5], "unit": ["share"]}
    found = read(client.post(f"/optimize?horizon={WEEKS}", json=body | {"bounds": bounds}))
    best = model.optimize(panel, WEEKS, bounds=pd.DataFrame(bounds))
    assert_same(found, best.plan)
    told = read(
        client.post(f"/optimize?horizon={WEEKS}&answer=bounds", json=body | {"bounds": bounds})
    )
    assert_same(told, best.bounds)
    gain = client.post(f"/optimize?horizon={WEEKS}&answer=gain", json=body | {"bounds": bounds})
    assert_same(read(gain), best.gain_frame())
    plan = columns_of(best.plan)
    again = client.post("/optimize?answer=channels", json=body | {"plan": plan})
    spend = best.plan[list(panel.schema.channels)].to_numpy().sum()
    assert read(again)["current"].iloc[-1] == pytest.approx(spend, rel=1e-5)


def test_other_questions_are_answered_too(
    client: TestClient, weekly: tuple[served.ServedModel, Panel], body: dict[str, Any]
) -> None:
    model, panel = weekly
    assert_same(read(client.post("/graph", json=body)), model.graphs(panel))
    assert_same(read(client.post("/decompose", json=body)), model.decompose(panel))
    about = client.get("/healthz").json()
    assert about["run"] == model.info["run"]
    assert {"/roi", "/paths", "/optimize"} <= set(client.get("/openapi.json").json()["paths"])
    assert "/optimize" in client.get("/docs").text


def test_what_cannot_be_answered_is_refused_with_a_reason(
    client: TestClient, weekly: tuple[served.ServedModel, Panel], body: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for path, more, words in (
        ("/roi?start=soon", {}, "start is a date"),
        ("/optimize?horizon=1000", {}, "horizon is at most 104"),
        ("/optimize?budget=1e15", {}, "upper bounds allow"),
        ("/optimize?budgets=5", {}, "Unknown setting 'budgets'"),
        ("/optimize", {"bounds": {"channel": ["tv"], "max": [1]}}, "no channel 'tv'"),
        ("/roi", {"plan": {"store": ["a"]}}, "Extra inputs"),
    ):
        answer = client.post(path, json=body | more)
        assert answer.status_code == 422, answer.text
        assert words in answer.text, answer.text
    monkeypatch.setattr(served, "MOST_CELLS", 100)
    answer = client.post(f"/optimize?horizon={WEEKS}", json=body)
    assert answer.json()["findings"][0]["code"] == "too-many-cells"
    assert budgets.MOST_CELLS > 100
    monkeypatch.setattr(weekly[0], "roi", lambda *_, **__: time.sleep(0.2))  # on any machine
    with TestClient(create_app(weekly[0], Limits(seconds=0.05))) as hurried:
        answer = hurried.post("/roi", json=body)
    assert answer.status_code == 503
    assert answer.json()["findings"][0]["code"] == "too-slow"


def test_an_exported_file_says_what_to_serve_instead(exported: Path) -> None:
    with TestClient(create_app(OnnxModel(exported, threads=1))) as client:
        for path in ("/roi", "/paths", "/optimize"):
            answer = client.post(path, json={"panel": {"day": ["2024-05-01"]}})
            assert answer.status_code == 501
            assert "Serve the model directory" in answer.json()["findings"][0]["remedy"]


def test_the_file_of_a_regression_answers_for_returns_but_searches_no_budget(
    weekly: tuple[served.ServedModel, Panel], body: dict[str, Any], tmp_path: Path
) -> None:
    model, panel = weekly
    file = OnnxModel(model.model.export_onnx(tmp_path / "model.onnx"), threads=1)
    store = {"store": [str(panel.stores[1])], "group": ["south"]}
    with TestClient(create_app(file)) as client:
        found = read(client.post("/roi", json=body | {"groups": store}))
        expected = model.roi(panel, by={store["store"][0]: "south"})
        pd.testing.assert_frame_equal(found, expected, rtol=1e-4, check_dtype=False)
        assert client.post("/optimize", json=body).status_code == 501
