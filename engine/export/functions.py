"""What functions of torch that calculate become in a graph: only those that the model uses.

A translation is called with the nodes, the dtype and shape of the result, and the arguments of the
call (``trace.Trace``). Functions that move numbers about are in ``shapes``; anything that torch
knows and ONNX does not is in ``operators``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from causalmmm.engine.export.nodes import ELEMENT, Nodes, Value
from causalmmm.engine.export.operators import elu, sigmoid, softplus
from causalmmm.engine.export.shapes import Translation, cast
from causalmmm.engine.export.trace import Result


def translations() -> dict[str, Translation]:
    """By the name of a function or method of torch."""
    table: dict[str, Translation] = {}
    for op_type, names in _ELEMENTWISE.items():
        table |= {name: _elementwise(op_type) for name in names.split()}
    for op_type, names in _COMPARISONS.items():
        table |= {name: _comparison(op_type) for name in names.split()}
    for op_type, names in _REDUCTIONS.items():
        table |= {name: _reduction(op_type) for name in names.split()}
    return table | _OTHERS


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


def _swapped(op_type: str) -> Translation:
    """Operators of Python whose operands come in reverse: y - x for ``x.__rsub__(y)``."""

    def translate(op: Nodes, out: Result, x: Any, y: Any) -> Value:
        node: Value = getattr(op, op_type)(cast(op, y, out.dtype), cast(op, x, out.dtype))
        return node

    return translate


def _to(op: Nodes, out: Result, x: Any, *_: Any, **__: Any) -> Value:
    return cast(op, x, out.dtype)


def _where(op: Nodes, out: Result, condition: Any, x: Any, y: Any) -> Value:
    return op.Where(condition, cast(op, x, out.dtype), cast(op, y, out.dtype))


def _masked_fill(op: Nodes, out: Result, x: Any, mask: Any, value: float) -> Value:
    return op.Where(mask, cast(op, value, out.dtype), x)


def _argmax(op: Nodes, out: Result, x: Any, dim: int) -> Value:
    return op.ArgMax(x, axis=dim, keepdims=0)


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


def _clamp(op: Nodes, out: Result, x: Any, low: Any = None, high: Any = None) -> Value:
    bounds = [None if bound is None else cast(op, bound, out.dtype) for bound in (low, high)]
    return op.Clip(x, *bounds)


def _hardtanh(
    op: Nodes, out: Result, x: Any, min_val: float, max_val: float, inplace: bool
) -> Value:
    return _clamp(op, out, x, min_val, max_val)


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
_OTHERS: dict[str, Translation] = {
    "__rsub__": _swapped("Sub"),
    "__rdiv__": _swapped("Div"),
    "__rpow__": _swapped("Pow"),
    "ne": lambda op, out, x, y: op.Not(_comparison("Equal")(op, out, x, y)),
    "any": _any,
    "argmax": _argmax,
    "clamp": _clamp,
    "hardtanh": _hardtanh,
    "clamp_max": _clamp_max,
    "cumsum": _cumsum,
    "double": _to,
    "einsum": _einsum,
    "elu": elu,
    "float": _to,
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
    "rsqrt": _rsqrt,
    "sigmoid": sigmoid,
    "silu": lambda op, out, x, inplace=False: op.Mul(x, sigmoid(op, out, x)),
    "softmax": _softmax,
    "softplus": softplus,
    "special_log_ndtr": _log_normal_cdf,
    "special_ndtr": _normal_cdf,
    "square": _square,
    "to": _to,
    "where": _where,
}
