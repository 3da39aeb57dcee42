"""From a fitted model to an ONNX model: examples of its inputs, tracing, clean-up."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import torch
from onnx import helper
from torch import Tensor, nn

from causalmmm.engine.export import functions, operators, shapes
from causalmmm.engine.export import regression as regressions
from causalmmm.engine.export.branches import make_optional, then
from causalmmm.engine.export.clean import clean
from causalmmm.engine.export.graph import (
    CURVES,
    FORECASTS,
    GRAPHS,
    INPUTS,
    MIN_HORIZON,
    OUTPUTS,
    ExportedModel,
)
from causalmmm.engine.export.nodes import ELEMENT, Value
from causalmmm.engine.export.prior import INPUTS as PRIOR_INPUTS
from causalmmm.engine.export.prior import OUTPUTS as PRIOR_OUTPUTS
from causalmmm.engine.export.prior import ExportedPrior
from causalmmm.engine.export.trace import Trace
from causalmmm.engine.nn.model import CausalModel
from causalmmm.engine.nn.pretrained import PretrainedGraphs
from causalmmm.engine.ops.export_switch import while_exporting
from causalmmm.engine.regression import Regression
from causalmmm.engine.spec.calendar import CalendarSpec

OPSETS = (18, 20, 21)
SWITCH = "with_contributions"  # bool scalar
GRAPH_SWITCH = "with_graphs"  # bool scalars, of regressions
SUMS_SWITCH = "with_sums"
RETURNS_SWITCH = "with_returns"
FORECAST, CURVE = "future_date_requested", "amounts_requested"  # bool scalars inside the graph
_REQUESTS = 4  # nodes that compute them
_EXAMPLE_STEPS = 25
_WHOLE = ("date", "future_date", "store")
_IR_VERSION = {18: 8, 20: 9, 21: 10}  # the first that has the opset, for the sake of old runtimes


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
    _check(opset)
    module = ExportedModel(model, calendar, window=window, draws=draws, seed=seed, horizon=horizon)
    first, other = _examples(
        {
            "series": len(model.baseline.shared),
            "control": len(calendar.control_mean),
            "feature": model.decoder.context_slope.shape[1],
        },
        INPUTS,
        min(model.config.memory + 30, window),  # longer ones would be cut to one length
    )
    graph = trace(module.eval(), first, other, INPUTS, OUTPUTS)
    _make_outputs_optional(graph)
    return _model(graph, opset)


def build_regression(
    model: Regression,
    calendar: CalendarSpec,
    *,
    window: int,
    seed: int,
    step: float,
    opset: int = OPSETS[0],
) -> onnx.ModelProto:
    """The ONNX model of a fitted regression, without metadata; see ``regression``."""
    _check(opset)
    inputs = {name: axes for name, axes in INPUTS.items() if name != "context"}
    inputs |= regressions.INPUTS
    outputs = OUTPUTS | regressions.SUMS | regressions.RETURNS
    module = regressions.ExportedRegression(model, calendar, window=window, seed=seed, step=step)
    sizes = {"series": model.layout.nodes, "control": len(calendar.control_mean)}
    first, other = _examples(sizes, inputs, min(_EXAMPLE_STEPS, window))
    graph = trace(module, first, other, inputs, outputs)
    _add_requests(graph, (GRAPH_SWITCH, SWITCH, SUMS_SWITCH, RETURNS_SWITCH))
    make_optional(graph, GRAPH_SWITCH, GRAPHS)
    make_optional(graph, SWITCH, ["contribution"])
    # With returns ``future_date`` are the steps whose change counts, and nothing is forecast.
    for k, node in enumerate(
        (
            helper.make_node("Not", [RETURNS_SWITCH], ["without_returns"]),
            helper.make_node("And", [FORECAST, "without_returns"], ["forecast_requested"]),
            helper.make_node("Or", [SUMS_SWITCH, RETURNS_SWITCH], ["money_requested"]),
            helper.make_node("Or", [FORECAST, CURVE], ["others_requested"]),
            helper.make_node("Or", ["money_requested", "others_requested"], ["draws_requested"]),
        )
    ):
        graph.node.insert(_REQUESTS + k, node)
    by_draws = {
        "forecast_requested": FORECASTS,
        CURVE: CURVES,
        SUMS_SWITCH: tuple(regressions.SUMS),
        RETURNS_SWITCH: tuple(regressions.RETURNS),
    }
    # What only some of them share, the joint draws above all, is computed for none of the others.
    drawn = make_optional(graph, "draws_requested", [n for part in by_draws.values() for n in part])
    for request, names in by_draws.items():
        make_optional(drawn, request, [then(name) for name in names])
    return _model(graph, opset)


def build_prior(
    graphs: PretrainedGraphs,
    calendar: CalendarSpec,
    given: Tensor,
    *,
    window: int,
    opset: int = OPSETS[0],
) -> onnx.ModelProto:
    """The ONNX model of the pretrained prior for one kind of panel, without metadata; see
    ``prior``. ``given`` [N, N] are probabilities of edges before any data."""
    _check(opset)
    module = ExportedPrior(graphs, calendar, given, window=window)
    sizes = {"series": len(given), "control": len(calendar.control_mean)}
    first, other = _examples(sizes, PRIOR_INPUTS, _EXAMPLE_STEPS)
    return _model(trace(module.eval(), first, other, PRIOR_INPUTS, PRIOR_OUTPUTS), opset)


def _check(opset: int) -> None:
    if opset not in OPSETS:
        raise ValueError(f"opset must be one of {OPSETS}, got {opset}")


def _model(graph: onnx.GraphProto, opset: int) -> onnx.ModelProto:
    clean(graph)
    return helper.make_model(
        graph,
        ir_version=_IR_VERSION[opset],
        producer_name="causalmmm",
        opset_imports=[helper.make_opsetid("", opset)],
    )


def trace(
    module: nn.Module,
    first: dict[str, Tensor],
    other: dict[str, Tensor],
    inputs: dict[str, tuple[str, ...]],
    outputs: dict[str, tuple[str, ...]],
) -> onnx.GraphProto:
    """Graph of a module that maps named tensors to named tensors.

    ``first`` and ``other`` are inputs that differ in the sizes of dynamic axes, and in no others.
    ``inputs`` and ``outputs`` name the axes of every tensor.
    """
    tracing = Trace(
        {**functions.translations(), **shapes.translations(), **operators.translations()},
        operators.replaced(),
        operators.examples(),
    )
    entered = {name: tracing.enter(first[name], other[name], Value(name)) for name in first}
    with torch.no_grad(), while_exporting(), tracing:
        results = module(entered)
    declared = [_declared(name, first[name], other[name], inputs[name]) for name in first]
    nodes = list(tracing.op.nodes)
    given = []
    for name, tensor in results.items():
        nodes.append(helper.make_node("Identity", [tracing.value(tensor).name], [name]))
        given.append(_declared(name, *tracing.pair(tensor), outputs[name]))
    constants = list(tracing.op.constants.values())
    return helper.make_graph(nodes, "causalmmm", declared, given, constants)


def _declared(
    name: str, first: Tensor, other: Tensor, axes: tuple[str, ...]
) -> onnx.ValueInfoProto:
    """An input or output, whose dynamic axes go by their names."""
    sizes = zip(first.shape, other.shape, axes, strict=True)
    shape = [a if a == b else axis for a, b, axis in sizes]
    return helper.make_tensor_value_info(name, ELEMENT[first.dtype], shape)


def _examples(
    fixed: dict[str, int], inputs: dict[str, tuple[str, ...]], steps: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Inputs in two sizes of every dynamic axis; no two axes share both."""
    first = {"batch": 2, "time": steps, "horizon": 5, "level": 2, "point": 4}
    other = {"batch": 3, "time": steps - 1, "horizon": MIN_HORIZON, "level": 5, "point": 7}
    return _example(first | fixed, inputs), _example(other | fixed, inputs)


def _example(sizes: dict[str, int], inputs: dict[str, tuple[str, ...]]) -> dict[str, Tensor]:
    """Ones for every input that has columns: only their shapes matter."""
    given = {}
    for name, axes in inputs.items():
        shape = [sizes[axis] for axis in axes]
        if 0 not in shape:
            dtype = torch.int64 if name in _WHOLE else torch.float32
            given[name] = torch.ones(shape, dtype=dtype)
    return given


def _make_outputs_optional(graph: onnx.GraphProto) -> None:
    """Compute forecasts, contributions and curves only on request."""
    _add_requests(graph, (SWITCH,))
    make_optional(graph, FORECAST, FORECASTS)
    make_optional(graph, CURVE, CURVES)
    make_optional(graph, SWITCH, ["contribution"])


def _add_requests(graph: onnx.GraphProto, switches: Sequence[str]) -> None:
    """The bool scalars by which outputs are asked for: inputs ``switches``, and the first nodes,
    ``FORECAST`` and ``CURVE``, which say whether there are steps and amounts to answer for."""
    for switch in switches:
        graph.input.append(helper.make_tensor_value_info(switch, onnx.TensorProto.BOOL, []))
    zero = helper.make_tensor("zero_size", onnx.TensorProto.INT64, [], [0])
    graph.initializer.append(zero)
    for name, request in (("future_date", FORECAST), ("amounts", CURVE)):
        size = f"{name}_size"
        graph.node.insert(0, helper.make_node("Greater", [size, "zero_size"], [request]))
        graph.node.insert(0, helper.make_node("Size", [name], [size]))
