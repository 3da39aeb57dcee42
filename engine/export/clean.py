"""Clean-up of a graph: nothing that no output needs, and values numbered in order."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import onnx

from causalmmm.engine.export.branches import bodies, captured, needed, wires_of


def clean(graph: onnx.GraphProto) -> None:
    """Drop what no output needs, and number all values but inputs and outputs; in place."""
    _drop_unneeded(graph)
    used = set().union(*(captured(node) for node in graph.node))
    kept = [
        onnx.TensorProto.FromString(value.SerializeToString())
        for value in graph.initializer
        if value.name in used
    ]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    public = {value.name for value in (*graph.input, *graph.output)}
    _number(graph, {}, public, count())


def _drop_unneeded(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        for body in bodies(node):
            _drop_unneeded(body)
    positions = needed(wires_of(graph), [value.name for value in graph.output])
    kept = [onnx.NodeProto.FromString(graph.node[k].SerializeToString()) for k in sorted(positions)]
    del graph.node[:]
    graph.node.extend(kept)


def _number(
    graph: onnx.GraphProto, outer: dict[str, str], public: set[str], numbers: Iterator[int]
) -> None:
    names = outer.copy()

    def fresh(old: str) -> str:
        names[old] = old if old in public else f"v{next(numbers)}"
        return names[old]

    for value in (*graph.input, *graph.initializer):
        value.name = fresh(value.name)
    for node in graph.node:
        node.input[:] = [names[name] if name else "" for name in node.input]
        for body in bodies(node):
            _number(body, names, set(), numbers)
        node.output[:] = [fresh(name) if name else "" for name in node.output]
    for value in graph.output:
        value.name = names[value.name]
