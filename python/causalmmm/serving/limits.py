"""Limits of a request (bytes, values, names, stores, seconds, queue), and what refuses one.

Nothing here knows paths, tables or models.
"""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from causalmmm.findings import Finding

_BODIES_HELD = 4  # largest bodies that may be arriving at a time, in bytes all together


@dataclass(frozen=True)
class Limits:
    """Limits of one server; all that decides the memory of a request is checked before work begins.

    bytes    maximum size of a request body.
    values   maximum number of values in it, over all rows and columns.
    columns  maximum number of columns of a table.
    name     maximum number of characters of a column's or store's name.
    stores   maximum number of stores in a request.
    steps    maximum number of steps in a store's history.
    seconds  maximum time from the first byte of a request to its answer.
    waiting  maximum number of requests that wait while others are computed.

    >>> Limits(stores=50).stores
    50
    """

    bytes: int = 32_000_000
    values: int = 3_000_000
    columns: int = 1_000
    name: int = 200
    stores: int = 2_000
    steps: int = 20_000
    seconds: float = 30.0
    waiting: int = 64

    def __post_init__(self) -> None:
        sizes = (self.bytes, self.values, self.columns, self.name, self.stores, self.steps)
        if min(*sizes, self.seconds) <= 0 or self.waiting < 0:
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
    """Admits a fixed number of requests at a time, computed and waiting ones together.

    ``admitted`` is how many there are, ``oldest`` the seconds since the first of those that are
    being computed began.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.admitted = 0
        self._begun: dict[object, float] = {}  # written by worker threads
        self._lock = threading.Lock()

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Admit a request for the block; raises ``RequestError`` at once if the queue is full."""
        if self.full:
            message = f"{self.capacity} requests are already running or waiting."
            raise request_error(503, "busy", message, "Try again later.")
        self.admitted += 1
        try:
            yield
        finally:
            self.admitted -= 1

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Count the block, in a worker thread, as being computed."""
        key = object()
        with self._lock:
            self._begun[key] = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                del self._begun[key]

    @property
    def full(self) -> bool:
        return self.admitted >= self.capacity

    @property
    def oldest(self) -> float:
        with self._lock:
            return time.monotonic() - min(self._begun.values()) if self._begun else 0.0


class Deadline:
    """The time by which a request must be answered, and whether anyone still waits for it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.hung_up = threading.Event()
        self._ends = time.monotonic() + seconds

    def check(self) -> None:
        """Raise ``RequestError`` after the deadline, or when the client has hung up."""
        if self.hung_up.is_set():
            raise self.disconnected()
        if time.monotonic() >= self._ends:
            raise self.exceeded()

    def disconnected(self) -> RequestError:
        return request_error(400, "disconnected", "The client hung up before the answer.")

    def exceeded(self) -> RequestError:
        message = f"The request took longer than {self.seconds:g} seconds."
        return request_error(503, "too-slow", message, "Send fewer stores, or try again later.")


class Inbox:
    """The bodies that are arriving: they hold no place in the queue, but bytes of one budget."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.held = 0

    async def read(self, chunks: AsyncIterator[bytes], announced: str | None) -> bytes:
        """The body, read only up to the limit."""
        if announced is not None and announced.isdecimal() and int(announced) > self.limits.bytes:
            raise self._too_large()
        body = bytearray()
        try:
            async for chunk in chunks:
                self.held += len(chunk)
                body += chunk
                if len(body) > self.limits.bytes:
                    raise self._too_large()
                if self.held > _BODIES_HELD * self.limits.bytes:
                    message = "Too many bodies are arriving at once."
                    raise request_error(503, "busy", message, "Try again later.")
        finally:
            self.held -= len(body)
        return bytes(body)

    def _too_large(self) -> RequestError:
        return request_error(
            413,
            "too-large",
            f"The body is larger than the limit of {self.limits.bytes} bytes.",
            "Split the stores over several requests.",
        )


def check_count(number: int, limit: int, what: str) -> None:
    """Refuse more ``what`` (stores, values, columns, steps ...) than this server takes."""
    if number > limit:
        raise request_error(
            413,
            f"too-many-{what.split()[0]}",
            f"The request has {number} {what}; the limit of this server is {limit}.",
            "Split it into several requests, or use 'causalmmm score'.",
        )
