"""A traced module is the module at every size of its dynamic axes, or tracing says why not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from causalmmm.engine.ops.linalg import whitening
from causalmmm.engine.ops.scan import roll

onnx = pytest.importorskip("onnx", reason="needs the optional extra onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the optional extra runtime")

from causalmmm.engine.export.build import trace  # noqa: E402

AXES = {"x": ("batch", "series", "time")}
SERIES = 3


class Function(nn.Module):
    """A function of x [B, 3, T] as a module with one input and one output."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"y": self.function(inputs["x"])}


def traced(function: Callable[[Tensor], Tensor]) -> onnx.GraphProto:
    first, other = torch.ones(2, SERIES, 7), torch.ones(5, SERIES, 9)
    with torch.no_grad():
        axes = tuple(f"axis{k}" for k in range(function(first).dim()))
    return trace(Function(function), {"x": first}, {"x": other}, AXES, {"y": axes})


def computed(graph: onnx.GraphProto, x: Tensor) -> np.ndarray:
    opset = onnx.helper.make_opsetid("", 18)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (y,) = session.run(None, {"x": x.numpy()})
    return np.asarray(y)


def persistent(x: Tensor) -> Tensor:
    """Each step keeps half of the last, and takes a share of the mean that no step knows."""
    mean = x.mean(-1)

    def step(state: tuple[Tensor, ...], now: tuple[Tensor, ...]) -> tuple:
        after = 0.5 * state[0] + now[0] + mean
        return (after,), (after, now[0])

    path, rows = roll(step, (mean,), (x.permute(2, 0, 1),))
    return path + rows


def overwritten(x: Tensor) -> Tensor:
    x[:, 0] = x[:, 1]
    return x


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "slices of computed length": lambda x: x[..., 1 : x.shape[-1] - 2],
    "slices of every other row": lambda x: x[:, ::2, 1::3],
    "negative indices and new axes": lambda x: x[:, -1, None, 1:],
    "an index by a tensor": lambda x: x[:, torch.tensor([2, 0])],
    "two dynamic axes flattened": lambda x: x.transpose(0, 1).flatten(1),
    "dynamic axes taken apart again": lambda x: x.mT.flatten(0, 1).unflatten(0, (-1, x.shape[2])),
    "expansion to another's shape": lambda x: x[:, :1].expand(x.shape[0], 4, -1),
    "counting steps": lambda x: x - torch.arange(x.shape[-1]) / 3,
    "integers and truth values": lambda x: (x > 0).sum(-1) + (x[..., 0] < 0) * 2,
    "reductions over several axes": lambda x: x.sum((1, 2)) + x.amax(2).mean(1),
    "operands in reverse": lambda x: (2 - x) * (1 / (3 + x.square())) + 2**x,
    "a diagonal of axes apart": lambda x: (x.unsqueeze(-1) + torch.eye(SERIES)[:, None]).diagonal(
        dim1=1, dim2=3
    ),
    "a recurrence that reads what is outside": persistent,
    "a factorisation": lambda x: whitening(x @ x.mT + 9 * torch.eye(SERIES)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("sizes", [(1, 5), (2, 7), (4, 30)], ids=str)
def test_a_traced_function_is_the_function_at_any_size(name: str, sizes: tuple[int, int]) -> None:
    batch, steps = sizes
    rng = np.random.default_rng(steps)
    x = torch.from_numpy(rng.standard_normal((batch, SERIES, steps)).astype(np.float32))
    expected = FUNCTIONS[name](x)
    y = computed(traced(FUNCTIONS[name]), x)
    assert y.shape == tuple(expected.shape)
    np.testing.assert_allclose(y, expected.numpy(), rtol=1e-5, atol=1e-6)


def test_equal_computations_are_done_once_and_unneeded_ones_are_constants() -> None:
    weight = torch.full((4, SERIES), 0.5)
    graph = traced(lambda x: weight.exp().log() @ x + weight.exp().log() @ x)
    assert [node.op_type for node in graph.node] == ["MatMul", "Add", "Identity"]


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("large", [0, 30, 60])
def test_large_examples_of_which_only_shapes_are_worked_out_give_the_same_graph(
    name: str, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed_examples = traced(FUNCTIONS[name])
    monkeypatch.setattr("causalmmm.engine.export.trace._LARGE", large)
    assert traced(FUNCTIONS[name]) == computed_examples


def test_constants_made_on_the_device_of_a_large_example_keep_their_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("causalmmm.engine.export.trace._LARGE", 0)
    graph = traced(lambda x: (2 * x) + torch.tensor([[1.0], [2.0], [4.0]], device=x.device))
    y = computed(graph, torch.zeros(1, SERIES, 2))
    np.testing.assert_array_equal(y[0, :, 0], [1, 2, 4])


def test_numbers_that_a_dynamic_axis_decides_are_refused() -> None:
    with pytest.raises(TypeError, match="depends on a dynamic axis"):
        traced(lambda x: x if x.shape[-1] > 8 else -x)
    with pytest.raises(TypeError, match="cannot enter the graph as a number"):
        traced(lambda x: x / (x.shape[-1] / 2))
    with pytest.raises(TypeError, match=r"len\(\) of a dynamic axis"):
        traced(lambda x: x / len(x))


def test_functions_without_a_translation_are_named() -> None:
    with pytest.raises(NotImplementedError, match="'cosh'"):
        traced(torch.cosh)
    with pytest.raises(NotImplementedError, match="'__setitem__'"):
        traced(overwritten)
