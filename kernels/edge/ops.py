"""The edge operators registered with torch: implementation per device, shapes, and gradients.

Opaque to torch.compile (custom_op, not triton_op, whose bodies are traced even on a CPU). Arguments
of torch's operators are flat: here, and nowhere else, records are unpacked and packed again.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import Any

import torch
from torch import Tensor

from causalmmm.kernels.edge import chunked
from causalmmm.kernels.edge import cpp as compiled
from causalmmm.kernels.edge.records import Draw, First, Second, schema

_FIRST, _ALL = schema(First), schema(First, Second, Draw)
_ABOVE = "Tensor grad_z, Tensor grad_logits, Tensor grad_kl, Tensor z, Tensor logits"
_SECOND, _DRAW = len(First._fields), len(First._fields) + len(Second._fields)  # where they start
_FEATURES = First._fields.index("features")


def edge_mean(first: First) -> Tensor:
    return _edge_mean(*first)


def edge_sample(first: First, second: Second, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
    return _edge_sample(*first, *second, *draw)


def path_for(first: First, types: int = 2) -> Any:
    """The module that computes these sizes on this device; imports Triton only where it is used."""
    on_gpu = first.sender1.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"
    if on_gpu and importlib.util.find_spec("triton") is not None:
        fused = importlib.import_module("causalmmm.kernels.edge.triton.launch")
        if fused.supported(first, types):
            return fused
    return compiled if compiled.supported(first, types) else chunked


def _op(name: str, schema: str) -> Any:
    return torch.library.custom_op(f"causalmmm::{name}", mutates_args=(), schema=schema)


@_op("edge_mean", f"({_FIRST}) -> Tensor")
def _edge_mean(*flat: Any) -> Tensor:
    first = First(*flat)
    return path_for(first).edge_mean(first)


@_op("edge_mean_backward", f"(Tensor grad, {_FIRST}, bool features_grad) -> Tensor[]")
def _edge_mean_backward(grad: Tensor, *flat: Any) -> list[Tensor]:
    *operands, features_grad = flat
    first = First(*operands)
    return path_for(first).edge_mean_backward(grad, first, features_grad)


@_op("edge_sample", f"({_ALL}) -> (Tensor, Tensor, Tensor)")
def _edge_sample(*flat: Any) -> tuple[Tensor, Tensor, Tensor]:
    first, second, draw = _packed(flat)
    return path_for(first, len(second.bo)).edge_sample(first, second, draw)


@_op(
    "edge_sample_backward",
    f"({_ABOVE}, {_ALL}, bool features_grad, bool prior_grad) -> Tensor[]",
)
def _edge_sample_backward(*flat: Any) -> list[Tensor]:
    grads, outputs, operands, wishes = flat[:3], flat[3:5], flat[5:-2], flat[-2:]
    first, second, draw = _packed(operands)
    path = path_for(first, len(second.bo))
    return path.edge_sample_backward(grads, outputs, first, second, draw, *wishes)


def _packed(flat: tuple[Any, ...]) -> tuple[First, Second, Draw]:
    return First(*flat[:_SECOND]), Second(*flat[_SECOND:_DRAW]), Draw(*flat[_DRAW:])


@_edge_mean.register_fake
def _(*flat: Any) -> Tensor:
    return torch.empty_like(flat[0])


@_edge_mean_backward.register_fake
def _(grad: Tensor, *flat: Any) -> list[Tensor]:
    *operands, features_grad = flat
    return _like(operands, {_FEATURES: features_grad})


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


def _like(tensors: Any, wanted: dict[int, bool]) -> list[Tensor]:
    """Empty gradients: one per tensor, without entries where there is no tensor or no wish."""
    first = tensors[0]
    return [
        first.new_empty(0, dtype=first.dtype if tensor is None else tensor.dtype)
        if tensor is None or not wanted.get(index, True)
        else torch.empty_like(tensor)
        for index, tensor in enumerate(tensors)
    ]


def _save_mean(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _edge_mean_gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    gradients = _edge_mean_backward(grad, *ctx.saved_tensors, ctx.needs_input_grad[_FEATURES])
    return _wanted(ctx, gradients)


def _save_sample(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.hard = inputs
    ctx.save_for_backward(*output[:2], *tensors)


def _edge_sample_gradients(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    wishes = ctx.needs_input_grad[_FEATURES], ctx.needs_input_grad[_DRAW]
    return _wanted(ctx, _edge_sample_backward(*grads, *ctx.saved_tensors, ctx.hard, *wishes))


def _wanted(ctx: Any, gradients: list[Tensor]) -> tuple[Tensor | None, ...]:
    needs = ctx.needs_input_grad
    padded = [*gradients, *([None] * (len(needs) - len(gradients)))]
    return tuple(g if need else None for g, need in zip(padded, needs, strict=True))


_edge_mean.register_autograd(_edge_mean_gradients, setup_context=_save_mean)
_edge_sample.register_autograd(_edge_sample_gradients, setup_context=_save_sample)
