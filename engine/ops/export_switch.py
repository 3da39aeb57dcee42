"""The only place that asks whether the model is being exported.

ONNX has no matrix factorisation, no sequential update in place and no loop over a tensor's rows.
Functions that need them run as they are; while ``engine.export.trace`` is at work, it is given
their calls instead and writes standard ONNX operators (``engine.export.operators``). Functions that
have a faster form that ONNX lacks ask ``exporting`` and take the plain one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

F = TypeVar("F", bound=Callable[..., Any])

_EXPORTING = ContextVar("exporting", default=False)


def exporting() -> bool:
    """True while the model is being exported."""
    return _EXPORTING.get()


@contextmanager
def while_exporting() -> Iterator[None]:
    """Within this context the model is being exported."""
    token = _EXPORTING.set(True)
    try:
        yield
    finally:
        _EXPORTING.reset(token)


def exports_whole(function: F) -> F:
    """Decorator: an export translates a call of the function as a whole, not what it calls."""

    @functools.wraps(function)
    def dispatch(*args: Any) -> Any:
        tensors = [x for x in args if isinstance(x, Tensor)] or [
            x for group in args if isinstance(group, tuple) for x in group
        ]
        if has_torch_function(tensors):
            return handle_torch_function(dispatch, tensors, *args)
        return function(*args)

    return dispatch  # type: ignore[return-value]
