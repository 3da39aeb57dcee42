"""Requests generated from a server's own description, sent to it under a memory limit.

Bodies and parameters follow the schemas of ``/openapi.json`` or break them; others are a sound
panel with something odd in it, a body that is cut off, or one of the sizes that limits are about.
"""

from __future__ import annotations

import http.client
import json
import random
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

_CLI = "from causalmmm.cli import main; main()"
ODD = (None, "", "x", -1.0, 0.0, 1e30, -1e20, 1e-40, float("inf"), float("nan"), "1.234,5", True)
_JSON = "application/json"
_REFUSALS = (501, 503)  # a question that the served file has no answer to; no place left
_TYPES = (_JSON,) * 8 + ("text/plain", "application/vnd.apache.arrow.stream", "")
Schema = dict[str, Any]


@dataclass(frozen=True)
class Server:
    """A running ``causalmmm serve``: its process, port, description, and a panel that it takes."""

    process: subprocess.Popen[bytes]
    port: int
    api: Schema
    panel: dict[str, list[Any]]

    def peak_mb(self) -> float:
        """Largest resident memory so far, in MiB; infinite if the server has ended."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return float("inf")
        peaks = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
        return int(peaks[0]) / 1024 if peaks and self.process.poll() is None else float("inf")


@contextmanager
def serving(model: Path, panel: Path, limit_mb: int) -> Iterator[Server]:
    """A server that may not hold more than ``limit_mb`` MiB of data."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", _CLI, "serve", str(model), "--port", str(port), "--quiet"]

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (limit_mb * 2**20, limit_mb * 2**20))

    frame = pd.read_csv(panel)
    sound = {str(name): frame[name].tolist() for name in frame}
    with subprocess.Popen(command, preexec_fn=limited) as process:
        try:
            yield Server(process, port, _described(process, port), sound)
        finally:
            process.kill()


def _described(process: subprocess.Popen[bytes], port: int) -> Schema:
    for _ in range(600):
        if process.poll() is not None:
            raise RuntimeError("the server did not start")
        try:
            status, body = _ask(port, "GET", "/openapi.json", b"", {})
        except OSError:
            time.sleep(0.2)
            continue
        if status == 200:
            api: Schema = json.loads(body)
            return api
    raise RuntimeError("the server does not answer")


def requests(server: Server, number: int, rng: random.Random) -> list[Callable[[], str]]:
    """So many requests; each says how it ended."""
    return [lambda: request(server, rng) for _ in range(number)]


def request(server: Server, rng: random.Random) -> str:
    """One request: "answered", "refused" with a finding, "silent", "tracebacks" or "lost"."""
    path, method, about = rng.choice(
        [(p, m, a) for p, of in server.api["paths"].items() for m, a in of.items()]
    )
    draw = _Draw(server, rng)
    body, kind = b"", rng.choice(_TYPES)
    if "requestBody" in about:
        content = about["requestBody"]["content"]
        body = draw.body(content[_JSON]["schema"])
    query = draw.query(about.get("parameters", []))
    headers = {"content-type": kind} if kind else {}
    try:
        status, answer = _ask(server.port, method.upper(), path + query, body, headers)
    except OSError as error:
        if len(body) > 10_000_000:  # refused by its length, before all of it was sent
            return "refused"
        print(f"{method} {path}{query}: {error}", file=sys.stderr)
        return "lost"
    if status >= 500 and status not in _REFUSALS:
        print(f"{method} {path}{query}: {status} {answer[:300]!r}", file=sys.stderr)
        return "tracebacks"
    if status != 200:
        return "refused" if _explained(answer) else "silent"
    if method == "post":
        columns = json.loads(answer)["columns"]
        if any(cell is None for column in columns.values() for cell in column):
            return "silent"
    return "answered"


def _explained(answer: bytes) -> bool:
    try:
        told = json.loads(answer)
    except ValueError:
        return False
    return bool(told.get("findings") or told.get("detail") or told.get("error"))


def _ask(
    port: int, method: str, path: str, body: bytes, headers: dict[str, str]
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body or None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except http.client.HTTPException as error:
        raise ConnectionError(str(error) or type(error).__name__) from None
    finally:
        connection.close()


@dataclass(frozen=True)
class _Draw:
    """Values that follow a schema, or do not."""

    server: Server
    rng: random.Random

    def body(self, schema: Schema) -> bytes:
        rng = self.rng
        match rng.randrange(20):
            case 0:
                value: Any = {"panel": self.large()}
            case 1 | 2 | 3 | 4 | 5 | 6 | 7:
                value = self.value(schema)
            case _:
                value = {"panel": self.altered()}
        text = json.dumps(value).encode()
        return text[: rng.randrange(len(text))] if rng.random() < 0.05 else text

    def altered(self) -> dict[str, list[Any]]:
        """A sound panel with up to three odd cells, columns or names."""
        rng = self.rng
        columns = {name: list(cells) for name, cells in self.server.panel.items()}
        for _ in range(rng.randrange(4)):
            name = rng.choice(list(columns))
            cells = columns[name]
            match rng.randrange(4):
                case 0 if cells:
                    cells[rng.randrange(len(cells))] = rng.choice(ODD)
                case 1:
                    columns[name] = cells[: rng.randrange(len(cells) + 1)]
                case 2:
                    columns[rng.choice(("x" * rng.randrange(1, 400), "y"))] = columns.pop(name)
                case _:
                    columns[name] = [rng.choice(ODD)] * len(cells)
        return columns

    def large(self) -> dict[str, list[Any]]:
        """What once stopped the server: many columns, long names, many rows, many stores."""
        rng, columns = self.rng, dict(self.server.panel)
        first = next(iter(columns))
        rows = len(columns[first])
        match rng.randrange(5):
            case 0:
                return {f"c{k}": [1] for k in range(rng.choice((900, 1_100, 60_000)))}
            case 1:
                return columns | {first: ["n" * rng.choice((199, 201, 300_000))] * rows}
            case 2:
                return columns | {"n" * rng.choice((199, 201, 3_000_000)): [1] * rows}
            case 3:
                return {name: cells * 40 for name, cells in columns.items()}
            case _:
                return columns | {first: [f"s{k}" for k in range(rows)]}

    def query(self, parameters: list[Schema]) -> str:
        parts = []
        for parameter in parameters:
            if self.rng.random() < 0.5:
                value = self.value(parameter["schema"])
                values = value if isinstance(value, list) else [value]
                parts += [f"{parameter['name']}={quote(str(v))}" for v in values[:20]]
        return f"?{'&'.join(parts)}" if parts else ""

    def value(self, schema: Schema, depth: int = 0) -> Any:
        """A value of the schema, or one time in ten another one."""
        rng = self.rng
        if "$ref" in schema:
            return self.value(
                self.server.api["components"]["schemas"][schema["$ref"].split("/")[-1]]
            )
        if rng.random() < 0.1 or depth > 4:
            return rng.choice((*ODD, [], {}, [[]], "2024-13-01", 2**70))
        if "anyOf" in schema:
            return self.value(rng.choice(schema["anyOf"]), depth + 1)
        match schema.get("type"):
            case "object":
                known = {
                    name: self.value(part, depth + 1)
                    for name, part in schema.get("properties", {}).items()
                    if name in schema.get("required", ()) or rng.random() < 0.5
                }
                further = schema.get("additionalProperties")
                if isinstance(further, dict):
                    names = [*self.server.panel, "x", "", "\0", "=1+1"]
                    chosen = rng.sample(names, rng.randrange(1, len(names)))
                    known |= {name: self.value(further, depth + 1) for name in chosen}
                return known
            case "array":
                number = rng.randrange(schema.get("maxItems", 60) + 2)
                return [self.value(schema.get("items", {}), depth + 1) for _ in range(number)]
            case "number" | "integer":
                least = schema.get("minimum", -10)
                drawn = rng.choice((least, rng.uniform(least, schema.get("maximum", 1e3)), 1e12))
                return int(drawn) if schema["type"] == "integer" else drawn
            case "string":
                return rng.choice(("2024-01-01", "s0", "x" * rng.randrange(300), "\u202e", "NaN"))
            case "boolean":
                return rng.random() < 0.5
            case "null":
                return None
        return rng.choice(ODD)
