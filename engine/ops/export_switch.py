"""The only place that asks whether the model is being exported.

ONNX has no matrix factorisation and no sequential update in place. Functions that need them run
eagerly as they are; in an exported graph each is one operator ``causalmmm::<name>``, which
``engine.export.operators`` translates into standard ONNX operators.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch

F = TypeVar("F", bound=Callable[..., Any])


def exporting() -> bool:
    """True while ``torch.export`` traces the model."""
    return torch.compiler.is_exporting()


def exported_as(name: str, fake: Callable[..., Any]) -> Callable[[F], F]:
    """Decorator: in an exported graph, calls of the function are the operator ``causalmmm::name``.

    ``fake`` gives the function's outputs as empty tensors, for shape propagation.
    """

    def decorate(eager: F) -> F:
        operator: Any = torch.library.custom_op(f"causalmmm::{name}", eager, mutates_args=())
        operator.register_fake(fake)

        @functools.wraps(eager)
        def dispatch(*args: Any) -> Any:
            return operator(*args) if exporting() else eager(*args)

        return dispatch  # type: ignore[return-value]

    return decorate
