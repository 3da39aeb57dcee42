"""ONNX graphs as they are built: ``op.MatMul(a, b)`` adds a node and gives its output.

Knows ONNX and arrays only; what a torch function becomes is in ``functions`` and ``operators``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper
from torch import Tensor

ELEMENT = {
    torch.float32: onnx.TensorProto.FLOAT,
    torch.float64: onnx.TensorProto.DOUBLE,
    torch.int64: onnx.TensorProto.INT64,
    torch.bool: onnx.TensorProto.BOOL,
}
LAST = 2**63 - 1  # end of a slice that goes as far as its axis


@dataclass(frozen=True)
class Value:
    """A tensor of the graph by name, with dtype and shape where a translation needs them."""

    name: str
    dtype: torch.dtype | None = None
    shape: tuple[int, ...] | None = None


@dataclass
class Nodes:
    """The nodes of a graph, or of the body of a ``Scan`` in it, in order.

    A node that computes what an earlier one does is not added again: the output of the earlier one
    is given. Constants are initializers of the outermost graph, where bodies find them too.
    """

    outer: Nodes | None = None
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[tuple[Any, ...], onnx.TensorProto] = field(default_factory=dict)
    _computed: dict[bytes, list[Value]] = field(default_factory=dict)

    def __getattr__(self, op_type: str) -> Callable[..., Value]:
        if not op_type[0].isupper():
            raise AttributeError(op_type)

        def add(*inputs: Any, **attributes: Any) -> Value:
            return self.add(op_type, inputs, attributes, 1)[0]

        return add

    def add(
        self, op_type: str, inputs: Sequence[Any], attributes: dict[str, Any], outputs: int
    ) -> list[Value]:
        """Outputs of a new node. An input is a value, an array or a list of integers, or None."""
        names = ["" if x is None else self.value(x).name for x in inputs]
        while not names[-1]:
            names.pop()  # inputs that are left out at the end are not named at all
        node = helper.make_node(op_type, names, [], **attributes)
        key = node.SerializeToString(deterministic=True)
        graph: Nodes | None = self
        while graph is not None:
            if key in graph._computed:
                return graph._computed[key]
            graph = graph.outer
        values = [Value(self._name(len(self.nodes), k)) for k in range(outputs)]
        node.output.extend(value.name for value in values)
        self.nodes.append(node)
        self._computed[key] = values
        return values

    def value(self, x: Any) -> Value:
        """A value as it is; a tensor, an array or a list of integers as a constant."""
        if isinstance(x, Value):
            return x
        array = x.detach().numpy() if isinstance(x, Tensor) else np.asarray(x)
        return self.constant(array)

    def constant(self, array: Any, dtype: torch.dtype | None = None) -> Value:
        """A constant from a number or an array; from a float without dtype it is float32."""
        if self.outer is not None:
            return self.outer.constant(array, dtype)
        if dtype is None and isinstance(array, float):
            dtype = torch.float32
        kind = None if dtype is None else torch.empty(0, dtype=dtype).numpy().dtype
        array = np.array(array, dtype=kind, order="C")
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self.constants:
            name = f"c{len(self.constants)}"
            self.constants[key] = onnx.numpy_helper.from_array(array, name)
        dtype = torch.from_numpy(array).dtype if array.ndim else torch.tensor(array).dtype
        return Value(self.constants[key].name, dtype, array.shape)

    def split(self, x: Any, count: int, axis: int) -> list[Value]:
        """``count`` equal parts of ``x`` along an axis."""
        if count == 1:
            return [x]
        return self.add("Split", [x], {"num_outputs": count, "axis": axis}, count)

    def scan(
        self,
        body: Callable[..., tuple[Sequence[Value], Sequence[Value]]],
        state: Sequence[tuple[Value, torch.dtype, int]],
        inputs: Sequence[tuple[Value, torch.dtype, int]],
    ) -> list[Value]:
        """Last states, then outputs along a new axis 0, of a recurrence over axis 0 of ``inputs``.

        ``body(op, states, rows)`` gives the next states, and the outputs of one step; both come
        with dtype and shape. States and inputs are given as value, dtype and number of axes. All
        bodies declare the rank of what they take and give, which runtimes need if they do not
        infer shapes.
        """
        inner = Nodes(outer=self)
        depth = self._depth() + 1
        taken = [
            Value(f"s{depth}.{k}", dtype, (None,) * (rank - (k >= len(state))))  # type: ignore[arg-type]
            for k, (_, dtype, rank) in enumerate([*state, *inputs])
        ]
        after, outputs = body(inner, taken[: len(state)], taken[len(state) :])
        given, names = [], {value.name for value in taken}
        produced = {name for node in inner.nodes for name in node.output}
        for value in (*after, *outputs):
            name = value.name
            if name in names or name not in produced:
                name = inner._named_copy(value)
            names.add(name)
            given.append(_declared(name, value))
        graph = helper.make_graph(inner.nodes, "body", [_declared(v.name, v) for v in taken], given)
        arguments = [value for value, _, _ in (*state, *inputs)]
        attributes = {"body": graph, "num_scan_inputs": len(inputs)}
        return self.add("Scan", arguments, attributes, len(given))

    def _named_copy(self, value: Value) -> str:
        """Name of a copy that no other node shares: an output of a body must be its own."""
        name = self._name(len(self.nodes), 0)
        self.nodes.append(helper.make_node("Identity", [value.name], [name]))
        return name

    def _name(self, node: int, output: int) -> str:
        """Names in a body depend on the body alone, so that equal bodies are equal."""
        return f"n{self._depth()}.{node}.{output}"

    def _depth(self) -> int:
        return 0 if self.outer is None else 1 + self.outer._depth()


def _declared(name: str, value: Value) -> onnx.ValueInfoProto:
    assert value.dtype is not None
    assert value.shape is not None
    return helper.make_tensor_value_info(name, ELEMENT[value.dtype], [None] * len(value.shape))
