"""The HTTP interface: its paths, and what each asks the model.

How a question is answered lives in ``service``, body formats in ``bodies``, limits in ``limits``,
refusals in ``refusals``, counts in ``metrics``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Annotated, Any, Literal

import pandas as pd
import pyarrow as pa
from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from causalmmm.data.panel import Panel
from causalmmm.data.records import read_groups
from causalmmm.serving.bodies import (
    ARROW,
    JSON,
    AnswerBody,
    BudgetBody,
    PanelBody,
    PlannedBody,
    ReturnsBody,
)
from causalmmm.serving.docs import page
from causalmmm.serving.guard import Guard
from causalmmm.serving.limits import Limits, request_error
from causalmmm.serving.metrics import Metrics, Observed
from causalmmm.serving.refusals import HANDLERS, Problem, problem_response
from causalmmm.serving.served import Served
from causalmmm.serving.service import Service

_PATHS = ("/graph", "/predict", "/decompose", "/roi", "/paths", "/optimize", "/healthz", "/metrics")
Date = Annotated[str | None, Query(max_length=10)]
By = Literal["store", "total"]
_STUCK = 2.0  # times its limit after which a computation counts as stuck


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
    app.add_middleware(Guard, hosts=hosts, refuse=problem_response)
    app.add_middleware(Observed, metrics=metrics, paths=_PATHS)
    for exception, handler in HANDLERS.items():
        app.add_exception_handler(exception, handler)
    service = Service(model, limits or Limits(), metrics, at_once)
    _add_questions(app, service)
    _add_decisions(app, service)
    _add_status(app, service)
    return app


def _add_questions(app: FastAPI, service: Service) -> None:
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


def _add_decisions(app: FastAPI, service: Service) -> None:
    async def effects(
        question: str, request: Request, start: str | None, end: str | None, by: str
    ) -> Response:
        _refuse_unknown(request, ("start", "end", "by"))
        found = _decision(service.model, question)

        def ask(panel: Panel, tables: dict[str, pa.Table]) -> pd.DataFrame:
            groups = read_groups(tables["groups"]) if "groups" in tables else by
            frame: pd.DataFrame = found(panel, start=start, end=end, by=groups)
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
        answer: Literal["plan", "allocation", "channels", "bounds", "gain"] = "plan",
    ) -> Response:
        """The spend by store, channel and step that brings the most for a budget.

        The plan as /predict takes it, or by ``answer``: its cells beside the current plan, totals
        by channel, the bounds with their prices, or the gain over the current plan with its 90 %
        interval and the probability of any (``better``: below 0.9, test first). The body may hold
        the current plan, a table of bounds, and groups of stores.
        """
        _refuse_unknown(request, ("horizon", "budget", "quantile", "answer"))
        found = _decision(service.model, "optimize")

        def ask(panel: Panel, tables: dict[str, pa.Table]) -> pd.DataFrame:
            asked: dict[str, Any] = {name: tables.get(name) for name in ("plan", "bounds")}
            if "groups" in tables:
                asked["groups"] = read_groups(tables["groups"])
            best = found(panel, horizon, budget, quantile=quantile, **asked)
            frame: pd.DataFrame = best.gain_frame() if answer == "gain" else getattr(best, answer)
            return frame

        return await service.answer(request, ask, BudgetBody, heavy=True)


def _decision(model: Served, question: str) -> Callable[..., Any]:
    """The model's own answer; refused where it has none."""
    if question not in model.questions:
        why = "returns need joint draws, which only response regressions' files have."
        if question == "optimize":
            why = "a budget is searched for with gradients, which no file has."
        raise request_error(
            501,
            "not-in-this-file",
            f"This file does not answer /{question}: {why}",
            "Serve the model directory of a response regression: causalmmm serve runs/a.",
        )
    found: Callable[..., Any] = getattr(model, question)
    return found


def _add_status(app: FastAPI, service: Service) -> None:
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


def _refuse_unknown(request: Request, valid: Sequence[str]) -> None:
    """Refuse mistyped settings instead of ignoring them."""
    unknown = sorted(set(request.query_params) - set(valid))
    if unknown:
        choices = f"valid are {', '.join(valid)}" if valid else "this path has none"
        raise request_error(422, "unknown-setting", f"Unknown setting '{unknown[0]}'; {choices}.")


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
            501: "The file has no such answer (budgets, and returns of the amortised model): serve "
            "the model directory.",
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
