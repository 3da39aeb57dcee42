"""The HTTP interface: its paths, and how a request becomes a question to the model.

Body formats live in ``bodies``, limits in ``limits``, counts in ``metrics``.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal, Protocol

import anyio
import anyio.to_thread
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from causalmmm.data.panel import Panel
from causalmmm.findings import Finding, RefusedInput
from causalmmm.inference.interrupt import interruptible
from causalmmm.serving.bodies import (
    ARROW,
    JSON,
    AnswerBody,
    BudgetBody,
    PanelBody,
    PlannedBody,
    ReturnsBody,
    read_tables,
    write_table,
)
from causalmmm.serving.docs import page
from causalmmm.serving.guard import Guard
from causalmmm.serving.limits import (
    Deadline,
    Inbox,
    Limits,
    Queue,
    RequestError,
    check_count,
    request_error,
)
from causalmmm.serving.metrics import Metrics, Observed

_PATHS = ("/graph", "/predict", "/decompose", "/roi", "/paths", "/optimize", "/healthz", "/metrics")
# A question to the model about a panel, with the other tables of the request.
Ask = Callable[[Panel, dict[str, pa.Table]], pd.DataFrame]
# The body of a request to that of its answer, and the number of stores.
Work = Callable[[bytes], tuple[bytes, int]]
Date = Annotated[str | None, Query(max_length=10)]
By = Literal["store", "total"]
_STUCK = 2.0  # times its limit after which a computation counts as stuck


class Served(Protocol):
    """A model that can be served: an exported file, or a model directory. A directory answers
    ``roi``, ``paths`` and ``optimize`` too."""

    info: dict[str, Any]
    schema: dict[str, Any]
    nodes: list[str]
    freq: str
    horizon: int
    max_horizon: int

    @property
    def min_steps(self) -> int: ...

    def panel(self, table: Any) -> Panel: ...

    def graphs(self, panel: Any, *, threshold: float = 0.0) -> pd.DataFrame: ...

    def predict(
        self, panel: Any, horizon: int | None = None, plan: Any | None = None, level: Any = (80, 95)
    ) -> pd.DataFrame: ...

    def decompose(self, panel: Any) -> pd.DataFrame: ...


class Problem(BaseModel):
    """Why a request was refused; findings as from ``causalmmm validate``."""

    error: str
    findings: list[dict[str, Any]]


class About(BaseModel):
    """The state of the server, and the model that it serves.

    status   "ok"; "busy" while further requests are refused; "stuck", with status code 503, when a
             computation has not ended long after its time.
    running  requests that are computed or wait.
    """

    status: str
    running: int
    version: str
    run: str
    nodes: list[str]
    frequency: str
    horizon: int
    max_horizon: int
    min_steps: int


def create_app(
    model: Served,
    limits: Limits | None = None,
    *,
    at_once: int = 1,
    hosts: Collection[str] | None = None,
) -> FastAPI:
    """The application.

    model    an ``OnnxModel`` opened with ``threads=1``, which uses one core per request, or a model
             directory's ``ServedModel``.
    at_once  requests computed concurrently; others wait, within ``limits``.
    hosts    names by which requests may call this server (without port); None: any.

    >>> from causalmmm.runtime import OnnxModel
    >>> app = create_app(OnnxModel("model.onnx", threads=1), Limits(stores=50))
    >>> "/predict" in {route.path for route in app.routes}
    True
    """
    app = FastAPI(
        title="causalmmm",
        description=f"Causal graphs, forecasts and decompositions of {', '.join(model.nodes)}.",
        version=str(model.info["version"]),
        docs_url=None,  # FastAPI's own pages load scripts from elsewhere
        redoc_url=None,
    )
    metrics = Metrics(model)
    app.add_middleware(Guard, hosts=hosts, refuse=_problem)
    app.add_middleware(Observed, metrics=metrics, paths=_PATHS)
    for exception, handler in _HANDLERS.items():
        app.add_exception_handler(exception, handler)
    service = _Service(model, limits or Limits(), metrics, at_once)
    _add_questions(app, service)
    _add_decisions(app, service)
    _add_status(app, service)
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
            request, lambda panel, _: model.graphs(panel, threshold=threshold)
        )

    @app.post("/predict", **_documented(PlannedBody))
    async def predict(
        request: Request,
        horizon: Annotated[int | None, Query(ge=1)] = None,
        level: Annotated[list[float] | None, Query(max_length=8)] = None,
    ) -> Response:
        """Forecasts of every series of every store, with central intervals in percent.

        Columns: store, date, series, mean, and lower_80, upper_80 for each level. A plan goes into
        the JSON body, or into a second Arrow stream after the first.
        """
        _refuse_unknown(request, ("horizon", "level"))
        levels: Sequence[Any] = (80, 95) if level is None else level

        def ask(panel: Panel, tables: dict[str, pa.Table]) -> pd.DataFrame:
            return model.predict(panel, horizon, tables.get("plan"), levels)

        return await service.answer(request, ask, PlannedBody)

    @app.post("/decompose", **_documented(PanelBody))
    async def decompose(request: Request) -> Response:
        """Decomposition of the target per step. Columns: store, date, component, value."""
        _refuse_unknown(request, ())
        return await service.answer(request, lambda panel, _: model.decompose(panel))


def _add_decisions(app: FastAPI, service: _Service) -> None:
    async def effects(
        question: str, request: Request, start: str | None, end: str | None, by: str
    ) -> Response:
        _refuse_unknown(request, ("start", "end", "by"))
        found = _decision(service.model, question)

        def ask(panel: Panel, tables: dict[str, pa.Table]) -> pd.DataFrame:
            frame: pd.DataFrame = found(panel, start=start, end=end, by=tables.get("groups", by))
            return frame

        return await service.answer(request, ask, ReturnsBody, heavy=True)

    @app.post("/roi", **_documented(ReturnsBody, decision=True))
    async def roi(
        request: Request, start: Date = None, end: Date = None, by: By = "store"
    ) -> Response:
        """Return on the spend of a period by channel, with 90 % intervals.

        Columns: store, channel, spend, spend_share, outcome, outcome_share, roi, mroi, cpik,
        effectiveness, and bounds. By store, in total, or by the groups of the body.
        """
        return await effects("roi", request, start, end, by)

    @app.post("/paths", **_documented(ReturnsBody, decision=True))
    async def paths(
        request: Request, start: Date = None, end: Date = None, by: By = "store"
    ) -> Response:
        """What each channel brought, directly and through each mediator, with 90 % intervals.

        Columns: store, channel, path, mean, lower, upper. By store, in total, or by the groups of
        the body.
        """
        return await effects("paths", request, start, end, by)

    @app.post("/optimize", **_documented(BudgetBody, decision=True))
    async def optimize(
        request: Request,
        horizon: Annotated[int | None, Query(ge=1)] = None,
        budget: Annotated[float | None, Query(ge=0)] = None,
        quantile: Annotated[float | None, Query(gt=0, lt=1)] = None,
        answer: Literal["plan", "allocation", "channels", "bounds"] = "plan",
    ) -> Response:
        """The spend by store, channel and step that brings the most for a budget.

        The plan as /predict takes it, or by ``answer``: its cells beside the current plan, totals
        by channel, or the bounds with their prices. The body may hold the current plan, a table of
        bounds, and groups of stores.
        """
        _refuse_unknown(request, ("horizon", "budget", "quantile", "answer"))
        found = _decision(service.model, "optimize")

        def ask(panel: Panel, tables: dict[str, pa.Table]) -> pd.DataFrame:
            asked = {name: tables.get(name) for name in ("plan", "bounds", "groups")}
            frame: pd.DataFrame = getattr(
                found(panel, horizon, budget, quantile=quantile, **asked), answer
            )
            return frame

        return await service.answer(request, ask, BudgetBody, heavy=True)


def _decision(model: Served, question: str) -> Callable[..., Any]:
    """The model's own answer; refused where it has none."""
    found: Callable[..., Any] | None = getattr(model, question, None)
    if found is None:
        raise request_error(
            501,
            "not-in-this-model",
            f"An exported file does not answer /{question}: it holds no joint draws of effects.",
            "Serve the model directory instead: causalmmm serve runs/a.",
        )
    return found


def _add_status(app: FastAPI, service: _Service) -> None:
    model = service.model

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(page(app.openapi(), service.limits))

    @app.get("/healthz")
    async def healthz(response: Response) -> About:
        """Status of the server, and the model that it serves."""
        stuck = service.queue.oldest > _STUCK * service.limits.seconds
        response.status_code = 503 if stuck else 200
        return About(
            status="stuck" if stuck else "busy" if service.queue.full else "ok",
            running=service.queue.admitted,
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
    """Turns a request into the bytes of an answer."""

    def __init__(self, model: Served, limits: Limits, metrics: Metrics, at_once: int) -> None:
        self.model, self.limits, self.metrics = model, limits, metrics
        self.limiter = anyio.CapacityLimiter(at_once)
        self.heavy = anyio.CapacityLimiter(1)  # decisions hold many draws at a time
        self.queue = Queue(at_once + limits.waiting)
        self.inbox = Inbox(limits)

    async def answer(
        self,
        request: Request,
        ask: Ask,
        form: type[PanelBody] = PanelBody,
        *,
        heavy: bool = False,
    ) -> Response:
        deadline = Deadline(self.limits.seconds)
        kind = _media_type(request.headers.get("content-type", ""))
        wanted = ARROW if ARROW in request.headers.get("accept", "") else JSON

        def work(body: bytes) -> tuple[bytes, int]:
            with self.queue.computing(), interruptible(deadline.check):
                deadline.check()  # the request may have waited
                panel, tables = self._read(body, kind, form)
                deadline.check()
                frame = ask(panel, tables)
                deadline.check()
                return write_table(frame, wanted), panel.n_stores

        try:
            with anyio.fail_after(deadline.seconds):
                announced = request.headers.get("content-length")
                body = await self.inbox.read(request.stream(), announced)
                with self.queue.admit():
                    turn = self.heavy if heavy else self.limiter
                    content, stores = await self._computed(request, deadline, work, body, turn)
        except TimeoutError:
            raise deadline.exceeded() from None
        except RefusedInput as error:
            _let_go(error)
            raise RequestError(422, error.report.findings) from None
        except ValueError as error:  # a setting that does not fit the model or the panel
            _let_go(error)
            raise request_error(422, "cannot-be-answered", str(error)) from None
        except MemoryError:
            message = "The request needs more memory than there is."
            raise request_error(413, "too-large", message, "Send fewer stores.") from None
        self.metrics.stores.labels(request.url.path).inc(stores)
        return Response(content, media_type=wanted)

    async def _computed(
        self,
        request: Request,
        deadline: Deadline,
        work: Work,
        body: bytes,
        turn: anyio.CapacityLimiter,
    ) -> tuple[bytes, int]:
        """The answer, from a worker thread; given up soon after the client hangs up."""

        with anyio.CancelScope() as waiting:

            async def watch() -> None:
                while (await request.receive())["type"] != "http.disconnect":
                    pass
                deadline.hung_up.set()  # ends what is being computed
                waiting.cancel()  # and what waits for its turn

            watching = asyncio.ensure_future(watch())
            try:
                return await anyio.to_thread.run_sync(work, body, limiter=turn)
            finally:
                watching.cancel()
        raise deadline.disconnected()

    def _read(
        self, body: bytes, kind: str, form: type[PanelBody]
    ) -> tuple[Panel, dict[str, pa.Table]]:
        """The panel, and the other tables of a request."""
        tables = read_tables(body, kind, self.limits, form)
        column = self.model.schema["store"]
        for part in tables.values():
            if column in part.column_names:
                stores = pc.unique(part[column])
                check_count(len(stores), self.limits.stores, "stores")
                check_count(_longest(stores), self.limits.name, "letters in the name of a store")
        panel = self.model.panel(tables.pop("panel"))
        check_count(int(panel.lengths.max()), self.limits.steps, "steps of a store")
        return panel, tables


def _refuse_unknown(request: Request, valid: Sequence[str]) -> None:
    """Refuse mistyped settings instead of ignoring them."""
    unknown = sorted(set(request.query_params) - set(valid))
    if unknown:
        choices = f"valid are {', '.join(valid)}" if valid else "this path has none"
        raise request_error(422, "unknown-setting", f"Unknown setting '{unknown[0]}'; {choices}.")


def _let_go(error: BaseException) -> None:
    """Free what the frames of an error hold, tables of a request among it: they and the error hold
    one another, and would stay until the garbage of the whole process is collected."""
    traceback.clear_frames(error.__traceback__)


def _longest(names: pa.Array | pa.ChunkedArray) -> int:
    """Letters of the longest name; numbers, dates and flags are short."""
    kind = names.type.value_type if pa.types.is_dictionary(names.type) else names.type
    types = pa.types
    if types.is_binary(kind) or types.is_large_binary(kind):
        lengths = pc.binary_length(names.cast(kind))
    elif types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        lengths = pc.utf8_length(names.cast(pa.large_string()))
    else:
        return 0
    return pc.max(lengths).as_py() or 0


def _media_type(header: str) -> str:
    return header.partition(";")[0].strip().lower()


# ---- documentation and refusals ---------------------------------------------------------------


def _documented(body: type[BaseModel], *, decision: bool = False) -> dict[str, Any]:
    """OpenAPI documentation of a path, whose bodies FastAPI does not read or write itself."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    content = {JSON: {"schema": body.model_json_schema()}, ARROW: binary}
    refusals: dict[int | str, dict[str, Any]] = {
        status: {"model": Problem, "description": why}
        for status, why in {
            400: "The client has disconnected.",
            413: "Too many bytes, values, columns, stores or steps, or a name that is too long.",
            415: "Neither JSON nor plain Arrow.",
            421: "The Host header does not name this server.",
            422: "The panel, the plan or a setting is invalid.",
            501: "The served file has no joint draws of effects: serve a model directory.",
            503: "Too slow, or too many waiting requests.",
        }.items()
        if status != 501 or decision
    }
    answer = {"model": AnswerBody, "content": {ARROW: binary}}
    return {
        "response_class": Response,
        "responses": {200: answer, **refusals},
        "openapi_extra": {"requestBody": {"required": True, "content": content}},
    }


def _problem(status: int, findings: Sequence[Finding]) -> Response:
    error = findings[0].message if len(findings) == 1 else f"{len(findings)} findings"
    problem = Problem(error=error, findings=[asdict(finding) for finding in findings])
    headers = {"retry-after": "1"} if status == 503 else None
    return JSONResponse(problem.model_dump(), status, headers)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return _problem(error.status, error.findings)


async def _bad_setting(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    messages = [f"{item['loc'][-1]}: {item['msg']}" for item in error.errors()]
    return _problem(422, [Finding("error", "bad-setting", message) for message in messages])


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    remedy = "See /docs for the available paths."
    finding = Finding("error", "no-such-question", f"{error.detail}.", remedy)
    response = _problem(error.status_code, [finding])
    response.headers.update(error.headers or {})
    return response


async def _disconnected(request: Request, error: Exception) -> Response:
    return _problem(
        400,
        [
            Finding(
                "error", "disconnected", "The client disconnected before the request was complete."
            )
        ],
    )


_HANDLERS = {
    RequestError: _refused,
    RequestValidationError: _bad_setting,
    HTTPException: _http_error,
    ClientDisconnect: _disconnected,
}
