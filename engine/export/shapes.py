"""What functions of torch that move numbers about become in a graph: indices, shapes, joining.

Those that calculate are in ``functions``; how a translation is called stands there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from causalmmm.engine.export.nodes import ELEMENT, LAST, Nodes, Value
from causalmmm.engine.export.operators import diagonal
from causalmmm.engine.export.trace import Axis, Result, same_size

Translation = Callable[..., Any]


def translations() -> dict[str, Translation]:
    """By the name of a function or method of torch."""
    reordered = {name: functools.partial(_reordered, how) for name, how in _REORDERED.items()}
    return reordered | _OTHERS


def cast(op: Nodes, x: Any, dtype: torch.dtype) -> Value:
    """A value, tensor, number or dynamic size as a value of this dtype."""
    if isinstance(x, Axis):
        return op.Cast(x.value, to=ELEMENT[dtype])
    if isinstance(x, Tensor):
        return op.constant(x.detach().to(dtype).numpy())
    if not isinstance(x, Value):
        return op.constant(x, dtype)
    return x if x.dtype == dtype else op.Cast(x, to=ELEMENT[dtype])


def sizes(op: Nodes, dimensions: Sequence[int]) -> Value:
    """int64 [len(dimensions)] from numbers and dynamic sizes."""
    if not any(isinstance(size, Axis) for size in dimensions):
        return op.constant(np.array(dimensions, dtype=np.int64))
    parts = [size.value if isinstance(size, Axis) else [size] for size in dimensions]
    return op.Concat(*parts, axis=0) if len(parts) > 1 else op.value(parts[0])


def _reordered(method: Callable[..., Tensor], op: Nodes, out: Result, x: Any, *how: Any) -> Value:
    """A transposition; the order of the axes is read off a tensor whose sizes tell them apart."""
    rank = len(x.shape)
    marked = method(torch.empty(tuple(range(2, rank + 2)), device="meta"), *how)
    perm = [size - 2 for size in marked.shape]
    return op.value(x) if perm == [*range(rank)] else op.Transpose(x, perm=perm)


def _getitem(op: Nodes, out: Result, x: Any, index: Any) -> Value:
    """Slices first, then numbers and at most one tensor, then new axes."""
    index = list(index) if isinstance(index, tuple) else [index]
    taken = sum(1 for part in index if part is not None and part is not Ellipsis)
    whole = [slice(None)] * (len(x.shape) - taken)
    place = index.index(Ellipsis) if any(part is Ellipsis for part in index) else len(index)
    index = [*index[:place], *whole, *index[place + 1 :]]
    parts = [part for part in index if part is not None]
    cut = {k: part for k, part in enumerate(parts) if isinstance(part, slice)}
    cut = {k: part for k, part in cut.items() if part != slice(None)}
    if cut:
        begin = sizes(op, [part.start or 0 for part in cut.values()])
        end = sizes(op, [LAST if part.stop is None else part.stop for part in cut.values()])
        steps = [part.step or 1 for part in cut.values()]
        x = op.Slice(x, begin, end, list(cut), steps)
    for axis, part in reversed(list(enumerate(parts))):
        if isinstance(part, int):
            x = op.Gather(x, np.array(part), axis=axis)
        elif not isinstance(part, slice):
            chosen = np.array(part, np.int64) if isinstance(part, list) else part
            x = op.Gather(x, chosen, axis=axis)
    new, axis = [], 0
    for part in index:
        if part is None:
            new.append(axis)
        axis += _axes_of(part)
    return op.Unsqueeze(x, new) if new else op.value(x)


def _axes_of(part: Any) -> int:
    """Number of axes that a part of an index has in the result."""
    if isinstance(part, int):
        return 0
    if part is None or isinstance(part, slice | list):
        return 1
    return len(part.shape)


def _reshape(op: Nodes, out: Result, x: Any, *dimensions: Any) -> Value:
    """``dimensions`` as asked for, if they were: sizes that must be computed are taken from there,
    or from ``x``."""
    if len(out.shape) == len(x.shape) and all(map(same_size, out.shape, x.shape)):
        return op.value(x)
    if len(dimensions) == 1 and isinstance(dimensions[0], list | tuple):
        dimensions = tuple(dimensions[0])
    known = [size for size in (*dimensions, *x.shape) if isinstance(size, Axis)]
    empty, copying, inferred, target = 0 in out.shape, True, False, []
    for k, size in enumerate(out.shape):
        copying = copying and k < len(x.shape) and same_size(x.shape[k], size)
        if not isinstance(size, Axis):
            target.append(size)
        elif copying and not empty:
            target.append(0)
        elif not inferred and not empty:
            target.append(-1)
            inferred = True
        else:
            target.append(next(axis for axis in known if same_size(axis, size)))
    return op.Reshape(x, sizes(op, target), **({"allowzero": 1} if empty else {}))


def _unflatten(op: Nodes, out: Result, x: Any, dim: int, dimensions: Sequence[int]) -> Value:
    return _reshape(op, out, x, tuple(dimensions))


def _expand(op: Nodes, out: Result, x: Any, *dimensions: Any) -> Value:
    if len(dimensions) == 1 and isinstance(dimensions[0], list | tuple):
        dimensions = tuple(dimensions[0])
    before = (1,) * (len(out.shape) - len(x.shape)) + tuple(x.shape)
    target = [
        1 if same_size(old, new) else asked
        for old, new, asked in zip(before, out.shape, dimensions, strict=True)
    ]
    return op.value(x) if target == [1] * len(x.shape) else op.Expand(x, sizes(op, target))


def _like_shape(translate: Translation) -> Translation:
    """For methods that take their shape from another tensor."""
    return lambda op, out, x, other: translate(op, out, x, *other.shape)


def _filled(value: float) -> Translation:
    """A tensor of one value with the shape of another."""

    def translate(op: Nodes, out: Result, x: Any, **_: Any) -> Value:
        return op.Expand(op.constant(value, out.dtype), sizes(op, x.shape))

    return translate


def _full_like(op: Nodes, out: Result, x: Any, value: float) -> Value:
    return _filled(value)(op, out, x)


def _new_ones(op: Nodes, out: Result, x: Any, *dimensions: Any) -> Value:
    return op.Expand(op.constant(1.0, out.dtype), sizes(op, dimensions))


def _arange(op: Nodes, out: Result, *span: Any, **_: Any) -> Value:
    begin, end = span[:2] if len(span) > 1 else (0, *span)
    stride = span[2] if len(span) > 2 else 1
    begin, end, stride = (op.Squeeze(sizes(op, [x]), [0]) for x in (begin, end, stride))
    steps = op.Range(begin, end, stride)
    return steps if out.dtype == torch.int64 else op.Cast(steps, to=ELEMENT[out.dtype])


def _unsqueeze(op: Nodes, out: Result, x: Any, dim: int) -> Value:
    return op.Unsqueeze(x, [dim % len(out.shape)])


def _squeeze(op: Nodes, out: Result, x: Any, dim: int) -> Value:
    return op.Squeeze(x, [dim])


def _cat(op: Nodes, out: Result, tensors: Sequence[Any], dim: int = 0) -> Value:
    return op.Concat(*(cast(op, x, out.dtype) for x in tensors), axis=dim)


def _stack(op: Nodes, out: Result, tensors: Sequence[Any], dim: int = 0) -> Value:
    dim %= len(out.shape)
    return op.Concat(*(op.Unsqueeze(cast(op, x, out.dtype), [dim]) for x in tensors), axis=dim)


def _unbind(op: Nodes, out: Sequence[Result], x: Any, dim: int = 0) -> list[Value]:
    return [op.Gather(x, np.array(k), axis=dim) for k in range(len(out))]


def _flip(op: Nodes, out: Result, x: Any, dim: int) -> Value:
    return op.Slice(x, [-1], [-LAST], [dim], [-1])


def _pad(
    op: Nodes, out: Result, x: Any, pad: Sequence[int], mode: str = "constant", value: Any = None
) -> Value:
    """Pads are given from the last axis on, before and after each; all axes are written, since
    onnxruntime's optimiser of transpositions takes no notice of a choice of axes."""
    others = [0] * (len(out.shape) - len(pad) // 2)
    pads = [*others, *pad[-2::-2], *others, *pad[-1::-2]]
    return op.Pad(x, pads, cast(op, value or 0, out.dtype))


def _split(op: Nodes, out: Sequence[Result], x: Any, parts: Sequence[int], dim: int) -> list[Value]:
    return op.add("Split", [x, list(parts)], {"axis": dim}, len(out))


def _index_select(op: Nodes, out: Result, x: Any, dim: int, index: Any) -> Value:
    return op.Gather(x, index, axis=dim)


def _gather(op: Nodes, out: Result, x: Any, dim: int, index: Any) -> Value:
    return op.GatherElements(x, index, axis=dim)


def _diag_embed(op: Nodes, out: Result, x: Any) -> Value:
    inside = np.eye(out.shape[-1], dtype=bool)
    return op.Where(inside, op.Unsqueeze(x, [-1]), op.constant(0.0, out.dtype))


_REORDERED: dict[str, Callable[..., Tensor]] = {
    "permute": Tensor.permute,
    "transpose": Tensor.transpose,
    "movedim": Tensor.movedim,
    "mT": lambda x: x.mT,
}
_OTHERS: dict[str, Translation] = {
    "arange": _arange,
    "cat": _cat,
    "diag_embed": _diag_embed,
    "diagonal": diagonal,
    "expand": _expand,
    "expand_as": _like_shape(_expand),
    "flatten": lambda op, out, x, *_: _reshape(op, out, x),
    "flip": _flip,
    "full_like": _full_like,
    "gather": _gather,
    "__getitem__": _getitem,
    "index_select": _index_select,
    "new_ones": _new_ones,
    "ones_like": _filled(1.0),
    "pad": _pad,
    "reshape": _reshape,
    "split": _split,
    "squeeze": _squeeze,
    "stack": _stack,
    "unbind": _unbind,
    "unflatten": _unflatten,
    "unsqueeze": _unsqueeze,
    "view": _reshape,
    "view_as": _like_shape(_reshape),
    "zeros_like": _filled(0.0),
}
