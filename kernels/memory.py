"""Tensors as the extension takes them: memory without gaps, and where it is.

The extension works on addresses; who calls it holds the tensors until it returns.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor


def dense(*tensors: Tensor) -> list[Tensor]:
    """The tensors without gaps, copied where they have some."""
    return [tensor.contiguous() for tensor in tensors]


def addresses(tensors: Iterable[Tensor | None]) -> tuple[int, ...]:
    """Where the memory of each begins; 0 for what is not there."""
    return tuple(0 if tensor is None else tensor.data_ptr() for tensor in tensors)
