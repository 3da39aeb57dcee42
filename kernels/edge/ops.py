"""The edge operators registered with torch: choice of implementation, shapes, and gradients.

No arithmetic here. Opaque to torch.compile (custom_op, not triton_op, whose bodies are traced even
on a CPU). Arguments of torch's operators are flat: here, and nowhere else, records are unpacked and
packed again.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import Any

import torch
from torch import Tensor

from causalmmm.kernels.edge import chunked, cpp
from causalmmm.kernels.edge.records import Draw, FirstPass, SecondPass, schema

_FIRST, _ALL = schema(FirstPass), schema(FirstPass, SecondPass, Draw)
_GRAD_OUT = "Tensor grad_z, Tensor grad_logits, Tensor grad_kl, Tensor z, Tensor logits"
_SECOND, _DRAW = (
    len(FirstPass._fields),
    len(FirstPass._fields) + len(SecondPass._fields),
)  # positions at which they start
_FEATURES = FirstPass._fields.index("features")


def edge_mean(first: FirstPass) -> Tensor:
    return _edge_mean(*first)


def edge_sample(first: FirstPass, second: SecondPass, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
    return _edge_sample(*first, *second, *draw)


def path_for(first: FirstPass, types: int = 2) -> Any:
    """The module that computes these sizes on this device; imports Triton only where it is used."""
    on_gpu = first.sender1.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"
    if on_gpu and importlib.util.find_spec("triton") is not None:
        launch = importlib.import_module("causalmmm.kernels.edge.triton.launch")
        if launch.supported(first, types):
            return launch
    return cpp if cpp.supported(first, types) else chunked


def _op(name: str, schema: str) -> Any:
    return torch.library.custom_op(f"causalmmm::{name}", mutates_args=(), schema=schema)


@_op("edge_mean", f"({_FIRST}) -> Tensor")
def _edge_mean(*flat: Any) -> Tensor:
    first = FirstPass(*flat)
    return path_for(first).edge_mean(first)


@_op("edge_mean_backward", f"(Tensor grad, {_FIRST}, bool features_grad) -> Tensor[]")
def _edge_mean_backward(grad: Tensor, *flat: Any) -> list[Tensor]:
    *arguments, features_grad = flat
    first = FirstPass(*arguments)
    return path_for(first).edge_mean_backward(grad, first, features_grad)


@_op("edge_sample", f"({_ALL}) -> (Tensor, Tensor, Tensor)")
def _edge_sample(*flat: Any) -> tuple[Tensor, Tensor, Tensor]:
    first, second, draw = _packed(flat)
    return path_for(first, len(second.bo)).edge_sample(first, second, draw)


@_op(
    "edge_sample_backward",
    f"({_GRAD_OUT}, {_ALL}, bool features_grad, bool prior_grad) -> Tensor[]",
)
def _edge_sample_backward(*flat: Any) -> list[Tensor]:
    grads, outputs, arguments, needed = flat[:3], flat[3:5], flat[5:-2], flat[-2:]
    first, second, draw = _packed(arguments)
    path = path_for(first, len(second.bo))
    return path.edge_sample_backward(grads, outputs, first, second, draw, *needed)


def _packed(flat: tuple[Any, ...]) -> tuple[FirstPass, SecondPass, Draw]:
    return FirstPass(*flat[:_SECOND]), SecondPass(*flat[_SECOND:_DRAW]), Draw(*flat[_DRAW:])


@_edge_mean.register_fake
def _(*flat: Any) -> Tensor:
    return torch.empty_like(flat[0])


@_edge_mean_backward.register_fake
def _(grad: Tensor, *flat: Any) -> list[Tensor]:
    *arguments, features_grad = flat
    return _like(arguments, {_FEATURES: features_grad})


@_edge_sample.register_fake
def _(*flat: Any) -> tuple[Tensor, Tensor, Tensor]:
    first, second, draw = _packed(flat)
    batch, nodes, _ = first.sender1.shape
    z = draw.log_prior.new_empty(batch, nodes, nodes, second.bo.shape[0])
    return z, torch.empty_like(z), draw.log_prior.new_empty(batch)


@_edge_sample_backward.register_fake
def _(*flat: Any) -> list[Tensor]:
    features_grad, prior_grad = flat[-2:]
    return _like(flat[5 : 5 + _DRAW + 1], {_FEATURES: features_grad, _DRAW: prior_grad})


def _like(tensors: Any, needed: dict[int, bool]) -> list[Tensor]:
    """Uninitialised gradients, one per tensor; of no elements where it is absent or not needed."""
    first = tensors[0]
    return [
        first.new_empty(0, dtype=first.dtype if tensor is None else tensor.dtype)
        if tensor is None or not needed.get(index, True)
        else torch.empty_like(tensor)
        for index, tensor in enumerate(tensors)
    ]


def _save_mean(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _edge_mean_gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    gradients = _edge_mean_backward(grad, *ctx.saved_tensors, ctx.needs_input_grad[_FEATURES])
    return _for_inputs(ctx, gradients)


def _save_sample(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.hard = inputs
    ctx.save_for_backward(*output[:2], *tensors)


def _edge_sample_gradients(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    needed = ctx.needs_input_grad[_FEATURES], ctx.needs_input_grad[_DRAW]
    return _for_inputs(ctx, _edge_sample_backward(*grads, *ctx.saved_tensors, ctx.hard, *needed))


def _for_inputs(ctx: Any, gradients: list[Tensor]) -> tuple[Tensor | None, ...]:
    """One gradient per input of the operator, None where none is needed."""
    needs = ctx.needs_input_grad
    padded = [*gradients, *([None] * (len(needs) - len(gradients)))]
    return tuple(g if need else None for g, need in zip(padded, needs, strict=True))


_edge_mean.register_autograd(_edge_mean_gradients, setup_context=_save_mean)
_edge_sample.register_autograd(_edge_sample_gradients, setup_context=_save_sample)
