"""From a fitted model to an ONNX model: tracing, the way in for raw histories, a clean graph."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor
from torch.export import Dim

from causalmmm.engine.export.branches import make_optional
from causalmmm.engine.export.clean import clean
from causalmmm.engine.export.graph import CURVES, FORECASTS, INPUTS, OUTPUTS, ExportedModel
from causalmmm.engine.export.operators import translations
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.spec.calendar import CalendarSpec
from causalmmm.kernels.edge import ops, reference

OPSETS = (18, 20, 21)
SWITCH = "with_contributions"  # bool scalar

# What turns whole histories in user units into the traced model's window: its last rows, every
# series' mean size, and which series never fell below zero.
_WAY_IN = """
way_in (float[batch, time, series] history{more}, int64[batch, time] date)
 => (float[batch, series] scale)
<int64[1] begin = {{-{window}}}, int64[1] end = {{9223372036854775807}}, int64[1] axis = {{1}},
 float zero = {{0.0}}, float one = {{1.0}}>
{{
    absent = IsNaN(history)
    known = Where(absent, zero, history)
    size = Abs(known)
    total = ReduceSum <keepdims = 0> (size, axis)
    present = Not(absent)
    counted = Cast <to = 1> (present)
    count = ReduceSum <keepdims = 0> (counted, axis)
    mean = Div(total, count)
    moves = Greater(mean, zero)
    scale = Where(moves, mean, one)
    least = ReduceMin <keepdims = 0> (known, axis)
    floor = GreaterOrEqual(least, zero)
    {slices}
}}
"""


def build(
    model: CausalModel,
    calendar: CalendarSpec,
    *,
    window: int,
    draws: int,
    seed: int,
    horizon: int,
    opset: int = OPSETS[0],
) -> onnx.ModelProto:
    """The ONNX model of a fitted one, without metadata; see ``graph`` for inputs and outputs.

    window   rows of a history that are read, beside the scale, which all rows give.
    draws    futures behind a forecast; with ``seed`` they are those of ``simulate_futures``.
    horizon  most steps ahead.
    """
    if opset not in OPSETS:
        raise ValueError(f"opset is one of {OPSETS}, got {opset}")
    module = ExportedModel(model, calendar, draws=draws, seed=seed, horizon=horizon).eval()
    sample = _sample(model, len(calendar.control_mean), horizon)
    proto = _trace(module, sample, model.config.memory, horizon, opset)
    traced = {name: INPUTS[name] for name in sample}
    _lead_in(proto, traced, window)
    inputs = {name: axes for name, axes in traced.items() if name not in ("scale", "floor")}
    clean(proto.graph, inputs, OUTPUTS)
    _on_demand(proto.graph)
    plain = onnx.ModelProto(ir_version=proto.ir_version, producer_name="causalmmm")
    plain.opset_import.extend(sorted(proto.opset_import, key=lambda used: used.domain))
    plain.graph.CopyFrom(proto.graph)
    return plain


def _sample(model: CausalModel, controls: int, horizon: int) -> dict[str, Tensor]:
    """Inputs to trace with; every dynamic axis has a size of its own, none of them 1."""
    nodes = len(model.baseline.shared)
    features = model.decoder.context_slope.shape[1]
    sizes = {"batch": 3, "time": model.config.memory + 30, "horizon": min(5, horizon)}
    sizes |= {"level": 2, "point": 4, "series": nodes, "control": controls, "feature": features}
    sample = {}
    for name, axes in INPUTS.items():
        shape = [sizes[axis] for axis in axes]
        if 0 in shape:
            continue
        dates = name.endswith("date")
        sample[name] = torch.ones(shape, dtype=torch.int64 if dates else torch.float32)
    sample["floor"] = sample["floor"].bool()
    return sample


def _trace(
    module: ExportedModel, sample: dict[str, Tensor], memory: int, horizon: int, opset: int
) -> onnx.ModelProto:
    sizes: dict[str, Any] = {name: Dim(name) for name in ("batch", "level", "point")}
    sizes["time"] = Dim("time", min=memory + 2)
    sizes["horizon"] = Dim("horizon", max=horizon)
    dynamic = {
        name: {k: sizes[axis] for k, axis in enumerate(INPUTS[name]) if axis in sizes}
        for name in sample
    }
    with torch.no_grad(), _quietly(), _plain_edges():
        program = torch.export.export(module, (sample,), dynamic_shapes=(dynamic,), strict=False)
        traced = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=opset,
            custom_translation_table=translations(),
            verbose=False,
            optimize=False,  # onnxscript 0.7 turns uneven slices into even splits
        )
    assert traced is not None
    return traced.model_proto


def _lead_in(proto: onnx.ModelProto, traced: dict[str, Any], window: int) -> None:
    """Put the way in before the traced graph, some of whose inputs it gives."""
    graph = proto.graph
    inner = {name: value.name for value, name in zip(graph.input, traced, strict=True)}
    rowwise = [name for name, axes in traced.items() if axes[:2] == ("batch", "time")]
    text = _WAY_IN.format(
        window=window,
        more="".join(
            f", float[batch, time, {traced[name][-1]}] {name}"
            for name in rowwise
            if name not in ("history", "date")
        ),
        slices="\n    ".join(f"{n}_window = Slice({n}, begin, end, axis)" for n in rowwise),
    )
    front = onnx.parser.parse_graph(text)
    names = {"scale": inner["scale"], "floor": inner["floor"], "": ""}
    names |= {f"{name}_window": inner[name] for name in rowwise}
    for value in (*front.input, *front.initializer):
        value.name = f"given {value.name}"
    for node in front.node:
        node.input[:] = [names.get(name, f"given {name}") for name in node.input]
        node.output[:] = [names.get(name, f"given {name}") for name in node.output]
    given = {value.name: value for value in graph.input}
    for value in front.input:
        name = value.name.removeprefix("given ")
        value.type.CopyFrom(given[inner[name]].type)
        given[inner[name]] = value
    inputs = [given[inner[name]] for name in traced if name not in ("scale", "floor")]
    nodes = list(graph.node)
    del graph.input[:], graph.node[:]
    graph.input.extend(inputs)
    graph.node.extend([*front.node, *nodes])
    graph.initializer.extend(front.initializer)


def _on_demand(graph: onnx.GraphProto) -> None:
    """Forecasts, contributions and curves cost nothing where nobody asks for them."""
    switch = onnx.helper.make_tensor_value_info(SWITCH, onnx.TensorProto.BOOL, [])
    graph.input.append(switch)
    nothing = onnx.numpy_helper.from_array(np.array(0, np.int64), "nothing")
    graph.initializer.append(nothing)
    for name in ("future_date", "amounts"):
        size = onnx.helper.make_node("Size", [name], [f"{name}_size"])
        asked = onnx.helper.make_node("Greater", [size.output[0], "nothing"], [f"{name}_asked"])
        for node in (asked, size):
            graph.node.insert(0, node)
    make_optional(graph, "future_date_asked", FORECASTS)
    make_optional(graph, "amounts_asked", CURVES)
    make_optional(graph, SWITCH, ["contribution"])


@contextmanager
def _plain_edges() -> Iterator[None]:
    """While tracing, the edge operators are their plain form, which ONNX can spell."""

    def mean(*tensors: Any) -> Tensor:
        edges = reference.edge_states(*tensors)
        own = edges.diagonal(dim1=1, dim2=2).mT
        return (edges.sum(1) - own) / (edges.shape[1] - 1)

    registered: Any = ops
    kept = registered.edge_mean, registered.edge_sample
    registered.edge_mean, registered.edge_sample = mean, reference.edge_sample
    try:
        yield
    finally:
        registered.edge_mean, registered.edge_sample = kept


@contextmanager
def _quietly() -> Iterator[None]:
    """The exporter warns of optional packages and of its own future; none of it concerns a user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
