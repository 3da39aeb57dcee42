"""Middleware that lets through only requests that name this server as their host.

Otherwise any web page could have its reader's browser ask a server on that reader's machine, under
a name of its own that resolves to 127.0.0.1.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import TYPE_CHECKING

from causalmmm.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Guard:
    """Refuses requests whose ``Host`` is none of ``hosts``; None lets all through."""

    def __init__(
        self,
        app: ASGIApp,
        hosts: Collection[str] | None,
        refuse: Callable[[int, Sequence[Finding]], Response],
    ) -> None:
        self.app, self.refuse = app, refuse
        self.hosts = None if hosts is None else frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self.hosts is not None:
            named = host_of(dict(scope["headers"]).get(b"host", b"").decode("latin-1"))
            if named not in self.hosts:
                message = f"This server is not called '{named[:80]}'."
                remedy = "Use the address it prints, or start it with --allow-host."
                finding = Finding("error", "wrong-host", message, remedy)
                await self.refuse(421, [finding])(scope, receive, send)
                return
        await self.app(scope, receive, send)


def host_of(header: str) -> str:
    """The name in a Host header, without port and brackets.

    >>> host_of("LocalHost:8000"), host_of("[::1]:8000")
    ('localhost', '::1')
    """
    name = header.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.rpartition(":")[0] if name.count(":") == 1 else name


def is_loopback(host: str) -> bool:
    """Whether an address is reachable from this machine only.

    >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
    (True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
