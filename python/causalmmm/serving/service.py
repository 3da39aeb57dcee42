"""How a request becomes a question to the model, and its answer bytes: turns, deadlines, clients
that hang up.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable

import anyio
import anyio.to_thread
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from fastapi import Request, Response

from causalmmm.data.panel import Panel
from causalmmm.findings import RefusedInput
from causalmmm.inference.interrupt import interruptible
from causalmmm.serving.bodies import ARROW, JSON, PanelBody, read_tables, write_table
from causalmmm.serving.limits import (
    Deadline,
    Inbox,
    Limits,
    Queue,
    RequestError,
    check_count,
    request_error,
)
from causalmmm.serving.metrics import Metrics
from causalmmm.serving.served import Served

# A question to the model about a panel, with the other tables of the request.
Ask = Callable[[Panel, dict[str, pa.Table]], pd.DataFrame]
# The body of a request to that of its answer, and the number of stores.
Work = Callable[[bytes], tuple[bytes, int]]


class Service:
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
