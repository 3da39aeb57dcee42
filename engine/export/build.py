"""From a fitted model to an ONNX model: tracing, preprocessing of raw histories, clean-up."""

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

# Preprocessing of whole histories in user units into the inputs of the traced model: the last rows,
# the mean magnitude of every series, and which series have never been negative.
_PREPROCESSING = """
preprocessing (float[batch, time, series] history{more}, int64[batch, time] date)
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

    window   number of last rows of a history that are read; the scale is that of all rows.
    draws    futures per forecast; with ``seed`` they are those of ``simulate_futures``.
    horizon  maximum number of steps ahead.
    """
    if opset not in OPSETS:
        raise ValueError(f"opset must be one of {OPSETS}, got {opset}")
    module = ExportedModel(model, calendar, draws=draws, seed=seed, horizon=horizon).eval()
    sample = _sample(model, len(calendar.control_mean), horizon)
    proto = _trace(module, sample, model.config.memory, horizon, opset)
    traced = {name: INPUTS[name] for name in sample}
    _prepend_preprocessing(proto, traced, window)
    inputs = {name: axes for name, axes in traced.items() if name not in ("scale", "floor")}
    clean(proto.graph, inputs, OUTPUTS)
    _make_outputs_optional(proto.graph)
    result = onnx.ModelProto(ir_version=proto.ir_version, producer_name="causalmmm")
    result.opset_import.extend(sorted(proto.opset_import, key=lambda used: used.domain))
    result.graph.CopyFrom(proto.graph)
    return result


def _sample(model: CausalModel, controls: int, horizon: int) -> dict[str, Tensor]:
    """Example inputs for tracing; every dynamic axis has a distinct size above 1."""
    nodes = len(model.baseline.shared)
    features = model.decoder.context_slope.shape[1]
    sizes = {"batch": 3, "time": model.config.memory + 30, "horizon": min(5, horizon)}
    sizes |= {"level": 2, "point": 4, "series": nodes, "control": controls, "feature": features}
    sample = {}
    for name, axes in INPUTS.items():
        shape = [sizes[axis] for axis in axes]
        if 0 in shape:
            continue
        dtype = torch.int64 if name.endswith("date") else torch.float32
        sample[name] = torch.ones(shape, dtype=dtype)
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
    with torch.no_grad(), _without_warnings(), _reference_edges():
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


def _prepend_preprocessing(proto: onnx.ModelProto, traced: dict[str, Any], window: int) -> None:
    """Put the preprocessing before the traced graph, whose inputs it computes in part."""
    graph = proto.graph
    inner = {name: value.name for value, name in zip(graph.input, traced, strict=True)}
    rowwise = [name for name, axes in traced.items() if axes[:2] == ("batch", "time")]
    text = _PREPROCESSING.format(
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
        value.name = f"raw {value.name}"
    for node in front.node:
        node.input[:] = [names.get(name, f"raw {name}") for name in node.input]
        node.output[:] = [names.get(name, f"raw {name}") for name in node.output]
    by_name = {value.name: value for value in graph.input}
    for value in front.input:
        name = value.name.removeprefix("raw ")
        value.type.CopyFrom(by_name[inner[name]].type)
        by_name[inner[name]] = value
    inputs = [by_name[inner[name]] for name in traced if name not in ("scale", "floor")]
    nodes = list(graph.node)
    del graph.input[:], graph.node[:]
    graph.input.extend(inputs)
    graph.node.extend([*front.node, *nodes])
    graph.initializer.extend(front.initializer)


def _make_outputs_optional(graph: onnx.GraphProto) -> None:
    """Compute forecasts, contributions and curves only on request."""
    switch = onnx.helper.make_tensor_value_info(SWITCH, onnx.TensorProto.BOOL, [])
    graph.input.append(switch)
    zero = onnx.numpy_helper.from_array(np.array(0, np.int64), "zero_size")
    graph.initializer.append(zero)
    for name in ("future_date", "amounts"):
        size = onnx.helper.make_node("Size", [name], [f"{name}_size"])
        requested = onnx.helper.make_node(
            "Greater", [size.output[0], "zero_size"], [f"{name}_requested"]
        )
        for node in (requested, size):
            graph.node.insert(0, node)
    make_optional(graph, "future_date_requested", FORECASTS)
    make_optional(graph, "amounts_requested", CURVES)
    make_optional(graph, SWITCH, ["contribution"])


@contextmanager
def _reference_edges() -> Iterator[None]:
    """While tracing, replace the edge operators by their reference form, which exports to ONNX."""

    def mean(*tensors: Any) -> Tensor:
        edges = reference.edge_states(*tensors)
        self_loops = edges.diagonal(dim1=1, dim2=2).mT  # [B, N, H]
        return (edges.sum(1) - self_loops) / (edges.shape[1] - 1)

    registered: Any = ops
    originals = registered.edge_mean, registered.edge_sample
    registered.edge_mean, registered.edge_sample = mean, reference.edge_sample
    try:
        yield
    finally:
        registered.edge_mean, registered.edge_sample = originals


@contextmanager
def _without_warnings() -> Iterator[None]:
    """The exporter warns of optional packages and deprecations that do not concern a user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
