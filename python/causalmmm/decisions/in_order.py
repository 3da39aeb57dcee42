"""Work on several threads whose results come in order, with few of them held at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

import torch

from causalmmm.engine.training.threads import threads_for

Item = TypeVar("Item")
Result = TypeVar("Result")
MOST_THREADS = 4  # for blocks of stores, as each holds one


def in_order(work: Callable[[Item], Result], items: Iterable[Item], most: int) -> Iterator[Result]:
    """``map(work, items)`` on as many threads as torch may use, ``most`` of them at most.

    Each item is then worked on by one thread alone: operations that are too small to be split up
    are what most of the time goes to. No more items are taken than there are threads, and one.

    >>> list(in_order(str.upper, ["a", "b", "c"], 2))
    ['A', 'B', 'C']
    """
    threads = min(most, torch.get_num_threads())
    if threads == 1:
        yield from map(work, items)
        return
    waiting: deque[Future[Result]] = deque()
    with threads_for(0), ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(copy_context().run, work, item))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # what has not begun is not worth waiting for
            for begun in waiting:
                begun.cancel()
