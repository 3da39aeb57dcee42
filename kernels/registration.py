"""Registration of operators with torch: definition, fake tensors, gradients.

The same interface as ``torch.library.custom_op``, whose first call imports torch's compiler, 870
modules in 4 seconds; what it is made of does not. Operators are as opaque to torch.compile as its.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

_LIBRARY = torch.library.Library("causalmmm", "FRAGMENT")
FUNCTIONS: dict[str, Callable[..., Any]] = {}  # what computes each operator, by its qualified name


class Operator:
    """``torch.ops.causalmmm.<name>``, computed by a function on every device, out of place."""

    def __init__(self, name: str, function: Callable[..., Any], schema: str | None) -> None:
        self._qualified = f"causalmmm::{name}"
        FUNCTIONS[self._qualified] = function
        signature = schema or torch.library.infer_schema(function, mutates_args=())
        _LIBRARY.define(name + signature, tags=(torch.Tag.pt2_compliant_tag,))
        _LIBRARY.impl(name, function, "CompositeExplicitAutograd")
        self._call = getattr(torch.ops.causalmmm, name).default
        self.__doc__ = function.__doc__

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def register_fake(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Decorator: shapes and dtypes of the results, for tracing."""
        return torch.library.register_fake(self._qualified, function, lib=_LIBRARY)

    def register_autograd(
        self, backward: Callable[..., Any], *, setup_context: Callable[..., Any]
    ) -> None:
        """Gradients, from what ``setup_context`` keeps of a call."""
        torch.library.register_autograd(
            self._qualified, backward, setup_context=setup_context, lib=_LIBRARY
        )


def operator(name: str, schema: str | None = None) -> Callable[[Callable[..., Any]], Operator]:
    """Decorator: the function as an operator; its schema is that of its annotations, or given."""
    return lambda function: Operator(name, function, schema)
