"""Limits of a request (bytes, stores, seconds, queue), and the exception that refuses one.

Nothing here knows paths, tables or models.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from causalmmm.findings import Finding


@dataclass(frozen=True)
class Limits:
    """Limits of one server.

    bytes    maximum size of a request body.
    stores   maximum number of stores in a request.
    seconds  maximum time from the first byte of a request to its answer.
    waiting  maximum number of requests that wait while others are computed.
    """

    bytes: int = 32_000_000
    stores: int = 2_000
    seconds: float = 30.0
    waiting: int = 64

    def __post_init__(self) -> None:
        if min(self.bytes, self.stores, self.seconds) <= 0 or self.waiting < 0:
            raise ValueError("limits must be positive, and waiting must be at least 0")


class RequestError(Exception):
    """A refused request: HTTP status and findings."""

    def __init__(self, status: int, findings: Sequence[Finding]) -> None:
        super().__init__(findings[0].message)
        self.status = status
        self.findings = findings


def request_error(status: int, code: str, message: str, remedy: str = "") -> RequestError:
    return RequestError(status, [Finding("error", code, message, remedy)])


class Queue:
    """Admits a fixed number of requests at a time, computed and waiting ones together."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._admitted = 0

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Admit a request for the block; raises ``RequestError`` at once if the queue is full."""
        if self._admitted >= self.capacity:
            message = f"{self.capacity} requests are already running or waiting."
            raise request_error(503, "busy", message, "Try again later.")
        self._admitted += 1
        try:
            yield
        finally:
            self._admitted -= 1


class Deadline:
    """The time by which a request must be answered."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._ends = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return self._ends - time.monotonic()

    def check(self) -> None:
        """Raise ``RequestError`` after the deadline."""
        if self.left <= 0:
            raise self.exceeded()

    def exceeded(self) -> RequestError:
        message = f"The request took longer than {self.seconds:g} seconds."
        return request_error(503, "too-slow", message, "Send fewer stores, or try again later.")


async def read_body(chunks: AsyncIterator[bytes], announced: str | None, limits: Limits) -> bytes:
    """The body, read only up to the limit."""
    if announced is not None and announced.isdecimal() and int(announced) > limits.bytes:
        raise _too_large(limits)
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > limits.bytes:
            raise _too_large(limits)
    return bytes(body)


def check_stores(stores: int, limits: Limits) -> None:
    if stores > limits.stores:
        raise request_error(
            413,
            "too-many-stores",
            f"The request has {stores} stores; the limit of this server is {limits.stores}.",
            "Split it into several requests, or use 'causalmmm score'.",
        )


def _too_large(limits: Limits) -> RequestError:
    return request_error(
        413,
        "too-large",
        f"The body is larger than the limit of {limits.bytes} bytes.",
        "Split the stores over several requests.",
    )
