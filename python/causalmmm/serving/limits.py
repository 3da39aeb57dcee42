"""What a request may cost, and how a request is refused."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from causalmmm.findings import Finding


@dataclass(frozen=True)
class Limits:
    """bytes of a body; stores in it; seconds from its first byte to the answer; requests that may
    wait while others are computed."""

    bytes: int = 32_000_000
    stores: int = 2_000
    seconds: float = 30.0
    waiting: int = 64

    def __post_init__(self) -> None:
        if min(self.bytes, self.stores, self.seconds) <= 0 or self.waiting < 0:
            raise ValueError("limits must be positive, and waiting at least 0")


class Refusal(Exception):
    """A request that is not answered: the status, and what is wrong with it."""

    def __init__(self, status: int, findings: Sequence[Finding]) -> None:
        super().__init__(findings[0].message)
        self.status = status
        self.findings = findings


def refusal(status: int, code: str, message: str, remedy: str = "") -> Refusal:
    return Refusal(status, [Finding("error", code, message, remedy)])


class Room:
    """Places for requests: those that are computed and those that wait, with their bodies."""

    def __init__(self, places: int) -> None:
        self.places = places
        self._taken = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """One of the places; raises ``Refusal`` at once where all are taken."""
        if self._taken >= self.places:
            message = f"{self.places} requests are being answered or wait already."
            raise refusal(503, "busy", message, "Try again later.")
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


class Deadline:
    """When a request must have been answered."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._ends = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return self._ends - time.monotonic()

    def check(self) -> None:
        """Raise ``Refusal`` once it is over."""
        if self.left <= 0:
            raise self.over()

    def over(self) -> Refusal:
        message = f"There was no answer within {self.seconds:g} seconds."
        return refusal(503, "too-slow", message, "Send fewer stores, or try again later.")


async def read_body(chunks: AsyncIterator[bytes], announced: str | None, limits: Limits) -> bytes:
    """The body, read no further than the limit."""
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
        raise refusal(
            413,
            "too-many-stores",
            f"The request has {stores} stores; this server takes {limits.stores} at once.",
            "Send them in several requests, or use 'causalmmm score'.",
        )


def _too_large(limits: Limits) -> Refusal:
    return refusal(
        413,
        "too-large",
        f"The body is larger than the {limits.bytes} bytes that this server takes.",
        "Send the stores in several requests.",
    )
