"""What functions of torch become in a graph: only those that the model uses.

A translation is called with the nodes, the dtype and shape of the result, and the arguments of the
call (``trace.Trace``). Anything that torch knows and ONNX does not is in ``operators``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from causalmmm.engine.export.nodes import ELEMENT, LAST, Nodes, Value
from causalmmm.engine.export.operators import diagonal, elu, sigmoid, softplus
from causalmmm.engine.export.trace import Axis, Result, same_size

Translation = Callable[..., Any]


def translations() -> dict[str, Translation]:
    """By the name of a function or method of torch."""
    table: dict[str, Translation] = {}
    for op_type, names in _ELEMENTWISE.items():
        table |= {name: _elementwise(op_type) for name in names.split()}
    for op_type, names in _COMPARISONS.items():
        table |= {name: _comparison(op_type) for name in names.split()}
    for op_type, names in _REDUCTIONS.items():
        table |= {name: _reduction(op_type) for name in names.split()}
    for name, method in _REORDERED.items():
        table[name] = functools.partial(_reordered, method)
    return table | _OTHERS


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


def _elementwise(op_type: str) -> Translation:
    def translate(op: Nodes, out: Result, *operands: Any) -> Value:
        node: Value = getattr(op, op_type)(*(cast(op, x, out.dtype) for x in operands))
        return node

    return translate


def _comparison(op_type: str) -> Translation:
    def translate(op: Nodes, out: Result, x: Any, y: Any) -> Value:
        dtype = torch.result_type(*(_like(z) for z in (x, y)))
        node: Value = getattr(op, op_type)(cast(op, x, dtype), cast(op, y, dtype))
        return node

    return translate


def _like(x: Any) -> Any:
    """A number, or a tensor of the same dtype."""
    if isinstance(x, Value):
        assert x.shape is not None
        return torch.empty((1,) * len(x.shape), dtype=x.dtype)
    return x


def _reduction(op_type: str) -> Translation:
    def translate(
        op: Nodes, out: Result, x: Any, dim: Any = None, keepdim: bool = False, **_: Any
    ) -> Value:
        axes = range(len(x.shape)) if dim is None else [dim] if isinstance(dim, int) else dim
        values = cast(op, x, out.dtype)
        node: Value = getattr(op, op_type)(values, list(axes), keepdims=int(keepdim))
        return node

    return translate


def _any(op: Nodes, out: Result, x: Any, dim: int, keepdim: bool = False) -> Value:
    found = op.ReduceMax(op.Cast(x, to=ELEMENT[torch.float32]), [dim], keepdims=int(keepdim))
    return op.Cast(found, to=ELEMENT[torch.bool])


def _reordered(method: Callable[..., Tensor], op: Nodes, out: Result, x: Any, *how: Any) -> Value:
    """A transposition; the order of the axes is read off a tensor whose sizes tell them apart."""
    rank = len(x.shape)
    marked = method(torch.empty(tuple(range(2, rank + 2)), device="meta"), *how)
    perm = [size - 2 for size in marked.shape]
    return op.value(x) if perm == [*range(rank)] else op.Transpose(x, perm=perm)


def _swapped(op_type: str) -> Translation:
    """Operators of Python whose operands come in reverse: y - x for ``x.__rsub__(y)``."""

    def translate(op: Nodes, out: Result, x: Any, y: Any) -> Value:
        node: Value = getattr(op, op_type)(cast(op, y, out.dtype), cast(op, x, out.dtype))
        return node

    return translate


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
        x = op.Slice(x, begin, end, list(cut))
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


def _to(op: Nodes, out: Result, x: Any, *_: Any, **__: Any) -> Value:
    return cast(op, x, out.dtype)


def _where(op: Nodes, out: Result, condition: Any, x: Any, y: Any) -> Value:
    return op.Where(condition, cast(op, x, out.dtype), cast(op, y, out.dtype))


def _masked_fill(op: Nodes, out: Result, x: Any, mask: Any, value: float) -> Value:
    return op.Where(mask, cast(op, value, out.dtype), x)


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


def _argmax(op: Nodes, out: Result, x: Any, dim: int) -> Value:
    return op.ArgMax(x, axis=dim, keepdims=0)


def _index_select(op: Nodes, out: Result, x: Any, dim: int, index: Any) -> Value:
    return op.Gather(x, index, axis=dim)


def _gather(op: Nodes, out: Result, x: Any, dim: int, index: Any) -> Value:
    return op.GatherElements(x, index, axis=dim)


def _cumsum(op: Nodes, out: Result, x: Any, dim: int) -> Value:
    return op.CumSum(cast(op, x, out.dtype), np.array(dim))


def _linear(op: Nodes, out: Result, x: Any, weight: Any, bias: Any = None) -> Value:
    turned = weight.mT if isinstance(weight, Tensor) else op.Transpose(weight, perm=[1, 0])
    product = op.MatMul(x, turned)
    return product if bias is None else op.Add(product, bias)


def _einsum(op: Nodes, out: Result, equation: str, *operands: Any) -> Value:
    return op.Einsum(*operands, equation=equation)


def _softmax(op: Nodes, out: Result, x: Any, dim: int) -> Value:
    return op.Softmax(x, axis=dim)


def _log_softmax(op: Nodes, out: Result, x: Any, dim: int) -> Value:
    return op.LogSoftmax(x, axis=dim)


def _layer_norm(op: Nodes, out: Result, x: Any, shape: Sequence[int], **how: Any) -> Value:
    if how.get("weight") is not None or how.get("bias") is not None:
        raise ValueError("only a normalisation without scale and shift is exported")
    scale = np.ones(tuple(shape), np.float32)
    return op.LayerNormalization(x, scale, axis=-len(shape), epsilon=how["eps"])


def _diag_embed(op: Nodes, out: Result, x: Any) -> Value:
    inside = np.eye(out.shape[-1], dtype=bool)
    return op.Where(inside, op.Unsqueeze(x, [-1]), op.constant(0.0, out.dtype))


def _clamp(op: Nodes, out: Result, x: Any, low: Any = None, high: Any = None) -> Value:
    bounds = [None if bound is None else cast(op, bound, out.dtype) for bound in (low, high)]
    return op.Clip(x, *bounds)


def _clamp_max(op: Nodes, out: Result, x: Any, high: Any) -> Value:
    return _clamp(op, out, x, None, high)


def _square(op: Nodes, out: Result, x: Any) -> Value:
    return op.Mul(x, x)


def _rsqrt(op: Nodes, out: Result, x: Any) -> Value:
    return op.Reciprocal(op.Sqrt(x))


def _log1p(op: Nodes, out: Result, x: Any) -> Value:
    return op.Log(op.Add(x, op.constant(1.0, out.dtype)))


def _log_sigmoid(op: Nodes, out: Result, x: Any) -> Value:
    return op.Neg(softplus(op, out, op.Neg(x)))


def _logit(op: Nodes, out: Result, x: Any, eps: float | None = None) -> Value:
    if eps is not None:
        x = _clamp(op, out, x, eps, 1 - eps)
    return op.Log(op.Div(x, op.Sub(op.constant(1.0, out.dtype), x)))


def _normal_cdf(op: Nodes, out: Result, x: Any) -> Value:
    half, root = op.constant(0.5, out.dtype), op.constant(math.sqrt(0.5), out.dtype)
    return op.Add(half, op.Mul(half, op.Erf(op.Mul(x, root))))


# erfc(z) = t exp(-z^2 + polynomial(t)), t = 1 / (1 + z / 2), to 1.2e-7 of its value (Numerical
# Recipes, 6.2.2): its logarithm is exact in the far tail, where ONNX's Erf has nothing left.
_ERFC = (
    *(-1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806),
    *(0.27886807, -1.13520398, 1.48851587, -0.82215223, 0.17087277),
)


def _log_normal_cdf(op: Nodes, out: Result, x: Any) -> Value:
    def number(value: float) -> Value:
        return op.constant(value, out.dtype)

    z = op.Mul(op.Abs(x), number(math.sqrt(0.5)))
    t = op.Reciprocal(op.Add(number(1.0), op.Mul(z, number(0.5))))
    series = number(_ERFC[-1])
    for coefficient in _ERFC[-2::-1]:
        series = op.Add(number(coefficient), op.Mul(t, series))
    tail = op.Add(op.Log(op.Mul(t, number(0.5))), op.Sub(series, op.Mul(z, z)))  # log of P(Z > |x|)
    above = op.Log(op.Sub(number(1.0), op.Exp(tail)))
    return op.Where(op.Less(x, number(0.0)), tail, above)


_ELEMENTWISE = {
    "Add": "add __radd__",
    "Sub": "sub",
    "Mul": "mul __rmul__",
    "Div": "div true_divide floor_divide __floordiv__",  # of whole numbers >= 0, as C divides
    "Pow": "pow __pow__",
    "Mod": "remainder",
    "Max": "maximum clamp_min",
    "Min": "minimum",
    "MatMul": "matmul __matmul__",
    "And": "__and__ logical_and",
    "Or": "__or__ logical_or",
    "Not": "__invert__ logical_not bitwise_not",
    "Abs": "abs",
    "Erf": "erf",
    "Exp": "exp",
    "Log": "log",
    "Neg": "neg",
    "Reciprocal": "reciprocal",
    "Sign": "sign",
    "Sqrt": "sqrt",
    "Tanh": "tanh",
}
_COMPARISONS = {
    "Greater": "gt __gt__",
    "GreaterOrEqual": "ge __ge__",
    "Less": "lt __lt__",
    "LessOrEqual": "le __le__",
    "Equal": "eq __eq__",
}
_REDUCTIONS = {"ReduceSum": "sum", "ReduceMean": "mean", "ReduceMin": "amin", "ReduceMax": "amax"}
_REORDERED: dict[str, Callable[..., Tensor]] = {
    "permute": Tensor.permute,
    "transpose": Tensor.transpose,
    "movedim": Tensor.movedim,
    "mT": lambda x: x.mT,
}
_OTHERS: dict[str, Translation] = {
    "__rsub__": _swapped("Sub"),
    "__rdiv__": _swapped("Div"),
    "__rpow__": _swapped("Pow"),
    "ne": lambda op, out, x, y: op.Not(_comparison("Equal")(op, out, x, y)),
    "any": _any,
    "arange": _arange,
    "argmax": _argmax,
    "cat": _cat,
    "clamp": _clamp,
    "clamp_max": _clamp_max,
    "cumsum": _cumsum,
    "diag_embed": _diag_embed,
    "diagonal": diagonal,
    "double": _to,
    "einsum": _einsum,
    "elu": elu,
    "expand": _expand,
    "expand_as": _like_shape(_expand),
    "flatten": lambda op, out, x, *_: _reshape(op, out, x),
    "flip": _flip,
    "float": _to,
    "full_like": _full_like,
    "gather": _gather,
    "__getitem__": _getitem,
    "index_select": _index_select,
    "isinf": lambda op, out, x: op.IsInf(x),
    "isnan": lambda op, out, x: op.IsNaN(x),
    "layer_norm": _layer_norm,
    "linear": _linear,
    "log1p": _log1p,
    "log_softmax": _log_softmax,
    "logit": _logit,
    "log_sigmoid": _log_sigmoid,
    "long": _to,
    "masked_fill": _masked_fill,
    "new_ones": _new_ones,
    "ones_like": _filled(1.0),
    "pad": _pad,
    "reshape": _reshape,
    "rsqrt": _rsqrt,
    "sigmoid": sigmoid,
    "silu": lambda op, out, x, inplace=False: op.Mul(x, sigmoid(op, out, x)),
    "softmax": _softmax,
    "softplus": softplus,
    "special_log_ndtr": _log_normal_cdf,
    "special_ndtr": _normal_cdf,
    "split": _split,
    "square": _square,
    "squeeze": _squeeze,
    "stack": _stack,
    "to": _to,
    "unbind": _unbind,
    "unflatten": _unflatten,
    "unsqueeze": _unsqueeze,
    "view": _reshape,
    "view_as": _like_shape(_reshape),
    "where": _where,
    "zeros_like": _filled(0.0),
}
