"""What ``causalmmm serve`` does under load: answers per second, waiting, and memory over time.

    python -m bench.system.load --requests 10000 --out bench/results

A model of N = 13 series is exported and served by one process; clients in another send JSON
requests for ``--stores`` stores each, graphs, forecasts and contributions in turn, every tenth of
them malformed. One row for every tenth of the requests: the memory of a server that leaks grows
from row to row.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from bench.lib import memory
from bench.lib.record import Row, record, table
from causalmmm import CausalMMM, Panel
from causalmmm.simulation import simulate

PATHS = ("/graph", "/predict", "/decompose")


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    options = _parser().parse_args(arguments)
    panel, _ = simulate("airmmm", stores=40, steps=options.steps, seed=1)
    model = CausalMMM(hidden=options.hidden, epochs=2, horizon=7, draws=50, seed=0, device="cpu")
    model.fit(panel, progress=False)
    with tempfile.TemporaryDirectory() as folder:
        path = model.export_onnx(Path(folder) / "model.onnx")
        command = [sys.executable, "-c", "from causalmmm.cli import main; main()"]
        command += ["serve", str(path), "--port", "0", "--threads", str(options.threads)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as server:
            try:
                rows = load(server, bodies(panel, options.stores), options)
            finally:
                server.terminate()
    print(table(rows, ["requests"], [name for name in rows[0] if name != "requests"]))
    record(options.out, "load", rows, vars(options))
    return rows


def bodies(panel: Panel, stores: int) -> tuple[bytes, bytes]:
    """A request that is answered, and one that is refused."""
    frame = panel.select(panel.stores[:stores].tolist()).to_frame()
    date = panel.schema.date
    frame[date] = frame[date].dt.strftime("%Y-%m-%d")
    good = {"panel": {name: frame[name].tolist() for name in frame}}
    bad = {"panel": {**good["panel"], date: ["yesterday"] * len(frame)}}
    return json.dumps(good).encode(), json.dumps(bad).encode()


def load(
    server: subprocess.Popen[bytes], requests: tuple[bytes, bytes], options: argparse.Namespace
) -> list[Row]:
    port = _port(server)
    good, bad = requests

    def ask(number: int) -> tuple[int, float]:
        body = bad if number % 10 == 9 else good
        began = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("POST", PATHS[number % 3], body, {"content-type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status, time.perf_counter() - began

    rows = []
    share = max(1, options.requests // 10)
    with ThreadPoolExecutor(options.clients) as pool:
        for tenth in range(10):
            began = time.perf_counter()
            answers = list(pool.map(ask, range(tenth * share, (tenth + 1) * share)))
            seconds = time.perf_counter() - began
            statuses = [status for status, _ in answers]
            waited = 1e3 * np.array([took for _, took in answers])
            rows.append(
                {
                    "requests": (tenth + 1) * share,
                    "answered": statuses.count(200),
                    "refused": statuses.count(422),
                    "failed": sum(status not in (200, 422) for status in statuses),
                    "requests_per_second": share / seconds,
                    "median_ms": float(np.median(waited)),
                    "p99_ms": float(np.quantile(waited, 0.99)),
                    "server_megabytes": memory.resident_bytes(server.pid) / 1e6,
                }
            )
    return rows


def _port(server: subprocess.Popen[bytes]) -> int:
    """The port that the server reports; its further lines are read and dropped."""
    assert server.stderr is not None
    for line in server.stderr:
        if reported := re.search(rb"http://127\.0\.0\.1:(\d+)", line):
            ThreadPoolExecutor(1).submit(server.stderr.read)
            return int(reported[1])
    raise RuntimeError("the server did not start")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--stores", type=int, default=4, help="in a request")
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of the server")
    parser.add_argument("--steps", type=int, default=180)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    return parser


if __name__ == "__main__":
    main()
