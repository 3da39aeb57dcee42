"""Clean-up of a traced ONNX graph: stable names, no duplicates, no traces of its origin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import onnx

_RANDOM = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike")
Axes = Mapping[str, Sequence[str]]


def clean(graph: onnx.GraphProto, inputs: Axes, outputs: Axes) -> None:
    """Number all values in order, and name the axes of inputs and outputs; in place.

    Source paths, stack traces and intermediate shapes are dropped; runtimes infer shapes again.
    """
    _share_constants(graph)
    merge_equal(graph)
    numbers = count()
    public = {value.name: name for value, name in zip(graph.input, inputs, strict=True)}
    public |= {value.name: name for value, name in zip(graph.output, outputs, strict=True)}
    _rename(graph, {}, public, numbers)
    graph.name = "causalmmm"
    for value in (*graph.input, *graph.output):
        axes = {**inputs, **outputs}[value.name]
        for dimension, axis in zip(value.type.tensor_type.shape.dim, axes, strict=True):
            if not dimension.HasField("dim_value"):
                dimension.dim_param = axis


def _rename(
    graph: onnx.GraphProto, outer: dict[str, str], public: dict[str, str], numbers: Iterator[int]
) -> None:
    names = outer.copy()

    def fresh(old: str) -> str:
        names[old] = public.get(old) or f"v{next(numbers)}"
        return names[old]

    del graph.value_info[:], graph.metadata_props[:]
    graph.doc_string = ""
    for value in (*graph.input, *graph.initializer):
        value.name = fresh(value.name)
        value.doc_string = ""
        if isinstance(value, onnx.ValueInfoProto):
            del value.metadata_props[:]
    for node in graph.node:
        node.name, node.doc_string = "", ""
        del node.metadata_props[:]
        node.input[:] = [names[name] if name else "" for name in node.input]
        for body in _bodies(node):
            _rename(body, names, {}, numbers)
        node.output[:] = [fresh(name) if name else "" for name in node.output]
    for value in graph.output:
        value.name = names[value.name]
        value.doc_string = ""
        del value.metadata_props[:]


def _share_constants(graph: onnx.GraphProto) -> None:
    """Keep one of equal initializers, so that ``merge_equal`` recognises what they enter."""
    replaced: dict[str, str] = {}
    first_name: dict[bytes, str] = {}
    kept = []
    for value in graph.initializer:
        name, value.name, value.doc_string = value.name, "", ""
        key = value.SerializeToString(deterministic=True)
        value.name = name
        if first_name.setdefault(key, name) == name:
            kept.append(value)
        else:
            replaced[name] = first_name[key]
    copies = [onnx.TensorProto.FromString(value.SerializeToString()) for value in kept]
    del graph.initializer[:]
    graph.initializer.extend(copies)
    for node in graph.node:
        _replace(node, replaced)


def merge_equal(graph: onnx.GraphProto) -> None:
    """Common subexpression elimination that, unlike the usual passes, includes ``Scan`` nodes."""
    replaced: dict[str, str] = {}
    computed: dict[bytes, Sequence[str]] = {}
    kept = []
    for node in graph.node:
        _replace(node, replaced)
        key = _expression(node)
        if node.op_type in _RANDOM or key not in computed:
            computed[key] = list(node.output)
            kept.append(node)
        else:
            replaced |= dict(zip(node.output, computed[key], strict=True))
    del graph.node[:]
    graph.node.extend(kept)
    for value in graph.output:
        value.name = replaced.get(value.name, value.name)


def _replace(node: onnx.NodeProto, replaced: Mapping[str, str]) -> None:
    """Rename inputs of a node, and names that its subgraphs capture."""
    node.input[:] = [replaced.get(name, name) for name in node.input]
    for body in _bodies(node):
        for inner in body.node:
            _replace(inner, replaced)


def _expression(node: onnx.NodeProto) -> bytes:
    """Key of what a node computes: equal for nodes that differ only in names of their own."""
    normal = onnx.NodeProto()
    normal.CopyFrom(node)
    for body in _bodies(normal):
        _rename(body, _Outside(), {}, count())
    normal.output[:] = [f"out{k}" if name else "" for k, name in enumerate(node.output)]
    normal.name, normal.doc_string = "", ""
    del normal.metadata_props[:]
    return normal.SerializeToString(deterministic=True)


class _Outside(dict[str, str]):
    """Renaming that keeps names captured from outside a subgraph."""

    def copy(self) -> _Outside:
        return _Outside(self)

    def __missing__(self, name: str) -> str:
        return f"outer {name}"


def _bodies(node: Any) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        attribute.doc_string = ""
        if attribute.type == onnx.AttributeProto.GRAPH:
            attribute.g.name = "body"
            yield attribute.g
