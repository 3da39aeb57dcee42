"""The HTTP interface: which paths there are, and how a request becomes a question to the model.

Formats live in ``bodies``, costs in ``limits``, counts in ``metrics``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import anyio
import anyio.to_thread
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from causalmmm.data.panel import Panel
from causalmmm.findings import Finding, RefusedInput
from causalmmm.runtime import OnnxModel
from causalmmm.serving.bodies import (
    ARROW,
    JSON,
    AnswerBody,
    PanelBody,
    PlannedBody,
    read_tables,
    write_table,
)
from causalmmm.serving.limits import (
    Deadline,
    Limits,
    Refusal,
    Room,
    check_stores,
    read_body,
    refusal,
)
from causalmmm.serving.metrics import Metrics, Observed

_STORES_AT_ONCE = 64  # between two looks at the clock
_PATHS = ("/graph", "/predict", "/decompose", "/healthz", "/metrics")
# A question about some stores: of the panel, and of the plan for them.
Ask = Callable[[Panel, pa.Table | None], pd.DataFrame]


class Problem(BaseModel):
    """Why a request was refused; findings as those of ``causalmmm validate``."""

    error: str
    findings: list[dict[str, Any]]


class About(BaseModel):
    """The model that answers."""

    status: str
    version: str
    run: str
    nodes: list[str]
    frequency: str
    horizon: int
    max_horizon: int
    min_steps: int


def create_app(model: OnnxModel, limits: Limits | None = None, *, at_once: int = 1) -> FastAPI:
    """The application.

    model    opened with ``threads=1`` it takes one core per request.
    at_once  requests computed side by side; others wait, within their time and within ``limits``.
    """
    app = FastAPI(
        title="causalmmm",
        description=f"What drives what, and what comes next: {', '.join(model.nodes)}.",
        version=str(model.info["version"]),
    )
    metrics = Metrics(model)
    app.add_middleware(Observed, metrics=metrics, paths=_PATHS)
    for refused, answer in _REFUSALS.items():
        app.add_exception_handler(refused, answer)
    service = _Service(model, limits or Limits(), metrics, at_once)
    _add_questions(app, service)
    _add_facts(app, service)
    return app


def _add_questions(app: FastAPI, service: _Service) -> None:
    model = service.model

    @app.post("/graph", **_documented(PanelBody))
    async def graph(
        request: Request, threshold: Annotated[float, Query(ge=0, le=1)] = 0.0
    ) -> Response:
        """Edges of every store with at least the probability ``threshold``.

        Columns: store, source, target, probability, effect, lower, upper.
        """
        _refuse_unknown(request, ("threshold",))
        return await service.answer(
            request, lambda some, _: model.graphs(some, threshold=threshold)
        )

    @app.post("/predict", **_documented(PlannedBody))
    async def predict(
        request: Request,
        horizon: Annotated[int | None, Query(ge=1)] = None,
        level: Annotated[list[float] | None, Query(max_length=8)] = None,
    ) -> Response:
        """The next steps of every series of every store, with central intervals in percent.

        Columns: store, date, series, mean, and lower_80, upper_80 for each level. A plan is given
        in the JSON body, or as a second Arrow stream after the first.
        """
        _refuse_unknown(request, ("horizon", "level"))
        levels: Sequence[Any] = (80, 95) if level is None else level

        def ask(some: Panel, plan: pa.Table | None) -> pd.DataFrame:
            return model.predict(some, horizon, plan, levels)

        return await service.answer(request, ask, planned=True)

    @app.post("/decompose", **_documented(PanelBody))
    async def decompose(request: Request) -> Response:
        """What the target is made of, step by step. Columns: store, date, component, value."""
        _refuse_unknown(request, ())
        return await service.answer(request, lambda some, _: model.decompose(some))


def _add_facts(app: FastAPI, service: _Service) -> None:
    model = service.model

    @app.get("/healthz")
    async def healthz() -> About:
        """Whether the server answers, and for which model."""
        return About(
            status="ok",
            version=str(model.info["version"]),
            run=model.info["run"],
            nodes=model.nodes,
            frequency=model.freq,
            horizon=model.horizon,
            max_horizon=model.max_horizon,
            min_steps=model.min_steps,
        )

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Counts and durations, for Prometheus."""
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)


class _Service:
    """From a request to the bytes of an answer."""

    def __init__(self, model: OnnxModel, limits: Limits, metrics: Metrics, at_once: int) -> None:
        self.model, self.limits, self.metrics = model, limits, metrics
        self.limiter = anyio.CapacityLimiter(at_once)
        self.room = Room(at_once + limits.waiting)

    async def answer(self, request: Request, ask: Ask, *, planned: bool = False) -> Response:
        deadline = Deadline(self.limits.seconds)
        kind = _media_type(request.headers.get("content-type", ""))
        wanted = ARROW if ARROW in request.headers.get("accept", "") else JSON

        def work(body: bytes) -> tuple[bytes, int]:
            deadline.check()  # others may have been answered first
            panel, plan = self._read(body, kind, planned)
            step = _STORES_AT_ONCE if plan is None else panel.n_stores
            frames = []
            for begin in range(0, panel.n_stores, step):
                deadline.check()
                some = panel.select(panel.stores[begin : begin + step].tolist())
                frames.append(ask(some, plan))
            deadline.check()
            return write_table(pd.concat(frames, ignore_index=True), wanted), panel.n_stores

        try:
            with self.room.place(), anyio.fail_after(deadline.seconds):
                announced = request.headers.get("content-length")
                body = await read_body(request.stream(), announced, self.limits)
                content, stores = await anyio.to_thread.run_sync(work, body, limiter=self.limiter)
        except TimeoutError:
            raise deadline.over() from None
        except RefusedInput as error:
            raise Refusal(422, error.report.findings) from None
        except ValueError as error:  # a setting that does not suit the model or the panel
            raise refusal(422, "cannot-be-answered", str(error)) from None
        self.metrics.stores.labels(request.url.path).inc(stores)
        return Response(content, media_type=wanted)

    def _read(self, body: bytes, kind: str, planned: bool) -> tuple[Panel, pa.Table | None]:
        table, plan = read_tables(body, kind, planned=planned)
        column = self.model.schema["store"]
        for given in (table, plan):
            if given is not None and column in given.column_names:
                check_stores(len(pc.unique(given[column])), self.limits)
        return self.model.panel(table), plan


def _refuse_unknown(request: Request, known: Sequence[str]) -> None:
    """A setting with a mistyped name must not be answered as if it had not been given."""
    unknown = sorted(set(request.query_params) - set(known))
    if unknown:
        may = f"there are {', '.join(known)}" if known else "there are none"
        raise refusal(422, "unknown-setting", f"There is no setting '{unknown[0]}': {may}.")


def _media_type(header: str) -> str:
    return header.partition(";")[0].strip().lower()


# ---- what is said of refusals -----------------------------------------------------------------


def _documented(body: type[BaseModel]) -> dict[str, Any]:
    """What OpenAPI says of a question: bodies and answers are read and written by ``bodies``."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    given = {JSON: {"schema": body.model_json_schema()}, ARROW: binary}
    refusals: dict[int | str, dict[str, Any]] = {
        status: {"model": Problem, "description": why}
        for status, why in {
            400: "The client has gone.",
            413: "Too many bytes or stores.",
            415: "Neither JSON nor plain Arrow.",
            422: "The panel, the plan or a setting cannot be used.",
            503: "Too slow, or too many requests wait.",
        }.items()
    }
    answer = {"model": AnswerBody, "content": {ARROW: binary}}
    return {
        "response_class": Response,
        "responses": {200: answer, **refusals},
        "openapi_extra": {"requestBody": {"required": True, "content": given}},
    }


def _problem(status: int, findings: Sequence[Finding]) -> Response:
    error = findings[0].message if len(findings) == 1 else f"{len(findings)} findings"
    problem = Problem(error=error, findings=[asdict(found) for found in findings])
    headers = {"retry-after": "1"} if status == 503 else None
    return JSONResponse(problem.model_dump(), status, headers)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return _problem(error.status, error.findings)


async def _bad_setting(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    said = [f"{found['loc'][-1]}: {found['msg']}" for found in error.errors()]
    return _problem(422, [Finding("error", "bad-setting", message) for message in said])


async def _no_such(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    remedy = "See /docs for what there is."
    found = Finding("error", "no-such-question", f"{error.detail}.", remedy)
    answer = _problem(error.status_code, [found])
    answer.headers.update(error.headers or {})
    return answer


async def _gone(request: Request, error: Exception) -> Response:
    return _problem(400, [Finding("error", "disconnected", "The request ended too early.")])


_REFUSALS = {
    Refusal: _refused,
    RequestValidationError: _bad_setting,
    HTTPException: _no_such,
    ClientDisconnect: _gone,
}
