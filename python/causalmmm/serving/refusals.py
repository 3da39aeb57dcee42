"""What a refused request gets back: a status and findings, as from ``causalmmm validate``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from causalmmm.findings import Finding
from causalmmm.serving.limits import RequestError


class Problem(BaseModel):
    """Why a request was refused; findings as from ``causalmmm validate``."""

    error: str
    findings: list[dict[str, Any]]


def problem_response(status: int, findings: Sequence[Finding]) -> Response:
    error = findings[0].message if len(findings) == 1 else f"{len(findings)} findings"
    problem = Problem(error=error, findings=[asdict(finding) for finding in findings])
    headers = {"retry-after": "1"} if status == 503 else None
    return JSONResponse(problem.model_dump(), status, headers)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return problem_response(error.status, error.findings)


async def _bad_setting(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    messages = [f"{item['loc'][-1]}: {item['msg']}" for item in error.errors()]
    return problem_response(422, [Finding("error", "bad-setting", message) for message in messages])


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    remedy = "See /docs for the available paths."
    finding = Finding("error", "no-such-question", f"{error.detail}.", remedy)
    response = problem_response(error.status_code, [finding])
    response.headers.update(error.headers or {})
    return response


async def _disconnected(request: Request, error: Exception) -> Response:
    return problem_response(
        400,
        [
            Finding(
                "error", "disconnected", "The client disconnected before the request was complete."
            )
        ],
    )


HANDLERS = {
    RequestError: _refused,
    RequestValidationError: _bad_setting,
    HTTPException: _http_error,
    ClientDisconnect: _disconnected,
}
