"""Optional outputs of a graph: computed only on request, inside ``If`` nodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx
from onnx import helper


def make_optional(
    graph: onnx.GraphProto, condition: str, outputs: Sequence[str]
) -> onnx.GraphProto:
    """Compute ``outputs``, and what only they need, if the bool scalar ``condition`` is true.

    Otherwise they are empty, with the same number of axes. Changes the graph in place. Returns the
    branch that computes them, whose outputs are named ``then(name)``.
    """
    others = [value.name for value in graph.output if value.name not in outputs]
    wires = wires_of(graph)
    conditional, unconditional = needed(wires, outputs), needed(wires, [*others, condition])
    inside = conditional - unconditional
    optional = [value for value in graph.output if value.name in outputs]
    branch = helper.make_graph([graph.node[k] for k in sorted(inside)], "then", [], [])
    otherwise = helper.make_graph([], "else", [], [])
    for value in optional:
        for body, name in ((branch, then(value.name)), (otherwise, f"{value.name}_else")):
            inner = body.output.add()
            inner.name = name
            inner.type.tensor_type.elem_type = value.type.tensor_type.elem_type
            for _ in value.type.tensor_type.shape.dim:
                inner.type.tensor_type.shape.dim.add()
        rank = len(value.type.tensor_type.shape.dim)
        empty = helper.make_tensor("", value.type.tensor_type.elem_type, [0] * rank, [])
        otherwise.node.append(helper.make_node("Constant", [], [f"{value.name}_else"], value=empty))
    names = {value.name for value in optional}
    for node in branch.node:
        for values in (node.input, node.output):
            if not names.isdisjoint(values):
                values[:] = [then(name) if name in names else name for name in values]
    choice = helper.make_node(
        "If",
        [condition],
        [value.name for value in optional],
        then_branch=branch,
        else_branch=otherwise,
    )
    outside = [node for k, node in enumerate(graph.node) if k not in inside]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in [*outside, choice]]
    del graph.node[:]
    graph.node.extend(copies)
    return next(part.g for part in graph.node[-1].attribute if part.name == "then_branch")


def then(name: str) -> str:
    """Name of an optional output inside the branch that computes it."""
    return f"{name}_then"


Wires = list[tuple[set[str], list[str]]]  # names that each node of a graph reads and writes


def wires_of(graph: onnx.GraphProto) -> Wires:
    return [(captured(node), list(node.output)) for node in graph.node]


def needed(wires: Wires, names: Iterable[str]) -> set[int]:
    """Positions of the nodes on which the named values depend."""
    wanted, positions = set(names), set()
    for k in reversed(range(len(wires))):
        reads, writes = wires[k]
        if not wanted.isdisjoint(writes):
            positions.add(k)
            wanted |= reads
    return positions


def captured(node: onnx.NodeProto) -> set[str]:
    """Names that a node reads from its graph, including those that its subgraphs capture."""
    names = set(node.input)
    for body in bodies(node):
        local = {value.name for value in (*body.input, *body.initializer)}
        for inner in body.node:
            names.update([name for name in captured(inner) if name not in local])
            local.update(inner.output)
    return names


def bodies(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs inside a node: the body of a ``Scan``, the branches of an ``If``."""
    if node.op_type not in ("Scan", "If"):  # most nodes by far: their attributes are not looked at
        return []
    return [part.g for part in node.attribute if part.type == onnx.AttributeProto.GRAPH]
