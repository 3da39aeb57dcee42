"""The server gives the answers of the model; the rest it refuses with reasons, never with a 500."""

from __future__ import annotations

import contextlib
import decimal
import http.client
import json
import math
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

fastapi = pytest.importorskip("fastapi", reason="needs the optional extra serve")
pytest.importorskip("prometheus_client", reason="needs the optional extra serve")

from fastapi.testclient import TestClient  # noqa: E402
from httpx2 import Response  # noqa: E402
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from causalmmm import Panel  # noqa: E402
from causalmmm.runtime import OnnxModel  # noqa: E402
from causalmmm.serving import LOOPBACK, Limits, create_app, is_loopback  # noqa: E402
from causalmmm.serving.bodies import ARROW  # noqa: E402

JSON_HEADER = {"content-type": "application/json"}
QUESTIONS = {"/graph": "graphs", "/predict": "predict", "/decompose": "decompose"}


@pytest.fixture(scope="module")
def model(exported: Path) -> OnnxModel:
    return OnnxModel(exported, threads=1)


@pytest.fixture(scope="module")
def client(model: OnnxModel) -> Iterator[TestClient]:
    with TestClient(create_app(model)) as client:
        yield client


def columns_of(panel: Panel | pd.DataFrame) -> dict[str, list[Any]]:
    frame = panel.to_frame() if isinstance(panel, Panel) else panel
    frame = frame.assign(day=frame["day"].dt.strftime("%Y-%m-%d"))
    return {name: frame[name].tolist() for name in frame}


def stream_of(table: Panel | pd.DataFrame | pa.Table, **options: Any) -> bytes:
    frame = table.to_frame() if isinstance(table, Panel) else table
    given = frame if isinstance(frame, pa.Table) else pa.Table.from_pandas(frame)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, given.schema, **options) as stream:
        stream.write_table(given)
    return sink.getvalue().to_pybytes()


def read(answer: Response) -> pd.DataFrame:
    assert answer.status_code == 200, answer.text
    if answer.headers["content-type"] == ARROW:
        return pa.ipc.open_stream(answer.content).read_all().to_pandas()
    frame = pd.DataFrame(answer.json()["columns"])
    return frame.assign(date=pd.to_datetime(frame["date"])) if "date" in frame else frame


def assert_same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(found, expected, rtol=1e-4, check_dtype=False)


def codes(answer: Response, status: int) -> set[str]:
    assert answer.status_code == status, answer.text
    return {found["code"] for found in answer.json()["findings"]}


@pytest.mark.parametrize("path", QUESTIONS)
def test_answers_are_the_models_in_json_and_in_arrow(
    client: TestClient, model: OnnxModel, many: Panel, path: str
) -> None:
    expected = getattr(model, QUESTIONS[path])(many)
    arrow = {"content-type": ARROW, "accept": ARROW}
    assert_same(read(client.post(path, json={"panel": columns_of(many)})), expected)
    assert_same(read(client.post(path, content=stream_of(many), headers=arrow)), expected)


def test_settings_are_those_of_the_model(
    client: TestClient, model: OnnxModel, panel: Panel
) -> None:
    body = {"panel": columns_of(panel)}
    found = read(client.post("/predict?horizon=5&level=50&level=90", json=body))
    assert_same(found, model.predict(panel, 5, level=[50, 90]))
    edges = model.graphs(panel)
    half = float(edges["probability"].median())
    found = read(client.post(f"/graph?threshold={half}", json=body))
    assert_same(found, model.graphs(panel, threshold=half))
    assert len(found) < len(edges)


def test_a_plan_counts_in_json_and_as_a_second_arrow_stream(
    client: TestClient, model: OnnxModel, panel: Panel
) -> None:
    days = panel.data.grid[-1] + np.arange(1, 5)
    plan = pd.DataFrame(
        {
            "shop": np.repeat(panel.stores, 4),
            "day": np.tile(days.astype("datetime64[ns]"), panel.n_stores),
            "tv": np.tile([0.0, 90.0, 30.0, 10.0], panel.n_stores),
        }
    )
    expected = model.predict(panel, plan=plan)
    body = {"panel": columns_of(panel), "plan": columns_of(plan)}
    assert_same(read(client.post("/predict", json=body)), expected)
    streams = stream_of(panel) + stream_of(plan)
    found = client.post("/predict", content=streams, headers={"content-type": ARROW})
    assert_same(read(found), expected)
    assert "malformed-json" in codes(client.post("/graph", json=body), 422)
    found = client.post("/graph", content=streams, headers={"content-type": ARROW})
    assert "malformed-arrow" in codes(found, 422)


def test_a_bad_panel_is_refused_with_the_findings_of_validation(
    client: TestClient, model: OnnxModel, panel: Panel
) -> None:
    bad = panel.to_frame(["1", "2"]).assign(tv=-1.0)
    with pytest.raises(ValueError, match="tv") as refused:
        model.predict(bad)
    answer = client.post("/predict", json={"panel": columns_of(bad)})
    expected = getattr(refused.value, "report")  # noqa: B009
    assert codes(answer, 422) == expected.codes
    assert answer.json()["findings"][0]["message"] == expected.findings[0].message
    answer = client.post("/graph", json={"panel": columns_of(panel.tail(9))})
    assert codes(answer, 422) == {"history-too-short"}


def test_settings_that_do_not_suit_are_refused(client: TestClient, panel: Panel) -> None:
    body = {"panel": columns_of(panel)}
    for query in ("horizon=0", "horizon=11", "horizon=x", "level=120", "level=nan"):
        answer = client.post(f"/predict?{query}", json=body)
        assert codes(answer, 422) <= {"bad-setting", "cannot-be-answered"}
    assert codes(client.post("/graph?threshold=2", json=body), 422) == {"bad-setting"}
    for path in ("/predict?horizn=3", "/graph?level=80", "/decompose?x=1"):
        assert codes(client.post(path, json=body), 422) == {"unknown-setting"}


def test_limits_hold(model: OnnxModel, panel: Panel) -> None:
    few = panel.select(["1", "2", "3"])
    size = len(json.dumps({"panel": columns_of(few)}))

    def answer(limits: Limits, **given: Any) -> Response:
        return TestClient(create_app(model, limits)).post("/graph", **given)

    body = {"json": {"panel": columns_of(few)}}
    assert answer(Limits(), **body).status_code == 200
    assert codes(answer(Limits(columns=6), **body), 413) == {"too-many-columns"}
    assert codes(answer(Limits(values=800), **body), 413) == {"too-many-values"}
    assert codes(answer(Limits(steps=39), **body), 413) == {"too-many-steps"}
    stream = {"content": stream_of(few), "headers": {"content-type": ARROW}}
    assert codes(answer(Limits(values=800), **stream), 413) == {"too-many-values"}
    assert codes(answer(Limits(columns=6), **stream), 413) == {"too-many-columns"}
    assert codes(answer(Limits(stores=2), **body), 413) == {"too-many-stores"}
    assert codes(answer(Limits(bytes=size // 2), **body), 413) == {"too-large"}
    assert codes(answer(Limits(seconds=1e-9), **body), 503) == {"too-slow"}

    def unannounced() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 1000

    unsized = answer(Limits(bytes=5000), content=unannounced(), headers=JSON_HEADER)
    assert codes(unsized, 413) == {"too-large"}


@pytest.mark.parametrize("kind", ["json", "arrow"])
def test_wide_tables_and_long_names_are_refused_before_they_cost_anything(
    client: TestClient, panel: Panel, kind: str
) -> None:
    """60,000 columns, and names of 300,000 letters, in a thirtieth of the bytes allowed."""
    few = panel.to_frame(["1"])

    def said(frame: pd.DataFrame) -> set[str]:
        if kind == "arrow":
            given = {"content": stream_of(frame), "headers": {"content-type": ARROW}}
            return codes(client.post("/predict", **given), 413)
        return codes(client.post("/predict", json={"panel": columns_of(frame)}), 413)

    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    wide = pd.DataFrame(0, index=few.index[:1], columns=[f"c{k}" for k in range(60_000)])
    assert said(pd.concat([few[:1], wide], axis=1)) == {"too-many-columns"}
    assert said(few.assign(shop="x" * 300_000)) == {"too-many-letters"}
    assert said(few.rename(columns={"tv": "x" * 300_000})) == {"too-many-letters"}
    assert time.monotonic() - began < 60  # quadratic work takes longer on any machine
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KiB


def test_json_needs_its_content_type(client: TestClient, panel: Panel) -> None:
    """A page elsewhere can have a browser post text and forms without asking, but not JSON."""
    body = json.dumps({"panel": columns_of(panel.select(["1"]))}).encode()
    for headers in ({}, {"content-type": "text/plain"}):
        assert codes(client.post("/graph", content=body, headers=headers), 415) == {
            "unknown-format"
        }
    given = {"content-type": "application/json; charset=utf-8"}
    assert client.post("/graph", content=body, headers=given).status_code == 200


def test_a_server_answers_to_its_own_names_only(model: OnnxModel) -> None:
    client = TestClient(create_app(model, hosts=LOOPBACK))
    for host in ("localhost", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST"):
        assert client.get("/healthz", headers={"host": host}).status_code == 200
    for host in ("evil.example", "127.0.0.1.evil.example:8000", "localhost.evil", ""):
        answer = client.get("/healthz", headers={"host": host})
        assert codes(answer, 421) == {"wrong-host"}
    assert is_loopback("127.0.0.5")
    assert not is_loopback("0.0.0.0")


def test_the_description_loads_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/docs").text
    for path in QUESTIONS:
        assert f"POST {path}" in page
    assert "too long" in page
    assert not re.search(r"(src|href)=['\"]?(https?:)?//", page)


def test_a_late_computation_is_ended_and_one_that_nobody_waits_for_too(
    model: OnnxModel, many: Panel, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches, run = [], model.run

    def slow(*given: Any) -> Any:
        batches.append(given)
        time.sleep(0.3)
        return run(*given)

    monkeypatch.setattr(model, "run", slow)
    body = {"panel": columns_of(many)}  # 120 stores: 8 batches
    with TestClient(create_app(model, Limits(seconds=1.0))) as client:
        assert codes(client.post("/graph", json=body), 503) == {"too-slow"}
        assert 1 <= len(batches) < 8
        assert client.get("/healthz").json()["running"] == 0


def test_health_says_when_a_computation_is_stuck(
    model: OnnxModel, panel: Panel, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, done, graphs = threading.Event(), threading.Event(), model.graphs

    def hang(some: Panel, *, threshold: float) -> pd.DataFrame:
        begun.set()
        assert done.wait(60)
        return graphs(some, threshold=threshold)

    monkeypatch.setattr(model, "graphs", hang)
    body = {"panel": columns_of(panel.select(["1"]))}
    app = create_app(model, Limits(seconds=0.5, waiting=0))  # a busy machine reads the body in that
    with TestClient(app) as client, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.post, "/graph", json=body)
        assert begun.wait(60)
        for _ in range(100):  # it counts as stuck after twice its limit
            health = client.get("/healthz")
            if health.status_code == 503:
                break
            time.sleep(0.1)
        assert (health.status_code, health.json()["status"]) == (503, "stuck")
        done.set()
        assert codes(asked.result(), 503) == {"too-slow"}
        assert client.get("/healthz").json()["status"] == "ok"


def test_those_who_hang_up_are_not_computed_and_slow_bodies_hold_no_place(
    exported: Path, panel: Panel
) -> None:
    body = json.dumps({"panel": columns_of(panel)}).encode()
    with running(exported, "--max-waiting", "0") as (_, port):
        slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]
        for connection in slow:
            connection.sendall(head_of(body) + body[:100])
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", port)) as gone:
                gone.sendall(head_of(body) + body)
        client = http.client.HTTPConnection("127.0.0.1", port)
        for _ in range(100):  # until the last of them has been given up
            client.request("GET", "/healthz")
            if json.loads(client.getresponse().read())["running"] == 0:
                break
            time.sleep(0.1)
        client.request("POST", "/graph", body, headers=JSON_HEADER)
        assert client.getresponse().status == 200
        for connection in (client, *slow):
            connection.close()


def test_no_more_requests_wait_than_may(
    model: OnnxModel, panel: Panel, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, done, graphs = threading.Event(), threading.Event(), model.graphs

    def slow(some: Panel, *, threshold: float) -> pd.DataFrame:
        begun.set()
        assert done.wait(60)
        return graphs(some, threshold=threshold)

    monkeypatch.setattr(model, "graphs", slow)
    body = {"panel": columns_of(panel.select(["1"]))}
    app = create_app(model, Limits(waiting=1), at_once=1)
    with TestClient(app) as client, ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(client.post, "/graph", json=body)]
        assert begun.wait(60)
        asked.append(pool.submit(client.post, "/graph", json=body))
        while "causalmmm_requests_running 3.0" not in client.get("/metrics").text:
            time.sleep(0.01)  # the third is this one
        answer = client.post("/decompose", json=body)
        assert codes(answer, 503) == {"busy"}
        assert int(answer.headers["retry-after"]) > 0
        assert client.get("/healthz").json()["status"] == "busy"
        done.set()
        assert [found.result().status_code for found in asked] == [200, 200]
        assert client.post("/decompose", json=body).status_code == 200


def test_arrow_that_would_unfold_or_is_torn_is_refused(client: TestClient, panel: Panel) -> None:
    def refused(content: bytes) -> set[str]:
        answer = client.post("/graph", content=content, headers={"content-type": ARROW})
        assert answer.status_code in (413, 415, 422), answer.text
        return {found["code"] for found in answer.json()["findings"]}

    whole = stream_of(panel)
    assert read(client.post("/graph", content=whole, headers={"content-type": ARROW})).size
    zeros = pa.table({"shop": pa.array(np.zeros(1_000_000))})
    packed = stream_of(zeros, options=pa.ipc.IpcWriteOptions(compression="zstd"))
    assert len(packed) < 20_000
    assert refused(packed) == {"compressed-arrow"}
    text = pa.table({"shop": pa.array(["a" * 1_000_000]).dictionary_encode()})
    packed = stream_of(text, options=pa.ipc.IpcWriteOptions(compression="zstd"))
    assert refused(packed) == {"compressed-arrow"}
    assert refused(stream_of(pa.table({"shop": pa.nulls(10_000_000)}))) == {"malformed-arrow"}
    assert refused(stream_of(pa.table({"shop": [[1], [2]]}))) == {"unknown-type"}
    for end in (0, 3, 8, 300, len(whole) // 2, len(whole) - 400):
        assert refused(whole[:end])
    rng = np.random.default_rng(0)
    for _ in range(150):  # flipped bytes: refused, or harmless
        torn = bytearray(whole)
        for place in rng.integers(0, min(len(torn), 4000), 3):
            torn[place] = rng.integers(256)
        answer = client.post("/graph", content=bytes(torn), headers={"content-type": ARROW})
        assert answer.status_code in (200, 413, 415, 422), answer.text


def odd_columns(rows: int) -> Iterator[pa.Array]:
    """Plain columns of every type at the ends of what they can hold."""
    for kind in (
        pa.int64(),
        pa.date32(),
        pa.date64(),
        pa.timestamp("s"),
        pa.timestamp("ns", "UTC"),
    ):
        for value in (0, -1, 2**31 - 1, 2**31) if kind == pa.date32() else (0, 2**62, -(2**62)):
            with contextlib.suppress(pa.ArrowInvalid, OverflowError):
                yield pa.array([value] * rows, kind)
    for value in (math.nan, math.inf, 1e308, 5e-324, -1e30):
        yield pa.array([value] * rows, pa.float64())
    yield pa.array([decimal.Decimal("1e30")] * rows, pa.decimal128(38, 2))
    yield pa.array(["\ud7ff\0"] * rows, pa.string_view())
    yield pa.array(["x", None] * rows)[:rows].dictionary_encode()
    yield pa.array([1, None] * rows)[:rows].dictionary_encode()
    yield pa.array([True] * rows)
    yield pa.nulls(rows)


def test_no_type_of_arrow_column_is_a_500(client: TestClient, panel: Panel) -> None:
    table = pa.Table.from_pandas(panel.to_frame(["1", "2"]), preserve_index=False)
    seen = set()
    for place, name in enumerate(table.column_names):
        for column in odd_columns(table.num_rows):
            odd = stream_of(table.set_column(place, name, column))
            answer = client.post("/predict", content=odd, headers={"content-type": ARROW})
            assert answer.status_code in (200, 422), (name, column.type, answer.text)
            seen.add(answer.status_code)
    assert seen == {200, 422}


def head_of(body: bytes, host: str = "localhost") -> bytes:
    """The head of a request to /graph, as a browser's or client's socket sends it."""
    lines = [f"POST /graph HTTP/1.1\r\nHost: {host}", "Content-Type: application/json"]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode()


@contextlib.contextmanager
def running(exported: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The process of ``causalmmm serve`` and the port that it has taken."""
    command = [str(Path(sys.executable).with_name("causalmmm")), "serve", str(exported)]
    command += ["--port", "0", "--threads", "1", *more]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as server:
        try:
            assert server.stderr is not None
            said = next(line for line in server.stderr if "running on" in line)
            address = re.search(r"http://127\.0\.0\.1:(\d+)", said)
            assert address is not None, said
            yield server, int(address[1])
        finally:
            server.terminate()


def test_memory_is_steady_over_many_requests(exported: Path, panel: Panel) -> None:
    body = json.dumps({"panel": columns_of(panel)})
    bad = json.dumps({"panel": columns_of(panel) | {"tv": [-1.0] * 24 * 40}})
    statuses = []
    with running(exported) as (server, port):
        connection = http.client.HTTPConnection("127.0.0.1", port)

        def memory_after(requests: int) -> int:
            for number in range(requests):
                given = bad if number % 10 == 9 else body
                connection.request("POST", list(QUESTIONS)[number % 3], given, headers=JSON_HEADER)
                answer = connection.getresponse()
                answer.read()
                statuses.append(answer.status)
            pages = Path(f"/proc/{server.pid}/statm").read_text().split()[1]
            return int(pages) * os.sysconf("SC_PAGESIZE")

        settled = memory_after(480)  # until then the allocator's arenas fill
        assert memory_after(240) - settled < 240 * 10_000  # a body alone has 70,000 bytes
        connection.close()
    assert (statuses.count(200), statuses.count(422)) == (648, 72)


def test_a_request_that_has_begun_is_answered_after_sigterm(exported: Path, panel: Panel) -> None:
    body = json.dumps({"panel": columns_of(panel)}).encode()
    with running(exported) as (server, port):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(head_of(body) + body[:1000])
            time.sleep(0.3)  # the server must have read the head
            server.send_signal(signal.SIGTERM)
            assert server.stderr is not None
            next(line for line in server.stderr if "Shutting down" in line)
            connection.sendall(body[1000:])
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["columns"]["store"]
        assert server.wait(timeout=30) in (0, -signal.SIGTERM)


def test_what_there_is_not_is_said_in_the_same_form(client: TestClient, panel: Panel) -> None:
    assert codes(client.get("/nothing"), 404) == {"no-such-question"}
    assert codes(client.get("/graph"), 405) == {"no-such-question"}
    assert codes(client.post("/optimise", json={}), 404) == {"no-such-question"}
    answer = client.post("/graph", content=b"a,b\n", headers={"content-type": "text/csv"})
    assert codes(answer, 415) == {"unknown-format"}
    uneven = columns_of(panel) | {"tv": [1.0]}
    assert codes(client.post("/graph", json={"panel": uneven}), 422) == {"uneven-columns"}
    mixed = columns_of(panel)
    mixed["tv"][3] = "much"
    assert codes(client.post("/graph", json={"panel": mixed}), 422) == {"mixed-column"}


def test_health_metrics_and_description(model: OnnxModel, panel: Panel) -> None:
    client = TestClient(create_app(model))
    client.post("/graph", json={"panel": columns_of(panel)})
    client.post("/graph", content=b"{", headers=JSON_HEADER)
    client.get("/nothing")
    health = client.get("/healthz").json()
    assert (health["status"], health["nodes"]) == ("ok", model.nodes)
    assert health["min_steps"] == model.min_steps
    said = client.get("/metrics").text
    assert 'causalmmm_requests_total{path="/graph",status="200"} 1.0' in said
    assert 'causalmmm_requests_total{path="/graph",status="422"} 1.0' in said
    assert 'causalmmm_requests_total{path="other",status="404"} 1.0' in said
    assert f'causalmmm_stores_total{{path="/graph"}} {panel.n_stores:.1f}' in said
    assert set(client.get("/openapi.json").json()["paths"]) >= {*QUESTIONS, "/healthz"}
    assert client.get("/docs").status_code == 200


def test_histories_beyond_single_precision_are_refused(client: TestClient, panel: Panel) -> None:
    """1e15 is answered with finite numbers; 1e16 and 1e30 are refused with column and store."""
    for size, status in ((1e15, 200), (1e16, 422), (1e30, 422)):
        frame = panel.to_frame(["1", "2"])
        frame.loc[frame.index[3], "sales"] = size
        said = client.post("/predict", json={"panel": columns_of(frame)})
        assert said.status_code == status
        if status == 422:
            assert "huge-value" in codes(said, 422)
            assert "Target 'sales' is beyond 1e+15 in 1 row of store '1'" in said.text
        else:
            assert np.isfinite(read(said)["upper_95"]).all()


# ---- malformed requests -----------------------------------------------------------------------

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["2024-02-30", "0001-01-01", "9999-12-31", "1e400", "NaN", "\x00", "01/02/03"]),
)
JSONS = st.recursive(
    ODD,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)


@st.composite
def described(draw: st.DrawFn, schema: dict[str, Any], whole: dict[str, Any]) -> Any:
    """A value for a schema of the OpenAPI document, which it follows most of the time."""
    if draw(st.integers(0, 9)) == 0:
        return draw(JSONS)
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return draw(described(whole["components"]["schemas"][name], whole))
    if "anyOf" in schema:
        return draw(described(draw(st.sampled_from(schema["anyOf"])), whole))
    match schema.get("type"):
        case "object" if "properties" in schema:
            return {k: draw(described(v, whole)) for k, v in schema["properties"].items()}
        case "object":
            names = st.sampled_from(["shop", "day", "tv", "web", "sales", "price", "size", "x"])
            inner = described(schema.get("additionalProperties") or {}, whole)
            return draw(st.dictionaries(names, inner, max_size=7))
        case "array":
            return draw(st.lists(described(schema["items"], whole), max_size=5))
        case "string":
            return draw(st.text(max_size=10))
        case "number" | "integer":
            return draw(st.integers(-5, 20) | st.floats(allow_nan=False, width=32))
        case "null":
            return None
    return draw(ODD)


QUIET = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


def ask(client: TestClient, path: str, body: bytes, query: dict[str, Any]) -> None:
    answer = client.post(
        path, content=body, params=query, headers={"content-type": "application/json"}
    )
    assert answer.status_code in (200, 413, 415, 422), answer.text
    if answer.status_code != 200:
        assert answer.json()["findings"]


@pytest.mark.parametrize("path", QUESTIONS)
def test_requests_drawn_from_the_description_are_never_a_500(client: TestClient, path: str) -> None:
    whole = client.get("/openapi.json").json()
    question = whole["paths"][path]["post"]
    body = question["requestBody"]["content"]["application/json"]["schema"]
    query = {found["name"]: found["schema"] for found in question.get("parameters", [])}

    @QUIET
    @given(st.data())
    def check(data: st.DataObject) -> None:
        content = json.dumps(data.draw(described(body, whole))).encode()
        asked = {
            k: str(data.draw(described(v, whole)))
            for k, v in query.items()
            if data.draw(st.booleans())
        }
        ask(client, path, content, asked)

    check()


@pytest.mark.parametrize("path", QUESTIONS)
def test_a_good_request_with_something_wrong_is_never_a_500(
    client: TestClient, panel: Panel, path: str
) -> None:
    good = columns_of(panel.select(["1", "2"]))

    @QUIET
    @given(st.data())
    def check(data: st.DataObject) -> None:
        columns = {name: list(cells) for name, cells in good.items()}
        for name in data.draw(st.lists(st.sampled_from(list(good)), min_size=1, max_size=2)):
            cell, rows = data.draw(ODD), len(good[name])
            match data.draw(st.sampled_from(["cell", "column", "gone"])):
                case "cell":
                    columns[name] = list(good[name])
                    columns[name][data.draw(st.integers(0, rows - 1))] = cell
                case "column":
                    columns[name] = [cell] * rows
                case "gone":
                    columns.pop(name, None)
        rows = data.draw(st.sampled_from([0, 1, 40, 41, 80, 80, 80]))
        columns = {name: cells[:rows] for name, cells in columns.items()}
        ask(client, path, json.dumps({"panel": columns}).encode(), {})

    check()


def test_serving_needs_no_torch_and_says_what_it_needs(exported: Path) -> None:
    code = """
import sys
sys.modules["torch"] = sys.modules["triton"] = None
from causalmmm.serving import create_app
from causalmmm.runtime import OnnxModel
print(create_app(OnnxModel(sys.argv[1])).title)
sys.modules["uvicorn"] = None
from causalmmm.cli import main
sys.argv = ["causalmmm", "serve", sys.argv[1]]
main()
"""
    command = [sys.executable, "-P", "-c", code, str(exported)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("causalmmm\n", 2), done.stderr
    assert "pip install 'causalmmm[serve]'" in done.stderr
