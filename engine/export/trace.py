"""Tracing: what a module computes from its inputs, as an ONNX graph.

The module runs once as it is, under a mode that is given every call of a torch function. The call
is carried out on two examples of the inputs at once, which differ in the size of every dynamic
axis: a size that differs between them is dynamic, and enters the graph as the shape of a tensor;
all else is the same for every input, and enters the graph as a constant. What does not depend on
the inputs is computed while tracing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from causalmmm.engine.export.nodes import Nodes, Value
from causalmmm.engine.ops.scan import State, Step, roll

Translation = Callable[..., Any]
# Called as they are: what they give is no tensor, or nothing at all.
_PASSED = {
    *("device", "dtype", "is_cuda", "is_floating_point", "ndim", "dim"),
    *("_set_grad_enabled", "requires_grad", "requires_grad_"),
}
_SAME_TENSOR = {"detach", "contiguous", "clone"}
_LARGE = 1 << 13  # elements of an example


class Axis(int):
    """Size of a dynamic axis: its size in the first example, in the other, and as a value."""

    other: int
    _value: Callable[[], Value] | None

    def __new__(cls, size: int, other: int, value: Callable[[], Value] | None = None) -> Axis:
        axis = super().__new__(cls, size)
        axis.other, axis._value = other, value
        return axis

    @property
    def value(self) -> Value:
        """int64 [1]."""
        if self._value is None:
            raise TypeError("the size of a result is not known before it is computed")
        return self._value()

    def _combined(self, op_type: str, x: Any, y: Any, size: int, other: int) -> int:
        def value() -> Value:
            op = _current[-1].op
            return getattr(op, op_type)(*(z.value if isinstance(z, Axis) else [z] for z in (x, y)))

        return size if size == other and op_type == "Sub" else Axis(size, other, value)

    def __add__(self, x: Any) -> Any:
        if not isinstance(x, int):
            return NotImplemented
        return self._combined("Add", self, x, int(self) + int(x), self.other + second(x))

    def __sub__(self, x: Any) -> Any:
        if not isinstance(x, int):
            return NotImplemented
        return self._combined("Sub", self, x, int(self) - int(x), self.other - second(x))

    def __rsub__(self, x: Any) -> Any:
        if not isinstance(x, int):
            return NotImplemented
        return self._combined("Sub", x, self, x - int(self), x - self.other)

    def __mul__(self, x: Any) -> Any:
        if not isinstance(x, int):
            return NotImplemented
        return self._combined("Mul", self, x, int(self) * int(x), self.other * second(x))

    def __floordiv__(self, x: Any) -> Any:
        if not isinstance(x, int):
            return NotImplemented
        return self._combined("Div", self, x, int(self) // int(x), self.other // second(x))

    __radd__, __rmul__ = __add__, __mul__

    def _compared(self, x: Any, test: str) -> Any:
        if not isinstance(x, int):
            return NotImplemented
        first = getattr(int(self), test)(int(x))
        if first != getattr(self.other, test)(second(x)):
            raise TypeError(f"the computation depends on a dynamic axis: {test} of {x}")
        return first

    def __eq__(self, x: Any) -> Any:
        return self._compared(x, "__eq__")

    def __ne__(self, x: Any) -> Any:
        return self._compared(x, "__ne__")

    def __lt__(self, x: Any) -> Any:
        return self._compared(x, "__lt__")

    def __le__(self, x: Any) -> Any:
        return self._compared(x, "__le__")

    def __gt__(self, x: Any) -> Any:
        return self._compared(x, "__gt__")

    def __ge__(self, x: Any) -> Any:
        return self._compared(x, "__ge__")

    def _no_number(self, *_: Any) -> Any:
        raise TypeError("the size of a dynamic axis cannot enter the graph as a number")

    __hash__ = int.__hash__
    __float__ = __truediv__ = __rtruediv__ = __rfloordiv__ = __mod__ = _no_number


def second(size: int) -> int:
    """A size in the other example."""
    return size.other if isinstance(size, Axis) else int(size)


def same_size(x: int, y: int) -> bool:
    """Whether two sizes are the same in both examples."""
    return int(x) == int(y) and second(x) == second(y)


def shape_of(first: Tensor, other: Tensor, value: Value | None = None) -> tuple[int, ...]:
    """Sizes of a tensor; those of dynamic axes are known in the graph if the tensor's value is."""

    def size(axis: int) -> int:
        a, b = first.size(axis), other.size(axis)
        if a == b:
            return a
        if value is None:
            return Axis(a, b)
        return Axis(a, b, lambda: _current[-1].op.Shape(value, start=axis, end=axis + 1))

    return tuple(size(axis) for axis in range(first.dim()))


@dataclass
class _Traced:
    """A tensor that depends on the inputs: in both examples, and in the graph."""

    first: Tensor
    other: Tensor
    value: Value


@dataclass
class Result:
    """Dtype and shape of what a call gives, for its translation."""

    dtype: torch.dtype
    shape: tuple[int, ...]


class Trace(TorchFunctionMode):
    """Records calls of torch functions as nodes.

    translations  by function, or by the name of a function of torch: called with the nodes, the
                  results (a ``Result``, or a list of them) and the arguments of the call, in which
                  tensors that depend on the inputs are ``Value``; gives the value or values.
    replaced      functions whose calls are those of another: what that one calls is recorded.
    examples      of functions translated as a whole: what they give, in shape and dtype.
    """

    def __init__(
        self,
        translations: Mapping[Any, Translation],
        replaced: Mapping[Any, Callable[..., Any]],
        examples: Mapping[Any, Callable[..., Any]],
    ) -> None:
        super().__init__()
        self.op = Nodes()
        self._translations, self._replaced, self._examples = translations, replaced, examples
        self._traced: dict[int, _Traced] = {}

    def __enter__(self) -> Trace:
        _current.append(self)
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        _current.pop()

    def enter(self, first: Tensor, other: Tensor, value: Value) -> Tensor:
        """``first`` as a tensor that depends on the inputs, ``other`` in the other example."""
        known = Value(value.name, first.dtype, shape_of(first, other, value))
        self._traced[id(first)] = _Traced(first, other, known)
        return first

    def value(self, tensor: Tensor) -> Value:
        """The value of a tensor of the traced computation."""
        traced = self._traced.get(id(tensor))
        return self.op.value(tensor) if traced is None else traced.value

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = _name(function)
        if function is roll:
            return self._roll(*args)
        if name == "device" and id(args[0]) in self._traced:
            return torch.device("cpu")  # where constants are made that go with it
        if name in _PASSED or not self._depends((args, kwargs)):
            return function(*args, **kwargs)
        if name in ("shape", "size"):
            shape = self.value(args[0]).shape
            assert shape is not None
            return shape[args[1]] if len(args) > 1 else shape
        if name == "__len__":
            return _static(self.value(args[0]).shape)
        if function in self._replaced:
            with self:
                return self._replaced[function](*args, **kwargs)
        if name in _SAME_TENSOR:
            return args[0]
        translate = self._translations.get(function) or self._translations.get(name)
        if translate is None:
            raise NotImplementedError(f"no ONNX form of torch function '{name}' is known here")
        return self._translated(translate, self._examples.get(function, function), args, kwargs)

    def _translated(self, translate: Translation, example: Any, args: Any, kwargs: Any) -> Any:
        first = _carried_out(example, self._first(args), self._first(kwargs))
        if isinstance(first, Tensor) and id(first) in self._traced:
            return first  # the function gave one of its arguments
        other = _carried_out(example, self._other(args), self._other(kwargs))
        several = not isinstance(first, Tensor)
        pairs = list(zip(first, other, strict=True)) if several else [(first, other)]
        results = [Result(a.dtype, shape_of(a, b)) for a, b in pairs]
        values = translate(
            self.op, results if several else results[0], *self._values(args), **self._values(kwargs)
        )
        values = values if several else [values]
        tensors = [self.enter(*pair, value) for pair, value in zip(pairs, values, strict=True)]
        return tuple(tensors) if several else tensors[0]

    def _roll(self, step: Step, state: State, inputs: State) -> State:
        """``roll`` as one ``Scan``, whose body is one step."""
        states = [self.pair(x) for x in state]
        rows = [self.pair(x) for x in inputs]
        length = rows[0][0].shape[0], rows[0][1].shape[0]
        shapes: list[tuple[Tensor, Tensor]] = []

        def body(op: Nodes, before: Sequence[Value], now: Sequence[Value]) -> Any:
            outer, self.op = self.op, op
            try:
                entered = [
                    self.enter(a.clone(), b.clone(), value)
                    for (a, b), value in zip(
                        [*states, *((a[0], b[0]) for a, b in rows)], [*before, *now], strict=True
                    )
                ]
                with self:
                    after, outputs = step(
                        tuple(entered[: len(states)]), tuple(entered[len(states) :])
                    )
                shapes.extend(self.pair(x) for x in outputs)
                return [self._typed(x) for x in after], [self._typed(x) for x in outputs]
            finally:
                self.op = outer

        values = self.op.scan(
            body,
            [(self.value(x), x.dtype, x.dim()) for x in state],
            [(self.value(x), x.dtype, x.dim()) for x in inputs],
        )[len(state) :]
        return tuple(
            self.enter(a.new_ones(length[0], *a.shape), b.new_ones(length[1], *b.shape), value)
            for (a, b), value in zip(shapes, values, strict=True)
        )

    def _typed(self, tensor: Tensor) -> Value:
        value = self.value(tensor)
        return Value(value.name, tensor.dtype, tuple(tensor.shape))

    def pair(self, tensor: Tensor) -> tuple[Tensor, Tensor]:
        """A tensor in both examples."""
        traced = self._traced.get(id(tensor))
        return (tensor, tensor) if traced is None else (traced.first, traced.other)

    def _depends(self, tree: Any) -> bool:
        return any(
            isinstance(x, Axis) or (isinstance(x, Tensor) and id(x) in self._traced)
            for x in _leaves(tree)
        )

    def _first(self, tree: Any) -> Any:
        return _mapped(tree, lambda x: int(x) if isinstance(x, Axis) else x)

    def _other(self, tree: Any) -> Any:
        def other(x: Any) -> Any:
            return x.other if isinstance(x, Axis) else self.pair(x)[1] if _is_tensor(x) else x

        return _mapped(tree, other)

    def _values(self, tree: Any) -> Any:
        def value(x: Any) -> Any:
            return self._traced[id(x)].value if _is_tensor(x) and id(x) in self._traced else x

        return _mapped(tree, value)


def _carried_out(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """What a function gives, in shape and dtype: examples are computed while they are small, which
    is quicker; of large ones only shapes are worked out (torch's device "meta")."""
    tensors = [x for x in _leaves((args, kwargs)) if _is_tensor(x)]
    if any(x.is_meta for x in tensors) or sum(x.numel() for x in tensors) > _LARGE:
        args, kwargs = _mapped((args, kwargs), lambda x: x.to("meta") if _is_tensor(x) else x)
    result = function(*args, **kwargs)

    def kept(x: Any) -> Any:
        if not _is_tensor(x) or x.is_meta == (x.numel() > _LARGE):
            return x
        return torch.ones(x.shape, dtype=x.dtype, device="cpu" if x.is_meta else "meta")

    return _mapped(result, kept)


_current: list[Trace] = []  # the traces at work, innermost last: sizes add their nodes to it


def _is_tensor(x: Any) -> bool:
    return isinstance(x, Tensor)


def _static(shape: Any) -> int:
    if isinstance(shape[0], Axis):
        raise TypeError("len() of a dynamic axis: take it from the shape")
    return int(shape[0])


def _name(function: Any) -> str:
    """'shape' for the getter of Tensor.shape, else the function's own name."""
    name = getattr(function, "__name__", str(function))
    return str(function.__self__.__name__) if name == "__get__" else name


def _mapped(tree: Any, change: Callable[[Any], Any]) -> Any:
    """The same lists, tuples, dicts and slices with changed leaves."""
    if isinstance(tree, dict):
        return {key: _mapped(value, change) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_mapped(value, change) for value in tree)
    if isinstance(tree, slice):
        return slice(*(change(x) for x in (tree.start, tree.stop, tree.step)))
    return change(tree)


def _leaves(tree: Any) -> Iterable[Any]:
    if isinstance(tree, dict):
        tree = tuple(tree.values())
    if isinstance(tree, slice):
        tree = (tree.start, tree.stop, tree.step)
    if not isinstance(tree, list | tuple):
        return [tree]
    return (leaf for branch in tree for leaf in _leaves(branch))
