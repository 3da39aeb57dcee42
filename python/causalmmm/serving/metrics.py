"""Prometheus metrics: requests, their durations, and the stores answered.

Counts only; nothing here reads a request or a model's answer.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from causalmmm.serving.served import Served


class Metrics:
    """The metrics of one application, in a registry of its own."""

    def __init__(self, model: Served) -> None:
        self.registry = CollectorRegistry()
        about = {"version": str(model.info["version"]), "run": str(model.info["run"])}
        Info("causalmmm_model", "The model that is served.", registry=self.registry).info(about)
        self.requests = Counter(
            "causalmmm_requests", "Requests by path and status.", ["path", "status"],
            registry=self.registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "causalmmm_request_seconds", "Time until the response is sent.", ["path"],
            registry=self.registry,
        )  # fmt: skip
        self.running = Gauge(
            "causalmmm_requests_running", "Requests in progress.", registry=self.registry
        )
        self.stores = Counter(
            "causalmmm_stores", "Stores in answered requests.", ["path"], registry=self.registry
        )


class Observed:
    """Middleware that counts every request; all unknown paths count as ``other``."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: Collection[str]) -> None:
        self.app, self.metrics, self.paths = app, metrics, frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self.paths else "other"
        status = 500
        began = time.perf_counter()

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            with self.metrics.running.track_inprogress():
                await self.app(scope, receive, sent)
        finally:
            self.metrics.requests.labels(path, status).inc()
            self.metrics.seconds.labels(path).observe(time.perf_counter() - began)
