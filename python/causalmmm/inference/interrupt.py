"""How a question ends before its answer: whoever asks sets a check, long work calls it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_check: ContextVar[Callable[[], None] | None] = ContextVar("check", default=None)


@contextmanager
def interruptible(check: Callable[[], None]) -> Iterator[None]:
    """Within the block ``check`` is called before every batch of stores and every step of a search;
    what it raises ends the question, so that nothing is computed for those who no longer wait.

    >>> def stop():
    ...     raise TimeoutError("nobody waits any more")
    >>> with interruptible(stop):
    ...     current_check()()
    Traceback (most recent call last):
    TimeoutError: nobody waits any more
    """
    token = _check.set(check)
    try:
        yield
    finally:
        _check.reset(token)


def current_check() -> Callable[[], None]:
    """The check that is set, for work in other threads; one that does nothing where none is."""
    return _check.get() or (lambda: None)
